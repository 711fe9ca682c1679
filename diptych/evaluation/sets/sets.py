"""Data sets that models are judged by: pictures with a class each, and pictures with captions."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from diptych.data.confinement import Confined, left_out
from diptych.data.loading.stream import indexed
from diptych.data.samples import Source, spell_counts
from diptych.data.sources.classes import read_classes
from diptych.data.sources.folders import in_classes
from diptych.data.sources.opening import open_source
from diptych.data.sources.shards import expand_braces
from diptych.data.splits import HELD_OUT, TRAIN, split_folders
from diptych.data.tables.table_source import TableSource
from diptych.errors import DataError
from diptych.media.images import Source as ImageSource
from diptych.untrusted.links import walk

if TYPE_CHECKING:
    from jaxtyping import Int

Kind = Literal["classes", "pairs"]
WHOLE = "all"  # the split of a set that has no splits
FORMS = (
    "a folder of class folders (also below train/, val/ and test/), pairs as `diptych train` reads them, a folder of "
    "WebDataset shards as CLIP_benchmark lays them out, what `datasets` has saved to disk"
)


@dataclass(frozen=True)
class Pictures:
    """Pictures by their places, from 0. `read(place)` gives anything that `images.open_image` takes, or raises
    DataError or OSError. `identity` is a hash of what the set is made of; `split` says which part of it this is."""

    keys: Sequence[str]
    read: Callable[[int], ImageSource]
    identity: str
    split: str = WHOLE

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class Labelled:
    """Pictures with a class each: `answers[place]` is the class's number in `classes`. `templates` are those that came
    with the set; `said` is what a person should know of how it was read."""

    pictures: Pictures
    classes: tuple[str, ...]
    answers: Int[np.ndarray, " pictures"]
    templates: tuple[str, ...] = ()
    said: str = ""


@dataclass(frozen=True)
class Pairs:
    """Pictures with captions: `captions(place)` are all of one; it raises DataError or OSError where they cannot be
    read. `said` is what a person should know of how they were read."""

    pictures: Pictures
    captions: Callable[[int], tuple[str, ...]]
    said: str = ""


def open_set(
    source: str | os.PathLike[str], *, split: str | None = None, kind: Kind | None = None, allow_outside: bool = False
) -> Labelled | Pairs:
    """The set that `source` names: one of FORMS, or a name from `named.NAMED`.

    `split` is by default the first of HELD_OUT that there is; a set without splits is taken whole. `kind` is guessed
    where it is None; `allow_outside` is as `data.sources.open_source` has it. Raises DataError that says what was
    looked for.
    """
    from diptych.evaluation.sets import clip_benchmark, named

    text = os.fspath(source)
    if not os.path.exists(text) and text in named.NAMED:
        return named.open_named(text, split)
    if not os.path.isdir(text):
        if kind == "classes":
            raise DataError(_not_there(text))
        return _pairs(text, WHOLE, allow_outside)
    confined = Confined([text], allow_outside=allow_outside)
    if named.is_saved(Path(text)):
        return named.open_saved(Path(text), split, confined)
    there = splits(text)
    chosen = _chosen(text, there, split)
    folder = split_folders(Path(text))[chosen] if there else Path(text)
    if clip_benchmark.is_laid_out(Path(text), folder, confined):
        return clip_benchmark.open_shards(Path(text), folder, chosen, kind, confined)
    if kind == "classes" or (kind is None and _has_classes(folder)):
        return class_folders(folder, chosen, confined)
    return _pairs(folder, chosen, allow_outside)


def training_set(source: str | os.PathLike[str], *, allow_outside: bool = False) -> Labelled | None:
    """The training split of a set of classes; None where the set has none."""
    if TRAIN not in splits(source):
        return None
    found = open_set(source, split=TRAIN, kind="classes", allow_outside=allow_outside)
    return found if isinstance(found, Labelled) else None


def splits(source: str | os.PathLike[str]) -> tuple[str, ...]:
    """The splits that a set has, () where it has none. Of a folder they are the folders below of the usual names."""
    from diptych.evaluation.sets import named

    text = os.fspath(source)
    if not os.path.exists(text) and text in named.NAMED:
        return tuple(named.NAMED[text].splits)
    if not os.path.isdir(text):
        return ()
    if named.is_saved(Path(text)):
        return named.saved_splits(Path(text))
    return tuple(split_folders(Path(text)))


def _chosen(source: str, there: Sequence[str], split: str | None) -> str:
    if not there:
        return WHOLE
    found = next((name for name in HELD_OUT if name in there), there[0]) if split is None else split
    if found not in there:
        raise DataError(f"{source} has no split {found!r}; it has {', '.join(there)}.")
    return found


def _has_classes(folder: Path) -> bool:
    """Whether the pictures of a folder lie in class folders, with no captions beside them."""
    if any(next(folder.glob(pattern), None) for pattern in ("*.tar", "*.parquet", "dataset_info.json")):
        return False
    return in_classes(folder)


def class_folders(folder: Path, split: str = WHOLE, confined: Confined | None = None) -> Labelled:
    """A folder of pictures in class folders, as `read_classes` reads them, without those that links lead to out of what
    `confined`, by default the folder, holds. Raises DataError where there are not two classes."""
    holds = (confined or Confined([folder])).holds
    every = read_classes(folder, follows=holds)
    found = every.only(holds)
    if len(found.names) < 2:
        raise DataError(
            f"{folder} has {len(found.names)} folders of pictures below; wanted one for each of two classes or more."
        )
    keys = [os.fspath(path.relative_to(folder)) for path in found.paths]
    pictures = Pictures(keys, found.paths.__getitem__, identity_of(folder, found.paths), split)
    inside = set(found.paths)
    lost = [path for path in every.paths if path not in inside]
    outside = [os.path.relpath(path, folder) for path in (*lost, *every.left)]
    said = [found.said, *[f"left out {len(outside):,} with {left_out(outside)}"] * bool(outside)]
    return Labelled(pictures, found.names, np.array(found.answers, np.int64), said="; ".join(filter(None, said)))


def _pairs(place: str | Path, split: str, allow_outside: bool = False) -> Pairs:
    if isinstance(place, str) and "://" not in place and not _is_pattern(place) and not os.path.exists(place):
        raise DataError(_not_there(place))
    source = indexed(open_source(place, allow_outside=allow_outside))
    files = _files(place)
    if isinstance(source, TableSource):  # which names the pictures, and may lie elsewhere than these
        named = (source.file(at) for at in range(len(source)))
        files = sorted({*files, source.path, *(path for path in named if path.is_file())})
    said = [str(place), str(len(source))] if not files else []
    return pairs_of(source, identity_of(Path(place), files, said), split)


def pairs_of(source: Source, identity: str, split: str = WHOLE) -> Pairs:
    """Pairs as training reads them."""
    keys = [source.key(place) for place in range(len(source))]
    said = f"left out {spell_counts(source.skipped)}" if source.skipped else ""
    return Pairs(Pictures(keys, lambda place: source[place].image, identity, split), source.captions, said)


def _is_pattern(text: str) -> bool:
    return any(letter in text for letter in "*?[{")


def _not_there(text: str) -> str:
    from diptych.evaluation.sets.named import NAMED

    return f"{text} is not there; wanted {FORMS}, or one of the names {', '.join(NAMED)}."


def _files(place: str | Path) -> list[Path]:
    """The files that a place is made of: itself, those below it, or those that a pattern matches."""
    if os.path.isdir(place):
        below = (Path(here, name) for here, _, names in walk(place) for name in names)
        return sorted(each for each in below if each.is_file())
    if os.path.isfile(place):
        return [Path(place)]
    found = (path for name in expand_braces(str(place)) for path in glob.glob(name, recursive=True))
    return sorted(Path(path) for path in found if os.path.isfile(path))


def identity_of(folder: Path, files: Iterable[Path], said: Iterable[str] = ()) -> str:
    """A hash of files by name within the folder, size and time of change; and of further words. A set that is moved as
    it is stays the same."""
    found = hashlib.blake2b(digest_size=12)
    for path in files:
        status = path.stat()
        name = os.path.relpath(path, folder)
        found.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    for word in said:
        found.update(word.encode("utf-8", "surrogateescape"))
    return found.hexdigest()
