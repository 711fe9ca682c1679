"""Shards as CLIP_benchmark lays them out: SPLIT/0.tar, SPLIT/1.tar, ... with KEY.cls or KEY.txt beside each picture,
and nshards.txt there; classnames.txt, zeroshot_classification_templates.txt and dataset_type.txt in the folder above
(its README)."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diptych.data.samples import IMAGE_SUFFIXES, DataError
from diptych.data.shards import ShardSource
from diptych.evaluation.sets import Kind, Labelled, Pairs, Pictures, identity_of, pairs_of

CLASSES, TEMPLATES, TYPE, SHARDS = (
    "classnames.txt",
    "zeroshot_classification_templates.txt",
    "dataset_type.txt",
    "nshards.txt",
)


def is_laid_out(top: Path, folder: Path) -> bool:
    """Whether the shards in `folder` are such ones: something beside them says so, or the first holds a class."""
    if not (shards := sorted(folder.glob("*.tar"))):
        return False
    if (top / CLASSES).is_file() or (folder / SHARDS).is_file():
        return True
    try:
        with tarfile.open(shards[0], "r:") as tar:
            return any(member.name.endswith(".cls") for member, _ in zip(tar, range(20), strict=False))
    except (tarfile.TarError, OSError):
        return False


def open_shards(top: Path, folder: Path, split: str, kind: Kind | None) -> Labelled | Pairs:
    """The set in `folder`, a split of `top`. Raises DataError where shards or class names are missing or damaged."""
    shards = _all_shards(folder)
    if kind is None:
        said = (top / TYPE).read_text(encoding="utf-8") if (top / TYPE).is_file() else ""
        kind = "pairs" if "retrieval" in said or not (top / CLASSES).is_file() else "classes"
    extra = [path for name in (CLASSES, TEMPLATES) if (path := top / name).is_file()]
    identity = identity_of(top, [*shards, *extra])
    if kind == "pairs":
        return pairs_of(ShardSource(shards), identity, split)
    return _labelled(top, shards, identity, split)


def _all_shards(folder: Path) -> list[Path]:
    """In the order of their numbers. DataError where nshards.txt says that there are more."""
    shards = sorted(folder.glob("*.tar"), key=lambda path: (len(path.stem), path.stem))
    counted = (folder / SHARDS).read_text(encoding="utf-8").strip() if (folder / SHARDS).is_file() else ""
    if counted.isdigit() and int(counted) != len(shards):
        raise DataError(f"{folder} holds {len(shards)} shards and {SHARDS} says {counted}; fetch the missing ones.")
    return shards


def _labelled(top: Path, shards: Sequence[Path], identity: str, split: str) -> Labelled:
    if not (top / CLASSES).is_file():
        raise DataError(f"{top} has no {CLASSES}; wanted one with the name of a class a line, from class 0 on.")
    classes, templates = names_in(top)
    rows = [row for number, shard in enumerate(shards) for row in _scan(shard, number, len(classes))]
    if not rows:
        raise DataError(f"{top} holds no picture with a class ({split}); wanted KEY.jpg, .png or .webp beside KEY.cls.")
    keys, places, answers = zip(*rows, strict=True)

    def read(place: int) -> bytes:
        shard, offset, size = places[place]
        with open(shards[shard], "rb") as file:
            file.seek(offset)
            return file.read(size)

    return Labelled(Pictures(keys, read, identity, split), classes, np.array(answers, np.int64), templates)


def names_in(top: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The class names and the templates that lie in a folder of shards; () for what is not there."""
    templates = (line.replace("{c}", "{}") for line in _lines(top / TEMPLATES))
    return tuple(_lines(top / CLASSES)), tuple(templates)


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        return []
    return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def _scan(path: Path, number: int, classes: int) -> list[tuple[str, tuple[int, int, int], int]]:
    """(key, (shard, offset, size), class) of each picture."""
    pictures: dict[str, tuple[int, int, int]] = {}
    answers: dict[str, int] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                key, _, suffix = member.name.rpartition(".")
                if f".{suffix.lower()}" in IMAGE_SUFFIXES:
                    pictures[key] = (number, member.offset_data, member.size)
                elif suffix == "cls" and (file := tar.extractfile(member)):
                    answers[key] = _class(file.read(), f"{key} in {path}", classes)
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"{path} cannot be read as a tar shard ({error}); copy or download it again.") from error
    return [(key, pictures[key], answers[key]) for key in pictures if key in answers]


def _class(said: bytes, key: str, classes: int) -> int:
    text = said.decode("utf-8", "replace").strip()
    if not text.isdigit() or int(text) >= classes:
        raise DataError(f"{key} is of class {text[:20]!r}; wanted a number below {classes}, the names in {CLASSES}.")
    return int(text)
