"""Which files show one shot: copies and links, which have the same bytes, and what a camera writes of one moment (RAW,
HEIC and JPEG under one name)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from diptych.index.catalog.catalog import Item
from diptych.media.scan import RAW_ENDINGS
from diptych.scoring.zero_shot import unit

# What a camera, or the program that fetches pictures from it, writes of one shot: by ending, of what kind
_KINDS = {f".{ending}": "RAW" for ending in RAW_ENDINGS.split("|")}
_KINDS |= {".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".heic": "HEIF", ".heif": "HEIF", ".hif": "HEIF"}
_BETWEEN = "SELECT one.id FROM edges CROSS JOIN files AS one WHERE one.path > low AND one.path < high"
_BATCH = 100  # values in one statement
MIN_COSINE = 0.94  # the cosine from which pictures of one name, and of no date, are one shot


class _ShotCatalog(Protocol):
    def matching(self, condition: str, parameters: Any = ()) -> np.ndarray: ...

    def items(self, ids: Iterable[int]) -> list[Item]: ...

    def vectors_of(self, ids: Iterable[int]) -> np.ndarray: ...


class _CameraFile(NamedTuple):
    """A picture as one of a shot's files: its folder and name without the ending, and of what kind it is."""

    stem: str
    kind: str


def first_per_shot(catalog: _ShotCatalog, items: Iterable[Item]) -> list[Item]:
    """The first item of each shot, of items of one modality in the order of their worth. A copy under another name ties
    what has its bytes to what a camera wrote under that name."""
    firsts: dict[int, Item] = {}  # by id, in order
    first_with = dict[object, int | None]()  # by bytes, the first that shows them; None where another kind stands
    named: dict[object, list[tuple[Item, int]]] = {}  # by each name, the items that have it, and their firsts
    for item in items:
        key, names = _bytes_of(item), list(_names_of(item))
        if key in first_with and first_with[key] not in firsts:
            continue
        there = [(one, first) for name in names for one, first in named.get(name, ()) if first in firsts]
        camera_files = [first for one, first in there if _is_one_shot(catalog, one, item)]
        own = first_with.get(key)
        if own is None and not camera_files:
            firsts[item.id] = item
            own = item.id
        elif own is not None and camera_files:
            order = list(firsts)
            del firsts[max(own, camera_files[0], key=order.index)]
        first_with[key] = own if own in firsts else None
        if own is not None and own in firsts:
            for name in names:
                named.setdefault(name, []).append((item, own))
    return list(firsts.values())


def same_bytes(
    catalog: _ShotCatalog, items: Sequence[Item], condition: str, parameters: Sequence[Any]
) -> list[list[Item]]:
    """For each of these items, of one modality, those of files with its bytes in a catalog, which need not be its own,
    among the files that an SQL condition on `files` lets pass."""
    if not items:
        return []
    same = _ShotLookup(catalog, items[0].modality, condition, parameters, frozenset()).same(items)
    return [same.get(item.digest, []) for item in items]


def copies_of(
    catalog: _ShotCatalog, items: Sequence[Item], condition: str, parameters: Sequence[Any]
) -> list[list[Item]]:
    """For each of these items, of one modality, those of the other files of its shot; as `same_bytes`."""
    if not items:
        return []
    look = _ShotLookup(catalog, items[0].modality, condition, parameters, frozenset(item.id for item in items))
    same = look.same(items)
    shown = [[item, *same.get(item.digest, ())] for item in items]  # under each of its names
    beside = iter(look.beside([one for some in shown for one in some]))
    camera_files = [
        [camera_file for one in some for camera_file in next(beside) if _is_one_shot(catalog, one, camera_file)]
        for some in shown
    ]
    same = look.same(one for some in camera_files for one in some)
    found = [
        [*some[1:], *near, *(copy for camera_file in near for copy in same.get(camera_file.digest, ()))]
        for some, near in zip(shown, camera_files, strict=True)
    ]
    return [list({one.id: one for one in some}.values()) for some in found]


class _ShotLookup(NamedTuple):
    """Where other files of the same shots are looked for; those of the ids `known` are not."""

    catalog: _ShotCatalog
    modality: str
    condition: str
    parameters: Sequence[Any]
    known: frozenset[int]

    def same(self, items: Iterable[Item]) -> dict[bytes | None, list[Item]]:
        """Items of files that have the same bytes as one of these, by digest."""
        digests, found = list({item.digest for item in items if item.digest}), dict[bytes | None, list[Item]]()
        for start in range(0, len(digests), _BATCH):
            some = digests[start : start + _BATCH]
            for item in self._items(f"files.digest IN ({', '.join('?' * len(some))})", some):
                found.setdefault(item.digest, []).append(item)
        return found

    def beside(self, items: Sequence[Item]) -> list[list[Item]]:
        """For each the pictures of the same name but for its ending."""
        stems = [camera_file.stem for item in items if (camera_file := _camera_file(item))]
        by_stem: dict[str, list[Item]] = {stem: [] for stem in stems}
        for start in range(0, len(stems), _BATCH):
            some = stems[start : start + _BATCH]
            edges = [os.fsencode(f"{stem}{edge}") for stem in some for edge in "./"]  # "/" is the letter after "."
            pairs = ", ".join(["(CAST(? AS TEXT), CAST(? AS TEXT))"] * len(some))
            for item in self._items(f"files.id IN (WITH edges(low, high) AS (VALUES {pairs}) {_BETWEEN})", edges):
                if (camera_file := _camera_file(item)) and camera_file.stem in by_stem:
                    by_stem[camera_file.stem].append(item)
        return [by_stem[camera_file.stem] if (camera_file := _camera_file(item)) else [] for item in items]

    def _items(self, where: str, values: Sequence[Any]) -> list[Item]:
        # the plus keeps SQLite from going through all items of the modality
        condition = f"({where}) AND +items.modality = ? AND ({self.condition})"
        ids = self.catalog.matching(condition, [*values, self.modality, *self.parameters]).tolist()
        return self.catalog.items([id for id in ids if id not in self.known])


def _bytes_of(item: Item) -> object:
    """What items have in common that show the same bytes. A video's frames are one whatever they show; a text file's
    paragraphs are told apart by where they stand."""
    if item.kind == "text":
        return item.digest or item.path, item.line
    return item.digest or item.path


def _camera_file(item: Item) -> _CameraFile | None:
    stem, ending = os.path.splitext(item.path)
    kind = _KINDS.get(ending.lower())
    return _CameraFile(stem, kind) if kind and item.kind == "picture" and item.modality == "picture" else None


def _names_of(item: Item) -> Iterator[object]:
    """Under what a shot's other files are looked for: beside it, and anywhere by its name, camera and second."""
    if camera_file := _camera_file(item):
        yield camera_file.stem
        if taken_at := item.details.taken_at:
            yield os.path.basename(camera_file.stem), taken_at, item.details.camera


def _is_one_shot(catalog: _ShotCatalog, one: Item, other: Item) -> bool:
    """Whether two pictures of one name are of two kinds, and of one moment; where a date is missing, alike."""
    first, second = _camera_file(one), _camera_file(other)
    if not first or not second or first.kind == second.kind:
        return False
    dates = one.details.taken_at, other.details.taken_at
    if None not in dates:
        return dates[0] == dates[1]
    vectors = unit(catalog.vectors_of([one.id, other.id]).astype(np.float32))
    return float(vectors[0] @ vectors[1]) >= MIN_COSINE
