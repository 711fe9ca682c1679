"""Groups the files of one shot: copies and links, which have the same bytes, and the files that a camera writes for one
shot (RAW, HEIC and JPEG of one name)."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.index.catalog.validation import Item
from diptych.media.scanning.suffixes import RAW_SUFFIXES
from diptych.scoring.zero_shot import unit

if TYPE_CHECKING:
    from diptych.index.filters.filters import Filters
    from diptych.index.stores.store import Store
    from diptych.media.items import Modality

# The files that a camera, or its import program, writes for one shot: ending -> kind
_KINDS: dict[str, str] = {**dict.fromkeys(RAW_SUFFIXES, "RAW")}
_KINDS |= {".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".heic": "HEIF", ".heif": "HEIF", ".hif": "HEIF"}
MIN_COSINE = 0.92  # from this cosine, pictures of one name without dates are one shot


class _CameraFile(NamedTuple):
    """A picture's path without its ending, and its kind."""

    stem: str
    kind: str


def first_per_shot(store: Store, items: Iterable[Item]) -> list[Item]:
    """The first item of each shot, of items of one modality in ranked order. A renamed copy links the shot of its bytes
    to the shot of its name."""
    firsts: dict[int, Item] = {}  # by id, in ranked order
    first_with = dict[object, int | None]()  # by bytes, the shot's first; None if another kind replaced it
    named: dict[object, list[tuple[Item, int]]] = {}  # by name, the items with it and their shots' firsts
    for item in items:
        key, names = _bytes_of(item), list(_names_of(item))
        if key in first_with and first_with[key] not in firsts:
            continue
        there = [(one, first) for name in names for one, first in named.get(name, ()) if first in firsts]
        camera_files = [first for one, first in there if _is_one_shot(store, one, item)]
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


def same_bytes(store: Store, items: Sequence[Item], filters: Filters) -> list[list[Item]]:
    """For each of these items, of one modality, the items with the same bytes in a store (its own or another), among
    those that pass the filters."""
    if not items:
        return []
    same = _ShotLookup(store, items[0].modality, filters, frozenset()).same(items)
    return [same.get(item.digest, []) for item in items]


def copies_of(store: Store, items: Sequence[Item], filters: Filters) -> list[list[Item]]:
    """For each of these items, of one modality, the items of the other files of its shot; arguments as for
    `same_bytes`."""
    if not items:
        return []
    alone = store.alone(items[0].modality, filters)
    asked = [item for item in items if item.id not in alone]
    if not asked:
        return [[] for _ in items]
    look = _ShotLookup(store, items[0].modality, filters, frozenset(item.id for item in items))
    found = {item.id: copies for item, copies in zip(asked, _copies(look, asked), strict=True)}
    alone |= _alone(items, [item for item in asked if not found[item.id]])
    return [found.get(item.id, []) for item in items]


def _copies(look: _ShotLookup, items: Sequence[Item]) -> list[list[Item]]:
    same = look.same(items)
    shown = [[item, *same.get(item.digest, ())] for item in items]  # with all its paths
    beside = iter(look.beside([one for some in shown for one in some]))
    camera_files = [
        [camera_file for one in some for camera_file in next(beside) if _is_one_shot(look.store, one, camera_file)]
        for some in shown
    ]
    same = look.same(one for some in camera_files for one in some)
    found = [
        [*some[1:], *near, *(copy for camera_file in near for copy in same.get(camera_file.digest, ()))]
        for some, near in zip(shown, camera_files, strict=True)
    ]
    return [list({one.id: one for one in some}.values()) for some in found]


def _alone(items: Sequence[Item], without: Sequence[Item]) -> set[int]:
    """The pictures among those `without` copies that have none for certain: a lookup leaves out the other `items`."""
    names = Counter(name for item in items for name in (item.digest, os.path.splitext(item.path)[0]))
    return {
        item.id
        for item in without
        if item.kind == "picture" and item.modality == "picture"
        if names[item.digest] == names[os.path.splitext(item.path)[0]] == 1
    }


class _ShotLookup(NamedTuple):
    """Looks up other files of the same shots, except the ids `known`."""

    store: Store
    modality: Modality
    filters: Filters
    known: frozenset[int]

    def same(self, items: Iterable[Item]) -> dict[bytes | None, list[Item]]:
        """Items of files with the same bytes as one of these, by digest."""
        digests, found = {item.digest for item in items if item.digest}, dict[bytes | None, list[Item]]()
        for item in self.store.with_digests(self.modality, digests, self.filters) if digests else ():
            if item.id not in self.known:
                found.setdefault(item.digest, []).append(item)
        return found

    def beside(self, items: Sequence[Item]) -> list[list[Item]]:
        """For each item, the pictures with the same path except for the ending."""
        by_stem: dict[str, list[Item]] = {file.stem: [] for item in items if (file := _camera_file(item))}
        for item in self.store.with_stems(self.modality, by_stem.keys(), self.filters) if by_stem else ():
            if item.id not in self.known and (camera_file := _camera_file(item)):
                by_stem[camera_file.stem].append(item)
        return [by_stem[camera_file.stem] if (camera_file := _camera_file(item)) else [] for item in items]


def _bytes_of(item: Item) -> object:
    """A key that is equal for items with the same content: a video's frames share one, a text file's paragraphs differ
    by line."""
    if item.kind == "text":
        return item.digest or item.path, item.line
    return item.digest or item.path


def _camera_file(item: Item) -> _CameraFile | None:
    return _named_camera_file(item.path) if item.kind == "picture" and item.modality == "picture" else None


@lru_cache(8192)  # a server's searches find the same files again and again
def _named_camera_file(path: str) -> _CameraFile | None:
    stem, ending = os.path.splitext(path)
    kind = _KINDS.get(ending.lower())
    return _CameraFile(stem, kind) if kind else None


def _names_of(item: Item) -> Iterator[object]:
    """Keys under which a shot's other files are found: the path without its ending, and the name with camera and
    time."""
    if camera_file := _camera_file(item):
        yield camera_file.stem
        if taken_at := item.details.taken_at:
            yield os.path.basename(camera_file.stem), taken_at, item.details.camera


def _is_one_shot(store: Store, one: Item, other: Item) -> bool:
    """Whether two pictures of one name are different kinds of the same moment; without dates, similar ones."""
    first, second = _camera_file(one), _camera_file(other)
    if not first or not second or first.kind == second.kind:
        return False
    dates = one.details.taken_at, other.details.taken_at
    if None not in dates:
        return dates[0] == dates[1]
    vectors = unit(store.vectors_of([one.id, other.id]).astype(np.float32))
    return float(vectors[0] @ vectors[1]) >= MIN_COSINE
