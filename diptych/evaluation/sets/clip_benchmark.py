"""Shards as CLIP_benchmark lays them out: SPLIT/0.tar, SPLIT/1.tar, ... with KEY.cls or KEY.txt beside each picture,
and nshards.txt there; classnames.txt, zeroshot_classification_templates.txt and dataset_type.txt in the folder above
(its README)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from diptych.data.confinement import Confined, all_outside
from diptych.data.samples import IMAGE_SUFFIXES, MAX_SIDECAR_BYTES
from diptych.data.sources.shards import DAMAGE, ShardSource, members, read_member
from diptych.errors import DataError
from diptych.evaluation.sets.sets import Kind, Labelled, Pairs, Pictures, identity_of, pairs_of
from diptych.text.encoding import decoded
from diptych.untrusted.regular_files import MAX_BYTES, open_file

_LONGEST_CLASS = 4096  # bytes

CLASSES, TEMPLATES, TYPE, SHARDS = (
    "classnames.txt",
    "zeroshot_classification_templates.txt",
    "dataset_type.txt",
    "nshards.txt",
)


def is_laid_out(top: Path, folder: Path, confined: Confined) -> bool:
    """Whether the shards in `folder` are such ones: something beside them says so, or the first holds a class."""
    if not (shards := sorted(folder.glob("*.tar"))):
        return False
    if (top / CLASSES).is_file() or (folder / SHARDS).is_file():
        return True
    try:
        return confined.holds(shards[0]) and any(name.endswith(".cls") for name, *_ in islice(members(shards[0]), 20))
    except DAMAGE:
        return False


def open_shards(top: Path, folder: Path, split: str, kind: Kind | None, confined: Confined) -> Labelled | Pairs:
    """The set in `folder`, a split of `top`. Raises DataError where shards or class names are missing or damaged, and
    FileError or DataError where links lead out of what `confined` holds: numbers of a part are none of the set."""
    shards = _all_shards(folder, confined)
    if kind is None:
        said = decoded(confined.read(top / TYPE, MAX_SIDECAR_BYTES)) if (top / TYPE).is_file() else ""
        kind = "pairs" if "retrieval" in said or not (top / CLASSES).is_file() else "classes"
    extra = [path for name in (CLASSES, TEMPLATES) if (path := top / name).is_file()]
    identity = identity_of(top, [*shards, *extra])
    if kind == "pairs":
        return pairs_of(ShardSource(shards), identity, split)
    return _labelled(top, shards, identity, split, confined)


def _all_shards(folder: Path, confined: Confined) -> list[Path]:
    """In the order of their numbers. DataError where nshards.txt says that there are more."""
    shards = sorted(folder.glob("*.tar"), key=lambda path: (len(path.stem), path.stem))
    if outside := confined.parted(shards)[1]:
        raise all_outside(folder, [path.name for path in outside], "shards")
    said = decoded(confined.read(folder / SHARDS, MAX_SIDECAR_BYTES)).strip() if (folder / SHARDS).is_file() else ""
    if (counted := _number(said)) is not None and counted != len(shards):
        raise DataError(f"{folder} holds {len(shards)} shards and {SHARDS} says {counted}; fetch the missing ones.")
    return shards


def _labelled(top: Path, shards: Sequence[Path], identity: str, split: str, confined: Confined) -> Labelled:
    if not (top / CLASSES).is_file():
        raise DataError(f"{top} has no {CLASSES}; wanted one with the name of a class a line, from class 0 on.")
    classes, templates = names_in(top, confined)
    rows = [row for number, shard in enumerate(shards) for row in _scan(shard, number, len(classes))]
    if not rows:
        raise DataError(f"{top} holds no picture with a class ({split}); wanted KEY.jpg, .png or .webp beside KEY.cls.")
    keys, places, answers = zip(*rows, strict=True)

    def read(place: int) -> bytes:
        shard, offset, size = places[place]
        with open_file(shards[shard]) as file:
            return read_member(file, (offset, size), MAX_BYTES, keys[place])

    return Labelled(Pictures(keys, read, identity, split), classes, np.array(answers, np.int64), templates)


def names_in(top: Path, confined: Confined) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The class names and the templates that lie in a folder of shards; () for what is not there."""
    templates = (line.replace("{c}", "{}") for line in _lines(top / TEMPLATES, confined))
    return tuple(_lines(top / CLASSES, confined)), tuple(templates)


def _lines(path: Path, confined: Confined) -> list[str]:
    if not path.is_file():
        return []
    return [line.strip() for line in decoded(confined.read(path, MAX_SIDECAR_BYTES)).splitlines() if line.strip()]


def _scan(path: Path, number: int, classes: int) -> list[tuple[str, tuple[int, int, int], int]]:
    """(key, (shard, offset, size), class) of each picture."""
    pictures: dict[str, tuple[int, int, int]] = {}
    answers: dict[str, int] = {}
    try:
        with open_file(path) as file:
            for name, offset, size in members(path):
                key, _, suffix = name.rpartition(".")
                if f".{suffix.lower()}" in IMAGE_SUFFIXES:
                    pictures[key] = (number, offset, size)
                elif suffix == "cls":
                    said = read_member(file, (offset, size), _LONGEST_CLASS, f"{key} in {path}")
                    answers[key] = _class(said, f"{key} in {path}", classes)
    except DataError:
        raise
    except DAMAGE as error:
        raise DataError(f"{path} cannot be read as a tar shard ({error}); copy or download it again.") from error
    return [(key, pictures[key], answers[key]) for key in pictures if key in answers]


def _class(said: bytes, key: str, classes: int) -> int:
    text = said.decode("utf-8", "replace").strip()
    if (number := _number(text)) is None or number >= classes:
        raise DataError(f"{key} is of class {text[:20]!r}; wanted a number below {classes}, the names in {CLASSES}.")
    return number


def _number(text: str) -> int | None:
    """A whole number of a few digits."""
    return int(text) if re.fullmatch("[0-9]{1,15}", text) else None
