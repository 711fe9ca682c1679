"""Diptych: CLIP, whole. Train an image tower and a text tower until they speak one vector language, and use it."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from diptych.checkpoint.formats.text_tower import TextTower as TextTower
    from diptych.checkpoint.pipelines.text_encoder import read_text_encoder as read_text_encoder
    from diptych.checkpoint.pretrained.names import PretrainedModel as PretrainedModel
    from diptych.checkpoint.pretrained.names import pretrained_models as pretrained_models
    from diptych.data.loading.augmentation import Augmentation as Augmentation
    from diptych.data.loading.decoding import BadSample as BadSample
    from diptych.embedder import Embedder as Embedder
    from diptych.embedder import load as load
    from diptych.errors import ArgumentError as ArgumentError
    from diptych.errors import ArgumentTypeError as ArgumentTypeError
    from diptych.errors import CheckpointError as CheckpointError
    from diptych.errors import CheckpointNotSavedError as CheckpointNotSavedError
    from diptych.errors import CleaningError as CleaningError
    from diptych.errors import ClusterError as ClusterError
    from diptych.errors import DataError as DataError
    from diptych.errors import DiptychError as DiptychError
    from diptych.errors import FetchError as FetchError
    from diptych.errors import FileError as FileError
    from diptych.errors import FilterError as FilterError
    from diptych.errors import HubError as HubError
    from diptych.errors import ImageError as ImageError
    from diptych.errors import IndexBusyError as IndexBusyError
    from diptych.errors import IndexDamagedError as IndexDamagedError
    from diptych.errors import IndexDirectoryError as IndexDirectoryError
    from diptych.errors import IndexModelError as IndexModelError
    from diptych.errors import IndexNewerError as IndexNewerError
    from diptych.errors import IndexNotWritableError as IndexNotWritableError
    from diptych.errors import IndexUnsafeError as IndexUnsafeError
    from diptych.errors import IndexUntrustedError as IndexUntrustedError
    from diptych.errors import JSONError as JSONError
    from diptych.errors import MissingExtraError as MissingExtraError
    from diptych.errors import OutputError as OutputError
    from diptych.errors import PatternError as PatternError
    from diptych.errors import QueryError as QueryError
    from diptych.errors import ReaderProcessError as ReaderProcessError
    from diptych.errors import SearchIndexError as SearchIndexError
    from diptych.errors import Setting as Setting
    from diptych.errors import StoreError as StoreError
    from diptych.errors import StoreLostError as StoreLostError
    from diptych.errors import TextError as TextError
    from diptych.errors import TokenizerError as TokenizerError
    from diptych.errors import TokenizerFileError as TokenizerFileError
    from diptych.errors import TooSlowError as TooSlowError
    from diptych.errors import VectorFilesError as VectorFilesError
    from diptych.errors import WorkerLostError as WorkerLostError
    from diptych.evaluation.evaluate import Evaluation as Evaluation
    from diptych.evaluation.evaluate import evaluate as evaluate
    from diptych.evaluation.intervals import Interval as Interval
    from diptych.evaluation.paired_comparison import MetricComparison as MetricComparison
    from diptych.evaluation.paired_comparison import compare_results as compare_results
    from diptych.evaluation.probe import probe as probe
    from diptych.evaluation.tasks.probing import ProbeResult as ProbeResult
    from diptych.exporting import convert as convert
    from diptych.failures import EmbeddingResult as EmbeddingResult
    from diptych.failures import Failure as Failure
    from diptych.generation.config import GenerateConfig as GenerateConfig
    from diptych.generation.generator import Generator as Generator
    from diptych.generation.generator import open_generator as open_generator
    from diptych.generation.openvino.pipeline import Drawn as Drawn
    from diptych.generation.training.run import GeneratorResult as GeneratorResult
    from diptych.generation.training.run import train_generator as train_generator
    from diptych.index.bulk.job import embed_in_bulk as embed_in_bulk
    from diptych.index.bulk.ray_cluster import Workers as Workers
    from diptych.index.bulk.shard_files import BulkResult as BulkResult
    from diptych.index.bulk.sharded_job import ShardedResult as ShardedResult
    from diptych.index.bulk.shards import embed_shards as embed_shards
    from diptych.index.bulk.shards import index_shards as index_shards
    from diptych.index.catalog.facts import ScanRules as ScanRules
    from diptych.index.copying import copy_index as copy_index
    from diptych.index.doctor import Finding as Finding
    from diptych.index.doctor import examine as examine
    from diptych.index.filters.filters import Filters as Filters
    from diptych.index.filters.geography import GeoBox as GeoBox
    from diptych.index.filters.geography import GeoCircle as GeoCircle
    from diptych.index.local import LocalIndex as LocalIndex
    from diptych.index.local import open_index as open_index
    from diptych.index.remote import StoreIndex as StoreIndex
    from diptych.index.search.near_duplicates import Copy as Copy
    from diptych.index.search.near_duplicates import Duplicates as Duplicates
    from diptych.index.search.near_duplicates import find_duplicates as find_duplicates
    from diptych.index.search.query import Query as Query
    from diptych.index.search.query import Term as Term
    from diptych.index.search.results import Hit as Hit
    from diptych.index.search.results import SearchResult as SearchResult
    from diptych.index.search.search import search_all as search_all
    from diptych.index.stores.copying import CopyResult as CopyResult
    from diptych.index.update.precomputed import PrecomputedVectors as PrecomputedVectors
    from diptych.index.update.precomputed import open_precomputed as open_precomputed
    from diptych.index.update.results import UpdateResult as UpdateResult
    from diptych.inference.heat_map import HeatMap as HeatMap
    from diptych.inference.picture_files import ClassifiedFiles as ClassifiedFiles
    from diptych.inference.picture_files import ComparedFiles as ComparedFiles
    from diptych.media.items import IndexCounts as IndexCounts
    from diptych.media.preprocessing import Preprocess as Preprocess
    from diptych.nets.config import CLIPConfig as CLIPConfig
    from diptych.nets.config import EfficientNetConfig as EfficientNetConfig
    from diptych.nets.config import ResNetConfig as ResNetConfig
    from diptych.nets.config import TextConfig as TextConfig
    from diptych.nets.config import ViTConfig as ViTConfig
    from diptych.scoring.comparison import Comparison as Comparison
    from diptych.scoring.difference import Difference as Difference
    from diptych.scoring.generated import clip_scores as clip_scores
    from diptych.scoring.generated import cmmd as cmmd
    from diptych.scoring.generated import reference_clip_scores as reference_clip_scores
    from diptych.scoring.locate import Box as Box
    from diptych.scoring.metrics import Accuracy as Accuracy
    from diptych.scoring.metrics import Confused as Confused
    from diptych.scoring.metrics import Recall as Recall
    from diptych.scoring.metrics import Retrieval as Retrieval
    from diptych.scoring.probe import Probe as Probe
    from diptych.scoring.zero_shot import Calibration as Calibration
    from diptych.scoring.zero_shot import Classification as Classification
    from diptych.text.cleaning import TextPreprocessing as TextPreprocessing
    from diptych.text.tokenizer import Tokens as Tokens
    from diptych.training.architectures import Architecture as Architecture
    from diptych.training.architectures import architectures as architectures
    from diptych.training.config import TrainConfig as TrainConfig
    from diptych.training.finetuning.forgetting import ClassAccuracy as ClassAccuracy
    from diptych.training.finetuning.forgetting import Drift as Drift
    from diptych.training.finetuning.forgetting import Forgetting as Forgetting
    from diptych.training.finetuning.forgetting import Measure as Measure
    from diptych.training.recipes import recipe as recipe
    from diptych.training.trainer import TrainResult as TrainResult
    from diptych.training.trainer import train as train

# What is public, by topic. docs/api.md describes each name.
__all__ = [  # noqa: RUF022
    "__version__",
    # Models
    "load", "Embedder", "EmbeddingResult", "Failure", "Tokens", "Preprocess", "TextPreprocessing", "CLIPConfig",
    "ViTConfig", "ResNetConfig", "EfficientNetConfig", "TextConfig", "convert", "architectures", "Architecture",
    "pretrained_models", "PretrainedModel", "read_text_encoder", "TextTower",
    # Pictures and texts: labels, regions, differences
    "Classification", "Calibration", "ClassifiedFiles", "Accuracy", "Confused", "ComparedFiles", "Comparison",
    "Difference", "HeatMap", "Box",
    # Search
    "open_index", "LocalIndex", "ScanRules", "UpdateResult", "IndexCounts", "Query", "Term", "Filters", "GeoBox",
    "GeoCircle", "SearchResult", "Hit", "search_all", "find_duplicates", "Duplicates", "Copy", "open_precomputed",
    "PrecomputedVectors", "embed_in_bulk", "BulkResult", "examine", "Finding", "StoreIndex", "copy_index", "CopyResult",
    "index_shards", "embed_shards", "ShardedResult", "Workers",
    # Evaluation
    "evaluate", "Evaluation", "compare_results", "MetricComparison", "Interval", "probe", "ProbeResult",
    "Probe", "Retrieval", "Recall", "clip_scores", "reference_clip_scores", "cmmd",
    # Training
    "train", "TrainConfig", "TrainResult", "recipe", "Augmentation", "Forgetting", "Measure", "Drift",
    "ClassAccuracy", "BadSample",
    # Generation
    "open_generator", "Generator", "Drawn", "train_generator", "GenerateConfig", "GeneratorResult",
    # Errors
    "DiptychError", "ArgumentError", "ArgumentTypeError", "MissingExtraError", "CheckpointError", "HubError",
    "TokenizerError", "TokenizerFileError", "CleaningError", "ImageError", "TextError", "ReaderProcessError",
    "DataError", "CheckpointNotSavedError", "WorkerLostError", "SearchIndexError", "IndexDirectoryError",
    "IndexNotWritableError", "IndexBusyError", "IndexModelError", "IndexUntrustedError", "IndexDamagedError",
    "IndexUnsafeError", "IndexNewerError", "StoreError", "StoreLostError", "ClusterError", "QueryError", "FilterError",
    "PatternError", "VectorFilesError", "FileError", "JSONError", "FetchError", "TooSlowError", "OutputError",
    "Setting",
]  # fmt: skip

# The module of each name. It is imported on first use: `import diptych` loads no torch.
_MODULES = {
    "load": "diptych.embedder",
    "Embedder": "diptych.embedder",
    "EmbeddingResult": "diptych.failures",
    "Failure": "diptych.failures",
    "Tokens": "diptych.text.tokenizer",
    "Preprocess": "diptych.media.preprocessing",
    "TextPreprocessing": "diptych.text.cleaning",
    "CLIPConfig": "diptych.nets.config",
    "ViTConfig": "diptych.nets.config",
    "ResNetConfig": "diptych.nets.config",
    "EfficientNetConfig": "diptych.nets.config",
    "TextConfig": "diptych.nets.config",
    "convert": "diptych.exporting",
    "architectures": "diptych.training.architectures",
    "Architecture": "diptych.training.architectures",
    "pretrained_models": "diptych.checkpoint.pretrained.names",
    "PretrainedModel": "diptych.checkpoint.pretrained.names",
    "read_text_encoder": "diptych.checkpoint.pipelines.text_encoder",
    "TextTower": "diptych.checkpoint.formats.text_tower",
    "Classification": "diptych.scoring.zero_shot",
    "Calibration": "diptych.scoring.zero_shot",
    "ClassifiedFiles": "diptych.inference.picture_files",
    "Accuracy": "diptych.scoring.metrics",
    "Confused": "diptych.scoring.metrics",
    "ComparedFiles": "diptych.inference.picture_files",
    "Comparison": "diptych.scoring.comparison",
    "Difference": "diptych.scoring.difference",
    "HeatMap": "diptych.inference.heat_map",
    "Box": "diptych.scoring.locate",
    "open_index": "diptych.index.local",
    "LocalIndex": "diptych.index.local",
    "ScanRules": "diptych.index.catalog.facts",
    "UpdateResult": "diptych.index.update.results",
    "IndexCounts": "diptych.media.items",
    "Query": "diptych.index.search.query",
    "Term": "diptych.index.search.query",
    "Filters": "diptych.index.filters.filters",
    "GeoBox": "diptych.index.filters.geography",
    "GeoCircle": "diptych.index.filters.geography",
    "SearchResult": "diptych.index.search.results",
    "Hit": "diptych.index.search.results",
    "search_all": "diptych.index.search.search",
    "find_duplicates": "diptych.index.search.near_duplicates",
    "Duplicates": "diptych.index.search.near_duplicates",
    "Copy": "diptych.index.search.near_duplicates",
    "open_precomputed": "diptych.index.update.precomputed",
    "PrecomputedVectors": "diptych.index.update.precomputed",
    "embed_in_bulk": "diptych.index.bulk.job",
    "BulkResult": "diptych.index.bulk.shard_files",
    "examine": "diptych.index.doctor",
    "Finding": "diptych.index.doctor",
    "StoreIndex": "diptych.index.remote",
    "copy_index": "diptych.index.copying",
    "CopyResult": "diptych.index.stores.copying",
    "index_shards": "diptych.index.bulk.shards",
    "embed_shards": "diptych.index.bulk.shards",
    "ShardedResult": "diptych.index.bulk.sharded_job",
    "Workers": "diptych.index.bulk.ray_cluster",
    "evaluate": "diptych.evaluation.evaluate",
    "Evaluation": "diptych.evaluation.evaluate",
    "compare_results": "diptych.evaluation.paired_comparison",
    "MetricComparison": "diptych.evaluation.paired_comparison",
    "Interval": "diptych.evaluation.intervals",
    "probe": "diptych.evaluation.probe",
    "ProbeResult": "diptych.evaluation.tasks.probing",
    "Probe": "diptych.scoring.probe",
    "Retrieval": "diptych.scoring.metrics",
    "Recall": "diptych.scoring.metrics",
    "clip_scores": "diptych.scoring.generated",
    "reference_clip_scores": "diptych.scoring.generated",
    "cmmd": "diptych.scoring.generated",
    "train": "diptych.training.trainer",
    "TrainConfig": "diptych.training.config",
    "TrainResult": "diptych.training.trainer",
    "recipe": "diptych.training.recipes",
    "Augmentation": "diptych.data.loading.augmentation",
    "Forgetting": "diptych.training.finetuning.forgetting",
    "Measure": "diptych.training.finetuning.forgetting",
    "Drift": "diptych.training.finetuning.forgetting",
    "ClassAccuracy": "diptych.training.finetuning.forgetting",
    "BadSample": "diptych.data.loading.decoding",
    "open_generator": "diptych.generation.generator",
    "Generator": "diptych.generation.generator",
    "Drawn": "diptych.generation.openvino.pipeline",
    "train_generator": "diptych.generation.training.run",
    "GenerateConfig": "diptych.generation.config",
    "GeneratorResult": "diptych.generation.training.run",
    "DiptychError": "diptych.errors",
    "ArgumentError": "diptych.errors",
    "ArgumentTypeError": "diptych.errors",
    "MissingExtraError": "diptych.errors",
    "CheckpointError": "diptych.errors",
    "HubError": "diptych.errors",
    "TokenizerError": "diptych.errors",
    "TokenizerFileError": "diptych.errors",
    "CleaningError": "diptych.errors",
    "ImageError": "diptych.errors",
    "TextError": "diptych.errors",
    "ReaderProcessError": "diptych.errors",
    "DataError": "diptych.errors",
    "CheckpointNotSavedError": "diptych.errors",
    "WorkerLostError": "diptych.errors",
    "SearchIndexError": "diptych.errors",
    "IndexDirectoryError": "diptych.errors",
    "IndexNotWritableError": "diptych.errors",
    "IndexBusyError": "diptych.errors",
    "IndexModelError": "diptych.errors",
    "IndexUntrustedError": "diptych.errors",
    "IndexDamagedError": "diptych.errors",
    "IndexUnsafeError": "diptych.errors",
    "IndexNewerError": "diptych.errors",
    "StoreError": "diptych.errors",
    "StoreLostError": "diptych.errors",
    "ClusterError": "diptych.errors",
    "QueryError": "diptych.errors",
    "FilterError": "diptych.errors",
    "PatternError": "diptych.errors",
    "VectorFilesError": "diptych.errors",
    "FileError": "diptych.errors",
    "JSONError": "diptych.errors",
    "FetchError": "diptych.errors",
    "TooSlowError": "diptych.errors",
    "OutputError": "diptych.errors",
    "Setting": "diptych.errors",
}

# Old public name -> new name, until version 0.3.
_RENAMED = {
    "Counts": "IndexCounts",
    "Rules": "ScanRules",
    "Embedded": "EmbeddingResult",
    "Found": "SearchResult",
    "IndexFault": "SearchIndexError",
    "IndexPlaceError": "IndexDirectoryError",
    "ReaderError": "ReaderProcessError",
    "Updated": "UpdateResult",
}


def __getattr__(name: str) -> object:
    if name in _RENAMED:
        from diptych.deprecation import warn_renamed

        warn_renamed(f"diptych.{name}", f"diptych.{_RENAMED[name]}")
        name = _RENAMED[name]
    if name not in _MODULES:
        raise AttributeError(f"diptych has no {name!r}; it has {', '.join(_MODULES)}.")
    import importlib

    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
