"""Diptych: CLIP, whole. Train an image tower and a text tower until they speak one vector language, and use it."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from diptych.checkpoint import CheckpointError as CheckpointError
    from diptych.checkpoint import HubError as HubError
    from diptych.data.samples import DataError as DataError
    from diptych.embedder import Embedder as Embedder
    from diptych.embedder import load as load
    from diptych.exporting import convert as convert
    from diptych.failures import Failure as Failure
    from diptych.failures import TextError as TextError
    from diptych.images import ImageError as ImageError
    from diptych.index.local import open_index as open_index
    from diptych.index.query import Query as Query
    from diptych.tokenizer import TokenizerError as TokenizerError
    from diptych.training.recipe import TrainConfig as TrainConfig
    from diptych.training.recipes import recipe as recipe
    from diptych.training.trainer import train as train

# Where each public name lives. Nothing is imported until it is asked for: `import diptych` costs no torch.
_HOMES = {
    "load": "diptych.embedder",
    "Embedder": "diptych.embedder",
    "Failure": "diptych.failures",
    "TextError": "diptych.failures",
    "ImageError": "diptych.images",
    "TokenizerError": "diptych.tokenizer",
    "CheckpointError": "diptych.checkpoint",
    "HubError": "diptych.checkpoint",
    "DataError": "diptych.data.samples",
    "convert": "diptych.exporting",
    "Query": "diptych.index.query",
    "open_index": "diptych.index.local",
    "train": "diptych.training.trainer",
    "TrainConfig": "diptych.training.recipe",
    "recipe": "diptych.training.recipes",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"diptych has no {name!r}; it has {', '.join(_HOMES)}.")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
