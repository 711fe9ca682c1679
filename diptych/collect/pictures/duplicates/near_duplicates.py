"""Which pictures are copies of others: hashes and vectors propose them, and their pixels decide."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diptych.collect.pictures.duplicates.near_hashes import HashIndex
from diptych.collect.pictures.looks import Looks
from diptych.scoring.same_picture import SAME, Shape, agreement

if TYPE_CHECKING:
    from diptych.vectors.nearest import VectorIndex

# Of 24.5 million pairs of different photographs of Flickr8k, 12 are as near as this, and no look at them agrees by more
# than .3; of copies in other formats and sizes, all are, and none agrees by less than .93.
HASH_DISTANCE = 10
COSINE = 0.85  # as `diptych index duplicates`: see bench/duplicates.py
_PROPOSED = 16  # the most that are looked at for one picture, by hash and by vector
_SHAPES = 512  # kept in memory, 130 kB each


class Copies:
    """Tells whether a picture is a copy of one that was added before: in another size or compression, with a mark or
    cropped a little. Pictures are the rows of `looks`."""

    def __init__(self, looks: Looks, vectors: VectorIndex | None = None):
        """With `vectors`, of the same rows, those that are near by vector are looked at as well: mirrored ones, and
        those that are cropped more."""
        self._looks, self._vectors = looks, vectors
        self._index, self._rows = HashIndex(HASH_DISTANCE), list[int]()
        self._is_added = np.zeros(looks.rows, bool)
        self._shape = lru_cache(_SHAPES)(lambda row: Shape(looks.grey(row)))

    def add(self, row: int, perceptual_hash: int) -> None:
        """Add a picture, which later ones may be copies of."""
        self._index.add(perceptual_hash)
        self._rows.append(row)
        self._is_added[row] = True

    def copied(self, row: int, perceptual_hash: int) -> int | None:
        """The row of the picture that this one is a copy of, or None."""
        numbers, _ = self._index.near(perceptual_hash)
        proposed = [self._rows[number] for number in numbers[:_PROPOSED]]
        proposed += self._near_by_vector(row, proposed)
        return next((other for other in proposed if self._is_same(row, other)), None)

    def _near_by_vector(self, row: int, seen: list[int]) -> list[int]:
        if self._vectors is None:
            return []
        near = self._vectors.search(self._looks.vector(row), _PROPOSED + 1)
        rows = [int(other) for other, cosine in zip(near.ids, near.cosines, strict=True) if cosine >= COSINE]
        return [other for other in rows if self._is_added[other] and other not in seen]

    def _is_same(self, row: int, other: int) -> bool:
        return agreement(self._shape(other), self._shape(row)) >= SAME


def vector_index(looks: Looks, folder: Path) -> VectorIndex | None:
    """An index of the vectors of all pairs that are not left out already, in a folder; None if there are none."""
    from diptych.vectors.nearest import VectorIndex

    dim = max((look.vectors.shape[1] for look in looks), default=0)
    if not dim:
        return None
    return VectorIndex.build_blocks(folder, looks.blocks(), dim=dim, stamp="filter")
