"""What a cache holds under an id, without opening it for searches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diptych.errors import VectorFilesError
from diptych.index.caches import directory_of
from diptych.vectors.vector_files import VectorFiles, VectorFilesHeader

if TYPE_CHECKING:
    from jaxtyping import Float16, Int64

    from diptych.media.items import Modality


class CachedRows:
    """The live rows of the cache of a modality in an index directory, read again when the cache has changed."""

    def __init__(self, index_dir: Path, modality: Modality):
        self._directory = directory_of(index_dir, modality)
        self._files: VectorFiles | None = None
        self._ids = self._rows = np.empty(0, np.int64)

    def differ(self, stamp: str, ids: Int64[np.ndarray, " n"], vectors: Float16[np.ndarray, "n d"]) -> bool:
        """Whether the cache of this stamp has another vector under one of these ids. False for a cache that is missing,
        damaged or has another stamp: it will be built again."""
        try:
            files = self._opened()
        except (VectorFilesError, OSError):
            return False
        if files.header.stamp != stamp or files.header.dim != vectors.shape[1] or not len(self._ids):
            return False
        at = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        known = self._ids[at] == ids
        there = files.vectors[self._rows[at[known]]]
        return not np.array_equal(there.view(np.uint16), vectors[known].view(np.uint16))

    def _opened(self) -> VectorFiles:
        header = VectorFilesHeader.read(self._directory)
        if self._files is None or self._files.header != header:
            self._files = None
            files = VectorFiles.open(self._directory)
            is_live = np.ones(files.header.rows, bool)
            is_live[files.content("gone").view("<i8")] = False
            rows = np.flatnonzero(is_live)
            rows = rows[np.argsort(files.ids[rows], kind="stable")]
            self._files, self._ids, self._rows = files, files.ids[rows], rows
        return self._files
