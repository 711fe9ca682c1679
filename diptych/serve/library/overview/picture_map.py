"""Every picture as a point; those that are alike are near."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.index.search.filters import Filters
from diptych.serve.library.items import found, ids_in_order, version_of

if TYPE_CHECKING:
    from diptych.index.local import LocalIndex
    from diptych.serve.library.jobs import Progress

_BLOCK = 8192
_EDGE = 1.0  # percent of the points at either side that are drawn at the edge, so that a stray one squeezes no others


class PictureMap(NamedTuple):
    """Pictures as points: ids (n,), positions (n, 2) from 0 to 1, width / height (n,), and versions."""

    ids: np.ndarray
    positions: np.ndarray
    aspects: np.ndarray
    versions: list[str]

    def packed(self) -> bytes:
        """Rows of uint32 id, float32 x, y and aspect, little-endian."""
        rows = np.empty(len(self.ids), np.dtype([("id", "<u4"), ("x", "<f4"), ("y", "<f4"), ("aspect", "<f4")]))
        rows["id"], rows["aspect"] = self.ids, self.aspects
        rows["x"], rows["y"] = self.positions.T
        return rows.tobytes()


def picture_map(index: LocalIndex, progress: Progress) -> PictureMap:
    """Every picture and film at the position of its vector in the two principal components of all."""
    ids = ids_in_order(index, Filters(), "added", "asc")
    items, vectors = [], []
    for start in range(0, len(ids), _BLOCK):
        some = found(index, ids[start : start + _BLOCK].tolist())
        items += some
        vectors.append(index.catalog.vectors_of([item.id for item in some]).astype(np.float32))
        progress(start, len(ids))
    sides = [(item.details.width or 1, item.details.height or 1) for item in items]
    aspects = np.array([width / height for width, height in sides], np.float32)
    positions = principal_positions(np.concatenate(vectors)) if items else np.empty((0, 2), np.float32)
    return PictureMap(np.array([item.id for item in items]), positions, aspects, [version_of(item) for item in items])


def principal_positions(vectors: np.ndarray) -> np.ndarray:
    """The two principal components of vectors (n, dim), each scaled to 0 to 1, (n, 2) float32."""
    centred = vectors - vectors.mean(axis=0)
    axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))[1][:, :-3:-1].astype(np.float32)
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])  # either sign is a solution; this one stays
    projected = centred @ axes
    low, high = np.percentile(projected, [_EDGE, 100 - _EDGE], axis=0)
    return np.clip((projected - low) / np.maximum(high - low, 1e-6), 0, 1).astype(np.float32)
