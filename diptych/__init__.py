"""Diptych: CLIP, whole. Train an image tower and a text tower until they speak one vector language, and use it."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from diptych.data.loading.augmentation import Augmentation as Augmentation
    from diptych.embedder import Embedder as Embedder
    from diptych.embedder import load as load
    from diptych.errors import ArgumentError as ArgumentError
    from diptych.errors import ArgumentTypeError as ArgumentTypeError
    from diptych.errors import CheckpointError as CheckpointError
    from diptych.errors import DataError as DataError
    from diptych.errors import DiptychError as DiptychError
    from diptych.errors import FilterError as FilterError
    from diptych.errors import HubError as HubError
    from diptych.errors import ImageError as ImageError
    from diptych.errors import IndexBusyError as IndexBusyError
    from diptych.errors import IndexDamagedError as IndexDamagedError
    from diptych.errors import IndexDirectoryError as IndexDirectoryError
    from diptych.errors import IndexModelError as IndexModelError
    from diptych.errors import IndexNotWritableError as IndexNotWritableError
    from diptych.errors import IndexUntrustedError as IndexUntrustedError
    from diptych.errors import MissingExtraError as MissingExtraError
    from diptych.errors import PatternError as PatternError
    from diptych.errors import QueryError as QueryError
    from diptych.errors import ReaderProcessError as ReaderProcessError
    from diptych.errors import SearchIndexError as SearchIndexError
    from diptych.errors import Setting as Setting
    from diptych.errors import TextError as TextError
    from diptych.errors import TokenizerError as TokenizerError
    from diptych.exporting import convert as convert
    from diptych.failures import EmbeddingResult as EmbeddingResult
    from diptych.failures import Failure as Failure
    from diptych.index.catalog.catalog import Counts as Counts
    from diptych.index.catalog.facts import Rules as Rules
    from diptych.index.doctor import Finding as Finding
    from diptych.index.doctor import examine as examine
    from diptych.index.local import LocalIndex as LocalIndex
    from diptych.index.local import open_index as open_index
    from diptych.index.search.filters import Filters as Filters
    from diptych.index.search.query import Query as Query
    from diptych.index.search.query import Term as Term
    from diptych.index.search.results import Found as Found
    from diptych.index.search.results import Hit as Hit
    from diptych.index.search.search import search_all as search_all
    from diptych.index.update.results import Updated as Updated
    from diptych.inference.heat_map import HeatMap as HeatMap
    from diptych.media.images import Preprocess as Preprocess
    from diptych.nets.config import CLIPConfig as CLIPConfig
    from diptych.scoring.locate import Box as Box
    from diptych.scoring.metrics import Retrieval as Retrieval
    from diptych.scoring.zero_shot import Classification as Classification
    from diptych.text.tokenizer import Tokens as Tokens
    from diptych.training.config import TrainConfig as TrainConfig
    from diptych.training.finetuning.forgetting import Forgetting as Forgetting
    from diptych.training.recipes import recipe as recipe
    from diptych.training.trainer import TrainResult as TrainResult
    from diptych.training.trainer import train as train

# Where each public name lives. Nothing is imported until it is asked for: `import diptych` costs no torch.
_HOMES = {
    "load": "diptych.embedder",
    "Embedder": "diptych.embedder",
    "EmbeddingResult": "diptych.failures",
    "Failure": "diptych.failures",
    "Classification": "diptych.scoring.zero_shot",
    "HeatMap": "diptych.inference.heat_map",
    "Box": "diptych.scoring.locate",
    "Tokens": "diptych.text.tokenizer",
    "Preprocess": "diptych.media.images",
    "open_index": "diptych.index.local",
    "search_all": "diptych.index.search.search",
    "LocalIndex": "diptych.index.local",
    "Query": "diptych.index.search.query",
    "Filters": "diptych.index.search.filters",
    "Found": "diptych.index.search.results",
    "Hit": "diptych.index.search.results",
    "Updated": "diptych.index.update.results",
    "examine": "diptych.index.doctor",
    "Finding": "diptych.index.doctor",
    "convert": "diptych.exporting",
    "train": "diptych.training.trainer",
    "TrainConfig": "diptych.training.config",
    "TrainResult": "diptych.training.trainer",
    "recipe": "diptych.training.recipes",
    "Augmentation": "diptych.data.loading.augmentation",
    "CLIPConfig": "diptych.nets.config",
    "Counts": "diptych.index.catalog.catalog",
    "Forgetting": "diptych.training.finetuning.forgetting",
    "Retrieval": "diptych.scoring.metrics",
    "Rules": "diptych.index.catalog.facts",
    "Term": "diptych.index.search.query",
    "DiptychError": "diptych.errors",
    "Setting": "diptych.errors",
    "ArgumentError": "diptych.errors",
    "ArgumentTypeError": "diptych.errors",
    "TextError": "diptych.errors",
    "MissingExtraError": "diptych.errors",
    "ImageError": "diptych.errors",
    "TokenizerError": "diptych.errors",
    "CheckpointError": "diptych.errors",
    "HubError": "diptych.errors",
    "DataError": "diptych.errors",
    "QueryError": "diptych.errors",
    "FilterError": "diptych.errors",
    "PatternError": "diptych.errors",
    "SearchIndexError": "diptych.errors",
    "IndexModelError": "diptych.errors",
    "IndexBusyError": "diptych.errors",
    "IndexDirectoryError": "diptych.errors",
    "IndexNotWritableError": "diptych.errors",
    "IndexUntrustedError": "diptych.errors",
    "IndexDamagedError": "diptych.errors",
    "ReaderProcessError": "diptych.errors",
}

__all__ = ["__version__", *_HOMES]


# Old public name -> new name, until version 0.3.
_RENAMED = {
    "Embedded": "EmbeddingResult",
    "IndexFault": "SearchIndexError",
    "IndexPlaceError": "IndexDirectoryError",
    "ReaderError": "ReaderProcessError",
}


def __getattr__(name: str) -> object:
    if name in _RENAMED:
        from diptych.deprecation import warn_renamed

        warn_renamed(f"diptych.{name}", f"diptych.{_RENAMED[name]}")
        name = _RENAMED[name]
    if name not in _HOMES:
        raise AttributeError(f"diptych has no {name!r}; it has {', '.join(_HOMES)}.")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
