"""Opens a data set by its folder, file pattern or name."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diptych.data.confinement import AllowedFolders, left_out
from diptych.data.loading.stream import indexed
from diptych.data.sources.classes import read_classes
from diptych.data.sources.folders import in_classes
from diptych.data.sources.opening import open_source
from diptych.data.sources.shards import expand_braces
from diptych.data.splits import HELD_OUT, TRAIN, split_folders
from diptych.data.tables.table_source import TableSource
from diptych.errors import DataError
from diptych.evaluation.sets import clip_benchmark, named_datasets, saved_datasets
from diptych.evaluation.sets.dataset import (
    WHOLE,
    CaptionedDataset,
    Dataset,
    DatasetKind,
    LabelledDataset,
    PictureDataset,
    PictureSequence,
    identity_of,
    pairs_of,
)
from diptych.evaluation.sets.named_datasets import NAMED
from diptych.media.scanning.image_files import find_images
from diptych.untrusted.links import walk

FORMS = (
    "a folder of class folders (also below train/, val/ and test/), pairs as `diptych train` reads them, a folder of "
    "WebDataset shards in CLIP_benchmark's layout, a folder of `save_to_disk` of `datasets`, or with "
    'kind = "pictures" a folder of pictures alone'
)


def open_set(
    source: str | os.PathLike[str],
    *,
    split: str | None = None,
    kind: DatasetKind | None = None,
    allow_outside: bool = False,
) -> Dataset:
    """The data set in `source`: one of FORMS, or a name in NAMED.

    `split` is by default the first of HELD_OUT that exists; a data set without splits is read as a whole. `kind` is
    inferred if it is None; `allow_outside` is explained in `data.sources.opening.open_source`. Raises DataError, which
    lists the accepted forms.
    """
    text = os.fspath(source)
    if not os.path.exists(text) and text in NAMED and kind != "pictures":
        return named_datasets.open_named(text, split)
    if not os.path.isdir(text):
        if kind in ("classes", "pictures"):
            raise DataError(_not_there(text))
        return _pairs(text, WHOLE, allow_outside)
    allowed = AllowedFolders([text], allow_outside=allow_outside)
    if kind == "pictures":
        return _pictures_alone(Path(text), allowed)
    if saved_datasets.is_saved(Path(text)):
        return saved_datasets.open_saved(Path(text), split, allowed)
    available = splits(text)
    chosen = _chosen(text, available, split)
    folder = split_folders(Path(text))[chosen] if available else Path(text)
    if clip_benchmark.is_clip_benchmark(Path(text), folder, allowed):
        return clip_benchmark.open_shards(Path(text), folder, chosen, kind, allowed)
    if kind == "classes" or (kind is None and _has_classes(folder)):
        return class_folders(folder, chosen, allowed)
    return _pairs(folder, chosen, allow_outside)


def training_set(source: str | os.PathLike[str], *, allow_outside: bool = False) -> LabelledDataset | None:
    """The training split of a data set with classes, or None."""
    if TRAIN not in splits(source):
        return None
    found = open_set(source, split=TRAIN, kind="classes", allow_outside=allow_outside)
    return found if isinstance(found, LabelledDataset) else None


def splits(source: str | os.PathLike[str]) -> tuple[str, ...]:
    """The names of a data set's splits, () if it has none. In a folder they are subfolders with the usual names."""
    text = os.fspath(source)
    if not os.path.exists(text) and text in NAMED:
        return tuple(NAMED[text].splits)
    if not os.path.isdir(text):
        return ()
    if saved_datasets.is_saved(Path(text)):
        return saved_datasets.saved_splits(Path(text))
    return tuple(split_folders(Path(text)))


def _chosen(source: str, available: Sequence[str], split: str | None) -> str:
    if not available:
        return WHOLE
    found = next((name for name in HELD_OUT if name in available), available[0]) if split is None else split
    if found not in available:
        raise DataError(f"{source} has no split {found!r}; it has {', '.join(available)}.")
    return found


def _has_classes(folder: Path) -> bool:
    """Whether the pictures of a folder are in class folders and have no captions."""
    if any(next(folder.glob(pattern), None) for pattern in ("*.tar", "*.parquet", "dataset_info.json")):
        return False
    return in_classes(folder)


def class_folders(folder: Path, split: str = WHOLE, allowed: AllowedFolders | None = None) -> LabelledDataset:
    """A folder of class folders, see `read_classes`, without pictures behind links that lead out of `allowed`, by
    default the folder. Raises DataError for fewer than two classes."""
    contains = (allowed or AllowedFolders([folder])).contains
    every = read_classes(folder, follows=contains)
    found = every.only(contains)
    if len(found.names) < 2:
        raise DataError(
            f"{folder} has {len(found.names)} folders of pictures below; wanted one for each of two classes or more."
        )
    keys = [os.fspath(path.relative_to(folder)) for path in found.paths]
    pictures = PictureSequence(keys, found.paths.__getitem__, identity_of(folder, found.paths), split)
    inside = set(found.paths)
    lost = [path for path in every.paths if path not in inside]
    outside = [os.path.relpath(path, folder) for path in (*lost, *every.skipped_paths)]
    notes = [found.description, *[f"left out {len(outside):,} with {left_out(outside)}"] * bool(outside)]
    return LabelledDataset(
        pictures, found.names, np.array(found.labels, np.int64), description="; ".join(filter(None, notes))
    )


def _pictures_alone(folder: Path, allowed: AllowedFolders) -> PictureDataset:
    """All pictures below a folder, whatever is beside them, without those behind links that lead out of `allowed`."""
    links = list[Path]()
    paths, others = allowed.split_outside(find_images(folder, follows=allowed.contains, skipped=links))
    if not paths:
        raise DataError(f"{folder} has no pictures in it.")
    outside = sorted(os.path.relpath(path, folder) for path in (*others, *links))
    keys = [os.fspath(path.relative_to(folder)) for path in paths]
    pictures = PictureSequence(keys, paths.__getitem__, identity_of(folder, paths))
    return PictureDataset(pictures, f"left out {len(outside):,} with {left_out(outside)}" if outside else "")


def _pairs(index: str | Path, split: str, allow_outside: bool = False) -> CaptionedDataset:
    if isinstance(index, str) and "://" not in index and not _is_pattern(index) and not os.path.exists(index):
        raise DataError(_not_there(index))
    source = indexed(open_source(index, allow_outside=allow_outside))
    files = _files(index)
    if isinstance(source, TableSource):  # it names the pictures and may be in another folder
        named = (source.file(at) for at in range(len(source)))
        files = sorted({*files, source.path, *(path for path in named if path.is_file())})
    words = [str(index), str(len(source))] if not files else []
    return pairs_of(source, identity_of(Path(index), files, words), split)


def _is_pattern(text: str) -> bool:
    return any(letter in text for letter in "*?[{")


def _not_there(text: str) -> str:
    return f"{text} is not there; wanted {FORMS}, or one of the names {', '.join(NAMED)}."


def _files(index: str | Path) -> list[Path]:
    """The files of a data set: the file itself, those below a folder, or those that match a pattern."""
    if os.path.isdir(index):
        below = (Path(here, name) for here, _, names in walk(index) for name in names)
        return sorted(each for each in below if each.is_file())
    if os.path.isfile(index):
        return [Path(index)]
    found = (path for name in expand_braces(str(index)) for path in glob.glob(name, recursive=True))
    return sorted(Path(path) for path in found if os.path.isfile(path))
