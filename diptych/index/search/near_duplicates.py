"""Finds near-duplicate pictures: copies, other sizes, other compressions, small crops."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from diptych.errors import ArgumentError
from diptych.index.catalog.validation import VALID_FILE, valid_vector
from diptych.media.scanning.path_patterns import inside
from diptych.scoring.zero_shot import cosines, unit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jaxtyping import Float, Int

    from diptych.index.catalog.catalog import Item

# With the bundled model nine in ten of crops, recompressed and small copies reach 0.925, and one in a thousand pictures
# has another one there: bench/duplicates.py.
THRESHOLD = 0.92
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
    most bytes). `searched` is the number of pictures that were compared."""

    groups: list[list[Copy]]
    searched: int


class _PictureIndex(Protocol):
    @property
    def catalog(self) -> Any: ...

    @property
    def subfolder(self) -> str: ...

    def nearest(self, modality: Any) -> Any: ...

    def path_of(self, path: str) -> Path: ...


def find_duplicates(
    index: _PictureIndex, *, threshold: float = THRESHOLD, progress: Progress | None = None
) -> Duplicates:
    """Group an index's pictures whose vectors have a cosine of `threshold` or more, and videos of equal bytes.

    Groups are connected components: a picture is grouped with all similar pictures, and with those similar to these.
    Deleting all files of a group but the first loses nothing: files deleted since the last update are in no group, and
    a file with several names, by links, counts once. `progress` gets (done, total) of the comparisons. Raises
    ValueError unless 0 < threshold <= 1.
    """
    if not 0 < threshold <= 1:
        raise ArgumentError(
            f"threshold is {threshold:g}; wanted a cosine above 0, up to 1 ({THRESHOLD:g} finds copies)."
        )
    here, folder = inside(index.subfolder)
    pictures = f"files.kind = 'picture' AND items.modality = 'picture' AND {valid_vector(index.catalog.dim)}"
    ids = index.catalog.matching(f"{pictures} AND {VALID_FILE} AND {here}", folder)
    vectors = unit(index.catalog.vectors_of(ids).astype(np.float32))
    groups = [ids[group] for group in group_alike(vectors, threshold, progress=progress)]
    copies = [_sorted_copies(index, group) for group in groups]
    copies += [_sorted_copies(index, group) for group in _equal_videos(index)]
    return Duplicates(sorted((group for group in copies if len(group) > 1), key=len, reverse=True), len(ids))


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


def _sorted_copies(index: _PictureIndex, ids: Iterable[int]) -> list[Copy]:
    items = _files(index, sorted(index.catalog.items(ids), key=_rank))
    vectors = unit(index.catalog.vectors_of([item.id for item in items]).astype(np.float32))
    similarity = cosines(vectors, vectors[:1])[:, 0] if len(items) else ()
    return [
        Copy(index.path_of(item.path), float(cosine), item.details.width, item.details.height, item.size, item.id)
        for item, cosine in zip(items, similarity, strict=True)
    ]


def _files(index: _PictureIndex, items: Iterable[Item]) -> list[Item]:
    """One item for each existing file. A file with several names gets the first that is not a link, whose deletion
    would leave links dangling."""
    named: dict[tuple[int, int], Item] = {}
    for item in items:
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
