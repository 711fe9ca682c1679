"""Every picture as a point; those that are alike are near."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.index.filters.filters import Filters
from diptych.serve.library.items import found, ids_in_order, stored_vectors, version_of
from diptych.serve.library.overview.layouts import Layouts, Method
from diptych.serve.library.overview.regions import Region, named_regions
from diptych.serve.library.overview.sizes import check_size

if TYPE_CHECKING:
    from diptych.serve.library.index_pool import AnyIndex
    from diptych.serve.library.jobs import Progress
    from diptych.serve.model.served_model import ServedModel

_BLOCK = 8192


class PictureMap(NamedTuple):
    """Pictures as points: ids (n,), positions (n, 2) from 0 to 1, width / height (n,), versions, and the regions that
    have a name."""

    ids: np.ndarray
    positions: np.ndarray
    aspects: np.ndarray
    versions: list[str]
    regions: list[Region]

    def packed(self) -> bytes:
        """Rows of uint64 id, float32 x, y and aspect, little-endian."""
        rows = np.empty(len(self.ids), np.dtype([("id", "<u8"), ("x", "<f4"), ("y", "<f4"), ("aspect", "<f4")]))
        rows["id"], rows["aspect"] = self.ids, self.aspects
        rows["x"], rows["y"] = self.positions.T
        return rows.tobytes()


def picture_map(
    index: AnyIndex, model: ServedModel, layouts: Layouts, method: Method, progress: Progress
) -> PictureMap:
    """Every picture and film where its vector lies among all. Raises as `stored_vectors` and `check_size` do."""
    check_size(index, "a map is drawn")
    ids = ids_in_order(index, Filters(), "added", "asc")
    items, blocks = [], []
    for start in range(0, len(ids), _BLOCK):
        some = found(index, ids[start : start + _BLOCK].tolist())
        items += some
        blocks.append(stored_vectors(index, [item.id for item in some], np.float16))
        progress(start, len(ids))
    if not items:  # an index of nothing, or of rows that are not valid
        return PictureMap(ids[:0], np.empty((0, 2), np.float32), np.empty(0, np.float32), [], [])
    vectors = np.concatenate(blocks)
    sides = [(item.details.width or 1, item.details.height or 1) for item in items]
    aspects = np.array([width / height for width, height in sides], np.float32)
    points = layouts.points(vectors, method, progress)
    regions = named_regions(model, vectors, points)
    return PictureMap(
        np.array([item.id for item in items]), points, aspects, [version_of(item) for item in items], regions
    )
