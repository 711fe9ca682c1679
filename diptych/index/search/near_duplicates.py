"""Finds near-duplicate pictures: copies, other sizes, other compressions, small crops. Vectors propose them, and their
pixels decide."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.errors import ArgumentError
from diptych.index.search.compared_pictures import ComparedPictures, FolderIndex, ServersIndex, pictures_of
from diptych.scoring.same_picture import SAME, Shape, agreement
from diptych.scoring.zero_shot import cosines, unit

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from diptych.index.catalog.validation import Item

THRESHOLD = 0.85  # of pictures that are looked at: see bench/duplicates.py
# Of pictures that cannot be read. With the bundled model nine in ten of crops, recompressed and small copies reach it,
# and one in a thousand pictures has another one there.
VECTORS_ALONE = 0.92
_PATIENCE = 100  # pictures, the nearest first, that are no copies of one before its farther ones are left out
_SHAPES = 512  # kept in memory, 130 kB each
BLOCK = 2048  # rows per comparison: 17 MB of cosines
_LONG = 2048  # dimensions
_HEAD = 4  # bounds are computed on a quarter of the dimensions
_ROUNDING = 2e-3  # of float16 vectors
Progress = Callable[[int, int], None]


class Copy(NamedTuple):
    """A file of a group. `cosine` is that to the group's first file. Sizes are None if unknown."""

    path: Path
    cosine: float
    width: int | None
    height: int | None
    size: int
    id: int


class Duplicates(NamedTuple):
    """Groups of files that show the same picture, the largest first, each led by the file to keep (most pixels, then
    most bytes). `searched` is the number of pictures that were compared, `unread` that of those among them that are
    near another but could not be read: their vectors alone decide."""

    groups: list[list[Copy]]
    searched: int
    unread: int = 0


def find_duplicates(
    index: FolderIndex | ServersIndex,
    *,
    threshold: float = THRESHOLD,
    progress: Progress | None = None,
    on_read: Progress | None = None,
) -> Duplicates:
    """Group an index's pictures that are the same but for size, compression, colour, cropped edges, a mark or left and
    right, and videos of equal bytes.

    Pictures whose vectors have a cosine of `threshold` or more are compared by their pixels, which are read once (see
    `diptych.scoring.same_picture`); where one cannot be read, a cosine of VECTORS_ALONE decides. Every picture of a
    group is a copy of its first: deleting all others loses nothing. Files deleted since the last update are in no
    group, and a file with several names, by links, counts once. Of an index at an address without a folder of pictures
    none is read: vectors decide, and every file counts. `progress` gets (done, total) of the comparisons of
    vectors, `on_read` of the pictures read. Raises ValueError unless 0 < threshold <= 1.
    """
    if not 0 < threshold <= 1:
        raise ArgumentError(
            f"threshold is {threshold:g}; wanted a cosine above 0, up to 1 ({THRESHOLD:g} finds copies)."
        )
    pictures = pictures_of(index)
    ids = pictures.ids()
    vectors = unit(pictures.vectors_of(ids.tolist()).astype(np.float32))
    alike = [
        pictures.files(pictures.items(ids[group].tolist()))
        for group in group_alike(vectors, threshold, progress=progress)
    ]  # fmt: skip
    alike = [items for items in alike if len(items) > 1]
    seen = [item for items in alike if len({item.digest or item.id for item in items}) > 1 for item in items]
    looks = _Looks(pictures, seen, threshold, on_read)
    groups = [group for items in alike for group in looks.groups(items)]
    groups += [pictures.files(pictures.items(group)) for group in pictures.equal_videos()]
    copies = [_copies(pictures, group) for group in groups if len(group) > 1]
    return Duplicates(sorted(copies, key=len, reverse=True), len(ids), looks.unread)


class _Looks:
    """Tells copies from pictures whose vectors are alike."""

    def __init__(self, pictures: ComparedPictures, items: Sequence[Item], threshold: float, on_read: Progress | None):
        self._greys = pictures.greys(items, on_read)
        self._pictures, self._threshold = pictures, threshold
        self._shape = lru_cache(_SHAPES)(lambda id: Shape(self._greys[id]))
        self.unread = len(items) - len(self._greys)

    def groups(self, items: Sequence[Item]) -> Iterator[list[Item]]:
        """Groups of copies of their first item, which is the first of `items` that is in no other group."""
        vectors = unit(self._pictures.vectors_of([item.id for item in items]).astype(np.float32))
        left = np.arange(len(items))
        while len(left):
            first, left = int(left[0]), left[1:]
            group = self._copies(items, vectors, first, left)
            left = left[~np.isin(left, group)]
            yield [items[at] for at in sorted([first, *group])]

    def _copies(self, items: Sequence[Item], vectors: np.ndarray, first: int, others: np.ndarray) -> list[int]:
        """The copies of the first among the others: those near it, and those near one of its copies."""
        found, asked = list[int](), np.zeros(len(others), bool)
        for near in chain([first], found):  # which grows meanwhile
            if asked.all():
                break
            cosines, refused = vectors[others] @ vectors[near], 0
            for at in np.argsort(-cosines, kind="stable"):
                if cosines[at] < self._threshold - _ROUNDING or refused == _PATIENCE:
                    break
                if asked[at]:
                    continue
                asked[at] = True
                other = int(others[at])
                if self._is_copy(items[first], items[other], float(vectors[first] @ vectors[other])):
                    found.append(other)
                else:
                    refused += 1
        return found

    def _is_copy(self, one: Item, other: Item, cosine: float) -> bool:
        if one.digest and one.digest == other.digest:
            return True
        if one.id in self._greys and other.id in self._greys:
            return agreement(self._shape(one.id), self._shape(other.id)) >= SAME
        return cosine >= max(VECTORS_ALONE, self._threshold) - _ROUNDING


