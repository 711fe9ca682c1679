"""The nearest of many vectors to several queries, computed block by block."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Int64


def top_k(
    blocks: Iterable[tuple[Int64[np.ndarray, " n"], Float[np.ndarray, "n dim"]]],
    queries: Float[np.ndarray, "queries dim"],
    count: int,
) -> list[tuple[Int64[np.ndarray, " m"], Float[np.ndarray, " m"]]]:
    """Each query's `count` best ids and cosines, best first; fewer if there are fewer. `blocks` are ids, ascending, and
    their vectors."""
    best_ids, best = np.full((len(queries), count), -1), np.full((len(queries), count), -np.inf, np.float32)
    for ids, vectors in blocks:
        cosines = np.hstack([best, queries @ np.asarray(vectors, np.float32).T])
        rows = np.hstack([best_ids, np.broadcast_to(ids, (len(queries), len(ids)))])
        order = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        best, best_ids = np.take_along_axis(cosines, order, 1), np.take_along_axis(rows, order, 1)
    order = np.lexsort((best_ids, -best), axis=1)
    best, best_ids = np.take_along_axis(best, order, 1), np.take_along_axis(best_ids, order, 1)
    return [(near[near >= 0], cosines[near >= 0]) for near, cosines in zip(best_ids, best, strict=True)]
