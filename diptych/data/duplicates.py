"""Finds identical pictures and near duplicates: re-encoded, resized, slightly changed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from jaxtyping import UInt8

GREY_PX = 16
MAX_DISTANCE, MIN_CORRELATION = 8.0, 0.98  # root mean square difference of levels 0 to 255; correlation
_FLAT, _CHUNK = 2.0, 512


def small_grey(image: Image.Image) -> UInt8[np.ndarray, "16 16"]:
    """The picture in 16 x 16 grey pixels, by which near duplicates are compared."""
    return np.asarray(image.convert("L").resize((GREY_PX, GREY_PX), Image.Resampling.BOX))


def same(values: Iterable[Hashable]) -> list[list[int]]:
    """The indices of equal values, for each value that occurs twice or more."""
    groups: defaultdict[Hashable, list[int]] = defaultdict(list)
    for index, value in enumerate(values):
        groups[value].append(index)
    return [group for group in groups.values() if len(group) > 1]


def nearly_same(greys: UInt8[np.ndarray, "n 16 16"]) -> list[list[int]]:
    """Groups of pictures whose small greys differ by at most MAX_DISTANCE and correlate by MIN_CORRELATION or more.

    All pairs are compared, in blocks: comparing 10,000 pictures takes about as long as reading 1,000.
    """
    flat = greys.reshape(len(greys), -1).astype(np.float32)
    lengths = (flat**2).sum(axis=1)
    parent = np.arange(len(greys))
    for start in range(0, len(flat), _CHUNK):
        rows = slice(start, start + _CHUNK)
        distances = lengths[rows, None] + lengths[None, start:] - 2 * flat[rows] @ flat[start:].T
        for row, column in np.argwhere(distances <= flat.shape[1] * MAX_DISTANCE**2) + start:
            if row < column and _correlate(flat[row], flat[column]):
                parent[_root(parent, int(column))] = _root(parent, int(row))
    return same(_root(parent, index) for index in range(len(greys)))


def _correlate(one: np.ndarray, two: np.ndarray) -> bool:
    """Whether two similar grey versions also correlate; otherwise all white pages would be duplicates."""
    if min(one.std(), two.std()) < _FLAT:
        return max(one.std(), two.std()) < _FLAT
    covariance = ((one - one.mean()) * (two - two.mean())).mean()
    return bool(covariance >= MIN_CORRELATION * one.std() * two.std())


def _root(parent: np.ndarray, index: int) -> int:
    while parent[index] != index:
        parent[index] = parent[parent[index]]
        index = int(parent[index])
    return index


def repeated(captions: Sequence[Sequence[str]]) -> list[tuple[str, int]]:
    """Captions shared by several pictures, with the number of pictures, most frequent first."""
    counts = Counter(caption for several in captions for caption in set(several))
    return [(caption, count) for caption, count in counts.most_common() if count > 1]