def group_alike(
    vectors: Float[np.ndarray, "items dim"], threshold: float, *, progress: Progress | None = None
) -> list[Int[np.ndarray, "members"]]:
    """The connected components of two or more unit vectors, linked by cosines of `threshold` or more, as row
    numbers."""
    labels = np.arange(len(vectors))
    if len(vectors) > 1:
        for rows, columns in _pairs(vectors, threshold - _ROUNDING, progress):
            labels = _joined(labels, rows, columns)
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order])) + 1
    return [group for group in np.split(order, starts) if len(group) > 1]


def _pairs(vectors: np.ndarray, least: float, progress: Progress | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of row numbers (i, j), i < j, whose cosine is `least` or more.

    In the vectors' principal axes most of a vector's length is in its first components, the head. By the Cauchy-Schwarz
    inequality a cosine is at most head · head + |tail| |tail|. With the tail's length as one more component this is one
    product of a quarter of the size, and only pairs whose bound reaches `least` are compared in full.
    """
    bounds, count = _bounds(vectors), len(vectors)
    starts = range(0, count, BLOCK)
    total, done = len(starts) * (len(starts) + 1) // 2, 0
    for top in starts:
        for left in range(top, count, BLOCK):
            yield _alike(vectors, bounds, slice(top, top + BLOCK), slice(left, left + BLOCK), least)
            done += 1
            if progress:
                progress(done, total)


def _alike(
    vectors: np.ndarray, bounds: np.ndarray, top: slice, left: slice, least: float
) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of one block."""
    rows, columns = _where(bounds[top] @ bounds[left].T >= least)
    if len(rows) > BLOCK:  # then a full product is faster
        rows, columns = _where(vectors[top] @ vectors[left].T >= least)
    else:
        cosines = np.einsum("nd,nd->n", vectors[top][rows], vectors[left][columns])
        rows, columns = rows[cosines >= least], columns[cosines >= least]
    rows, columns = rows + top.start, columns + left.start
    return rows[rows < columns], columns[rows < columns]


def _where(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """np.nonzero for a nearly empty matrix, ten times as fast."""
    return np.divmod(np.flatnonzero(mask), mask.shape[1])


def _bounds(vectors: np.ndarray) -> np.ndarray:
    """Heads and the lengths of the tails, (items, head + 1)."""
    kept = max(1, vectors.shape[1] // _HEAD)
    if vectors.shape[1] <= _LONG:
        sample = vectors[:: max(1, len(vectors) // 20_000)].astype(np.float64)
        axes = np.linalg.eigh(sample.T @ sample)[1][:, ::-1].astype(np.float32)  # largest eigenvalue first
        head = vectors @ axes[:, :kept]
    else:  # the bound holds for any axes; the principal ones cost O(d^3)
        head = vectors[:, :kept]
    tail = np.sqrt(np.maximum(0, 1 - (head * head).sum(axis=1, keepdims=True))) + 1e-4  # so that rounding loses no pair
    return np.hstack([head, tail]).astype(np.float32)


def _joined(labels: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Labels after joining these pairs, each group labelled by its smallest row: union-find, with all pairs of a round
    at once."""
    while True:
        one, other = labels[rows], labels[columns]
        apart = one != other
        if not apart.any():
            return labels
        low, high = np.minimum(one, other)[apart], np.maximum(one, other)[apart]
        np.minimum.at(labels, high, low)
        while (labels[labels] != labels).any():
            labels = labels[labels]


def _copies(pictures: ComparedPictures, items: Sequence[Item]) -> list[Copy]:
    vectors = unit(pictures.vectors_of([item.id for item in items]).astype(np.float32))
    similarity = cosines(vectors, vectors[:1])[:, 0]
    return [
        Copy(pictures.path_of(item.path), float(cosine), item.details.width, item.details.height, item.size, item.id)
        for item, cosine in zip(items, similarity, strict=True)
    ]
