"""Finds near-duplicate pictures: copies, other sizes, other compressions, small crops. Vectors propose them, and their
pixels decide."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from diptych.errors import ArgumentError
from diptych.index.catalog.validation import VALID_FILE, valid_vector
from diptych.index.search.small_greys import small_greys
from diptych.media.scanning.path_patterns import inside
from diptych.scoring.same_picture import SAME, Shape, agreement
from diptych.scoring.zero_shot import cosines, unit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jaxtyping import Float, Int

    from diptych.index.catalog.catalog import Item

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


class _PictureIndex(Protocol):
    @property
    def catalog(self) -> Any: ...

    @property
    def subfolder(self) -> str: ...

    @property
    def root(self) -> Path: ...

    @property
    def rules(self) -> Any: ...

    def nearest(self, modality: Any) -> Any: ...

    def path_of(self, path: str) -> Path: ...


def find_duplicates(
    index: _PictureIndex,
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
    group, and a file with several names, by links, counts once. `progress` gets (done, total) of the comparisons of
    vectors, `on_read` of the pictures read. Raises ValueError unless 0 < threshold <= 1.
    """
    if not 0 < threshold <= 1:
        raise ArgumentError(
            f"threshold is {threshold:g}; wanted a cosine above 0, up to 1 ({THRESHOLD:g} finds copies)."
        )
    here, folder = inside(index.subfolder)
    pictures = f"files.kind = 'picture' AND items.modality = 'picture' AND {valid_vector(index.catalog.dim)}"
    ids = index.catalog.matching(f"{pictures} AND {VALID_FILE} AND {here}", folder)
    vectors = unit(index.catalog.vectors_of(ids).astype(np.float32))
    alike = [
        _files(index, index.catalog.items(ids[group]))
        for group in group_alike(vectors, threshold, progress=progress)
    ]  # fmt: skip
    alike = [items for items in alike if len(items) > 1]
    seen = [item for items in alike if len({item.digest for item in items}) > 1 for item in items]
    looks = _Looks(index, seen, threshold, on_read)
    groups = [group for items in alike for group in looks.groups(items)]
    groups += [_files(index, index.catalog.items(group)) for group in _equal_videos(index)]
    copies = [_copies(index, group) for group in groups if len(group) > 1]
    return Duplicates(sorted(copies, key=len, reverse=True), len(ids), looks.unread)


class _Looks:
    """Tells copies from pictures whose vectors are alike."""

    def __init__(self, index: _PictureIndex, items: Sequence[Item], threshold: float, on_read: Progress | None):
        self._greys = small_greys(index, items, progress=on_read)
        self._index, self._threshold = index, threshold
        self._shape = lru_cache(_SHAPES)(lambda id: Shape(self._greys[id]))
        self.unread = len(items) - len(self._greys)

    def groups(self, items: Sequence[Item]) -> Iterator[list[Item]]:
        """Groups of copies of their first item, which is the first of `items` that is in no other group."""
        vectors = unit(self._index.catalog.vectors_of([item.id for item in items]).astype(np.float32))
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
        if one.digest == other.digest:
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


def _equal_videos(index: _PictureIndex) -> list[list[int]]:
    """The ids of one frame of each video that has the same bytes as another."""
    here, folder = inside(index.subfolder)
    same = (
        "files.kind = 'video' AND items.modality = 'picture' AND files.digest IN "
        f"(SELECT digest FROM files WHERE kind = 'video' AND {here} GROUP BY digest HAVING count(*) > 1) AND {here}"
    )
    groups: dict[bytes, dict[str, int]] = {}
    for item in index.catalog.items(index.catalog.matching(same, [*folder, *folder])):
        groups.setdefault(item.digest, {}).setdefault(item.path, item.id)
    return [list(group.values()) for group in groups.values()]


def _copies(index: _PictureIndex, items: Sequence[Item]) -> list[Copy]:
    vectors = unit(index.catalog.vectors_of([item.id for item in items]).astype(np.float32))
    similarity = cosines(vectors, vectors[:1])[:, 0]
    return [
        Copy(index.path_of(item.path), float(cosine), item.details.width, item.details.height, item.size, item.id)
        for item, cosine in zip(items, similarity, strict=True)
    ]


def _files(index: _PictureIndex, items: Iterable[Item]) -> list[Item]:
    """One item for each existing file. A file with several names gets the first that is not a link, whose deletion
    would leave links dangling."""
    named: dict[tuple[int, int], Item] = {}
    for item in sorted(items, key=_rank):
        path = index.path_of(item.path)
        with contextlib.suppress(OSError):
            status = path.stat()
            file = status.st_dev, status.st_ino
            if file not in named or (index.path_of(named[file].path).is_symlink() and not path.is_symlink()):
                named[file] = item
    return sorted(named.values(), key=_rank)


def _rank(item: Item) -> tuple[int, int, str]:
    """The sort key of the file to keep: most pixels, then most bytes, then by name."""
    return -(item.details.width or 0) * (item.details.height or 0), -item.size, item.path
