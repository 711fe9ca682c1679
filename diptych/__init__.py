"""Diptych: CLIP, whole. Train an image tower and a text tower until they speak one vector language, and use it."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from diptych.checkpoint import CheckpointError as CheckpointError
    from diptych.checkpoint import HubError as HubError
    from diptych.data.augment import Augmentation as Augmentation
    from diptych.data.samples import DataError as DataError
    from diptych.embedder import Embedder as Embedder
    from diptych.embedder import load as load
    from diptych.errors import ArgumentError as ArgumentError
    from diptych.errors import ArgumentTypeError as ArgumentTypeError
    from diptych.errors import DiptychError as DiptychError
    from diptych.errors import Setting as Setting
    from diptych.exporting import convert as convert
    from diptych.extras import MissingExtraError as MissingExtraError
    from diptych.failures import Embedded as Embedded
    from diptych.failures import Failure as Failure
    from diptych.failures import TextError as TextError
    from diptych.heat_map import HeatMap as HeatMap
    from diptych.images import ImageError as ImageError
    from diptych.images import Preprocess as Preprocess
    from diptych.index.catalog import Counts as Counts
    from diptych.index.doctor import Finding as Finding
    from diptych.index.doctor import examine as examine
    from diptych.index.faults import IndexBusyError as IndexBusyError
    from diptych.index.faults import IndexDamagedError as IndexDamagedError
    from diptych.index.faults import IndexFault as IndexFault
    from diptych.index.faults import IndexModelError as IndexModelError
    from diptych.index.faults import IndexPlaceError as IndexPlaceError
    from diptych.index.faults import IndexUntrustedError as IndexUntrustedError
    from diptych.index.filters import FilterError as FilterError
    from diptych.index.filters import Filters as Filters
    from diptych.index.killable import ReaderError as ReaderError
    from diptych.index.local import LocalIndex as LocalIndex
    from diptych.index.local import open_index as open_index
    from diptych.index.patterns import PatternError as PatternError
    from diptych.index.query import Query as Query
    from diptych.index.query import QueryError as QueryError
    from diptych.index.query import Term as Term
    from diptych.index.search import Found as Found
    from diptych.index.search import Hit as Hit
    from diptych.index.search import search_all as search_all
    from diptych.index.updating import Rules as Rules
    from diptych.index.updating import Updated as Updated
    from diptych.locate import Box as Box
    from diptych.metrics import Retrieval as Retrieval
    from diptych.nets.config import CLIPConfig as CLIPConfig
    from diptych.tokenizer import TokenizerError as TokenizerError
    from diptych.tokenizer import Tokens as Tokens
    from diptych.training.forgetting import Forgetting as Forgetting
    from diptych.training.recipe import TrainConfig as TrainConfig
    from diptych.training.recipes import recipe as recipe
    from diptych.training.trainer import TrainResult as TrainResult
    from diptych.training.trainer import train as train
    from diptych.zero_shot import Classification as Classification

# Where each public name lives. Nothing is imported until it is asked for: `import diptych` costs no torch.
_HOMES = {
    "load": "diptych.embedder",
    "Embedder": "diptych.embedder",
    "Embedded": "diptych.failures",
    "Failure": "diptych.failures",
    "Classification": "diptych.zero_shot",
    "HeatMap": "diptych.heat_map",
    "Box": "diptych.locate",
    "Tokens": "diptych.tokenizer",
    "Preprocess": "diptych.images",
    "open_index": "diptych.index.local",
    "search_all": "diptych.index.search",
    "LocalIndex": "diptych.index.local",
    "Query": "diptych.index.query",
    "Filters": "diptych.index.filters",
    "Found": "diptych.index.search",
    "Hit": "diptych.index.search",
    "Updated": "diptych.index.updating",
    "examine": "diptych.index.doctor",
    "Finding": "diptych.index.doctor",
    "convert": "diptych.exporting",
    "train": "diptych.training.trainer",
    "TrainConfig": "diptych.training.recipe",
    "TrainResult": "diptych.training.trainer",
    "recipe": "diptych.training.recipes",
    "Augmentation": "diptych.data.augment",
    "CLIPConfig": "diptych.nets.config",
    "Counts": "diptych.index.catalog",
    "Forgetting": "diptych.training.forgetting",
    "Retrieval": "diptych.metrics",
    "Rules": "diptych.index.updating",
    "Term": "diptych.index.query",
    "DiptychError": "diptych.errors",
    "Setting": "diptych.errors",
    "ArgumentError": "diptych.errors",
    "ArgumentTypeError": "diptych.errors",
    "TextError": "diptych.failures",
    "MissingExtraError": "diptych.extras",
    "ImageError": "diptych.images",
    "TokenizerError": "diptych.tokenizer",
    "CheckpointError": "diptych.checkpoint",
    "HubError": "diptych.checkpoint",
    "DataError": "diptych.data.samples",
    "QueryError": "diptych.index.query",
    "FilterError": "diptych.index.filters",
    "PatternError": "diptych.index.patterns",
    "IndexFault": "diptych.index.faults",
    "IndexModelError": "diptych.index.faults",
    "IndexBusyError": "diptych.index.faults",
    "IndexPlaceError": "diptych.index.faults",
    "IndexUntrustedError": "diptych.index.faults",
    "IndexDamagedError": "diptych.index.faults",
    "ReaderError": "diptych.index.killable",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"diptych has no {name!r}; it has {', '.join(_HOMES)}.")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
