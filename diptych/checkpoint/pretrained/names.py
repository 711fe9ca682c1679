"""Looks up the short names of pretrained models; `models.toml` beside this file is the table."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

_TABLE = Path(__file__).parent / "models.toml"


class PretrainedModel(NamedTuple):
    """A model on the hub: its id, the preset with its towers, and its license; megabytes to fetch, dimensions of a
    vector and pixels of a picture's side; its published zero-shot top-1 accuracy on ImageNet in percent, None if
    unknown, and where that is published."""

    hub_id: str
    architecture: str
    license: str
    download_mb: int
    dimensions: int
    image_size_px: int
    imagenet_top1: float | None
    source: str


def pretrained_models() -> dict[str, PretrainedModel]:
    """The pretrained models by their short names, such as "clip-vit-b-32", by family and size."""
    import tomllib  # here, because the bundled model needs no table

    table = tomllib.loads(_TABLE.read_text(encoding="utf-8"))
    return {
        name: PretrainedModel._make((*facts, top1 or None, table["sources"][source]))
        for name, (*facts, top1, source) in table["models"].items()
    }


def pretrained_model(name: str) -> PretrainedModel | None:
    """The model of a short name, in any case of letters; None if there is none."""
    if "-" not in name or "/" in name:  # most other names are told apart without reading the table
        return None
    return pretrained_models().get(name.lower())


def model_of_id(hub_id: str) -> PretrainedModel | None:
    """The model of a hub id; None if the table lacks it."""
    return next((model for model in pretrained_models().values() if model.hub_id == hub_id), None)


def trained_names(architecture: str) -> list[str]:
    """The short names of the models of an architecture."""
    return [name for name, model in pretrained_models().items() if model.architecture == architecture]


def similar_names(name: str) -> list[str]:
    """The short names that resemble `name`, the nearest first."""
    import difflib

    return difflib.get_close_matches(name.lower(), pretrained_models(), n=2, cutoff=0.75)
