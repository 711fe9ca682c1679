"""Folders of models converted for OpenVINO: config.json, tokenizer.json and preprocessor_config.json as in any model
folder, and in openvino/ the towers (image.xml and text.xml, each with a .bin) and facts.json, which has the logit scale
and bias. They run without PyTorch, and cannot be trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diptych.checkpoint.fingerprint import fingerprint, legacy_config
from diptych.checkpoint.replacement import json_text
from diptych.checkpoint.settings import FolderSettings, read_settings, to_fields
from diptych.checkpoint.state import Checkpoint, listing
from diptych.checkpoint.weights.files import read_json
from diptych.errors import CheckpointError
from diptych.media.pixels.arrays import as_array
from diptych.media.preprocessing import Preprocess
from diptych.nets.config import CLIPConfig
from diptych.scoring.reference_pictures import REFERENCE_FILE

PATCHES_OUTPUT = "places"  # the name of the patches' output in image.xml
PARTS = ("image.xml", "image.bin", "text.xml", "text.bin", "facts.json")


def is_converted(folder: Path) -> bool:
    """Whether the folder has a converted model and no weights in another form."""
    weights = (path for path in folder.glob("*.safetensors*") if path.name != REFERENCE_FILE)
    return (folder / "openvino" / "facts.json").is_file() and not any(weights)


def read_converted(folder: Path) -> Checkpoint:
    """Everything but the towers. Raises CheckpointError if a part is missing."""
    if missing := [name for name in PARTS if not (folder / "openvino" / name).is_file()]:
        raise CheckpointError(f"{folder}/openvino lacks {', '.join(missing)}; convert the model again.")
    settings = read_settings(folder, str(folder))
    facts = read_json(folder / "openvino" / "facts.json")
    _check_same(settings, facts, folder)
    return Checkpoint(
        settings.config,
        ConvertedWeights(facts),
        settings.preprocess,
        settings.tokenizer_json,
        str(folder),
        settings.text_preprocessing,
        search_files=settings.search_files,
    )


def conversion_facts(config: CLIPConfig, spec: Preprocess) -> dict[str, Any]:
    """The configuration and preprocessing that the towers contain, in the form of the files beside them; for
    facts.json."""
    return {"config": to_fields(config), "preprocess": spec.to_hugging_face()}


def _check_same(settings: FolderSettings, facts: dict[str, Any], folder: Path) -> None:
    """Raise CheckpointError if the files beside the towers have changed, since the towers have not."""
    if "config" not in facts:  # converted by an earlier version
        return
    now: dict[str, Any] = json.loads(json_text(to_fields(settings.config)))
    changed = [f"config.json: {key}" for key, value in now.items() if facts["config"].get(key) != value]
    now, then = settings.preprocess or {}, facts.get("preprocess") or {}
    changed += [f"preprocessor_config.json: {key}" for key in {**now, **then} if now.get(key) != then.get(key)]
    if changed:
        raise CheckpointError(
            f"{folder} was converted with another {listing(changed, ', ')}; changes there do not affect its towers. "
            "Change the original model, and convert it again."
        )


class ConvertedWeights(Mapping[str, np.ndarray]):
    """The weights outside of the towers: the logit scale and bias, with all of facts.json."""

    def __init__(self, facts: dict[str, Any]):
        self.facts = facts
        self._numbers = {
            name: np.float32(facts[name]) for name in ("logit_scale", "logit_bias") if facts.get(name) is not None
        }

    def __getitem__(self, name: str) -> np.ndarray:
        return self._numbers[name]  # type: ignore[return-value]

    def __iter__(self):
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


def fingerprint_of(checkpoint: Checkpoint, state: Mapping[str, Any], spec: Preprocess) -> str:
    """The fingerprint of a model with the weights `state`; of a converted one, that of its original."""
    if isinstance(state, ConvertedWeights):
        return str(state.facts["fingerprint"])
    first_row = getattr(state, "first_row", lambda name: as_array(state[name][:1]))
    config = legacy_config(checkpoint.config, checkpoint.text_preprocessing)
    return fingerprint(config, spec, checkpoint.tokenizer_json, first_row)
