"""Shards in CLIP_benchmark's layout (its README): SPLIT/0.tar, SPLIT/1.tar, ... with a KEY.cls or KEY.txt for each
picture, SPLIT/nshards.txt, and in the folder above classnames.txt, zeroshot_classification_templates.txt and
dataset_type.txt."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from diptych.data.confinement import AllowedFolders, all_outside
from diptych.data.samples import IMAGE_SUFFIXES, MAX_SIDECAR_BYTES
from diptych.data.sources.shards import DAMAGE, ShardSource, members, read_member
from diptych.errors import DataError
from diptych.evaluation.sets.dataset import (
    Dataset,
    DatasetKind,
    LabelledDataset,
    PictureSequence,
    identity_of,
    pairs_of,
)
from diptych.text.encoding import decoded
from diptych.untrusted.regular_files import MAX_BYTES, open_file

_MAX_CLASS_BYTES = 4096  # bytes

CLASSES, TEMPLATES, TYPE, SHARDS = (
    "classnames.txt",
    "zeroshot_classification_templates.txt",
    "dataset_type.txt",
    "nshards.txt",
)


def is_clip_benchmark(top: Path, folder: Path, allowed: AllowedFolders) -> bool:
    """Whether the shards in `folder` have this layout: its text files exist, or the first shard has a .cls."""
    if not (shards := sorted(folder.glob("*.tar"))):
        return False
    if (top / CLASSES).is_file() or (folder / SHARDS).is_file():
        return True
    try:
        return allowed.contains(shards[0]) and any(name.endswith(".cls") for name, *_ in islice(members(shards[0]), 20))
    except DAMAGE:
        return False


def open_shards(top: Path, folder: Path, split: str, kind: DatasetKind | None, allowed: AllowedFolders) -> Dataset:
    """The data set in `folder`, a split of `top`. Raises DataError if shards or class names are missing or damaged, and
    FileError or DataError for links that lead out of `allowed`: metrics of a part would not be comparable."""
    shards = _all_shards(folder, allowed)
    if kind is None:
        content = decoded(allowed.read(top / TYPE, MAX_SIDECAR_BYTES)) if (top / TYPE).is_file() else ""
        kind = "pairs" if "retrieval" in content or not (top / CLASSES).is_file() else "classes"
    extra = [path for name in (CLASSES, TEMPLATES) if (path := top / name).is_file()]
    identity = identity_of(top, [*shards, *extra])
    if kind == "pairs":
        return pairs_of(ShardSource(shards), identity, split)
    return _labelled(top, shards, identity, split, allowed)


def _all_shards(folder: Path, allowed: AllowedFolders) -> list[Path]:
    """The shards in the order of their numbers. Raises DataError if nshards.txt counts more or fewer."""
    shards = sorted(folder.glob("*.tar"), key=lambda path: (len(path.stem), path.stem))
    if outside := allowed.split_outside(shards)[1]:
        raise all_outside(folder, [path.name for path in outside], "shards")
    content = decoded(allowed.read(folder / SHARDS, MAX_SIDECAR_BYTES)).strip() if (folder / SHARDS).is_file() else ""
    if (counted := _number(content)) is not None and counted != len(shards):
        raise DataError(
            f"{folder} contains {len(shards)} shards and {SHARDS} counts {counted}; fetch the missing ones."
        )
    return shards


def _labelled(top: Path, shards: Sequence[Path], identity: str, split: str, allowed: AllowedFolders) -> LabelledDataset:
    if not (top / CLASSES).is_file():
        raise DataError(f"{top} has no {CLASSES}; wanted one class name a line, from class 0 on.")
    classes, templates = names_in(top, allowed)
    rows = [row for number, shard in enumerate(shards) for row in _scan(shard, number, len(classes))]
    if not rows:
        raise DataError(f"{top} holds no picture with a class ({split}); wanted KEY.jpg, .png or .webp beside KEY.cls.")
    keys, indices, labels = zip(*rows, strict=True)

    def read(index: int) -> bytes:
        shard, offset, size = indices[index]
        with open_file(shards[shard]) as file:
            return read_member(file, (offset, size), MAX_BYTES, keys[index])

    return LabelledDataset(PictureSequence(keys, read, identity, split), classes, np.array(labels, np.int64), templates)


def names_in(top: Path, allowed: AllowedFolders) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The class names and the templates in a folder of shards; () for a missing file."""
    templates = (line.replace("{c}", "{}") for line in _lines(top / TEMPLATES, allowed))
    return tuple(_lines(top / CLASSES, allowed)), tuple(templates)


def _lines(path: Path, allowed: AllowedFolders) -> list[str]:
    if not path.is_file():
        return []
    return [line.strip() for line in decoded(allowed.read(path, MAX_SIDECAR_BYTES)).splitlines() if line.strip()]


def _scan(path: Path, number: int, classes: int) -> list[tuple[str, tuple[int, int, int], int]]:
    """(key, (shard, offset, size), class) of each picture."""
    pictures: dict[str, tuple[int, int, int]] = {}
    labels: dict[str, int] = {}
    try:
        with open_file(path) as file:
            for name, offset, size in members(path):
                key, _, suffix = name.rpartition(".")
                if f".{suffix.lower()}" in IMAGE_SUFFIXES:
                    pictures[key] = (number, offset, size)
                elif suffix == "cls":
                    content = read_member(file, (offset, size), _MAX_CLASS_BYTES, f"{key} in {path}")
                    labels[key] = _class(content, f"{key} in {path}", classes)
    except DataError:
        raise
    except DAMAGE as error:
        raise DataError(f"{path} cannot be read as a tar shard ({error}); copy or download it again.") from error
    return [(key, pictures[key], labels[key]) for key in pictures if key in labels]


def _class(content: bytes, key: str, classes: int) -> int:
    text = content.decode("utf-8", "replace").strip()
    if (number := _number(text)) is None or number >= classes:
        raise DataError(f"{key} is of class {text[:20]!r}; wanted a number below {classes}, the names in {CLASSES}.")
    return number


def _number(text: str) -> int | None:
    """A non-negative integer of at most 15 digits, or None."""
    return int(text) if re.fullmatch("[0-9]{1,15}", text) else None
