"""How much of an index a search must read for the recall that is wanted: measured on queries whose exact neighbours are
known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.vectors.cells import Cells
from diptych.vectors.product_quantizer import PackedCodes, ProductQuantiser

if TYPE_CHECKING:
    from jaxtyping import Float, Float16, Int64, UInt8

Progress = Callable[[int], None]
# The share of the ten nearest among the candidates. The aim is 0.98 for other queries: 0.985 on 256 was 0.979 on 500.
TARGET_RECALL = 0.99
RECALL_AT = 10
LONG_LIST = 100  # the other list length that candidates are measured for
SAMPLE_STEP = 100  # the ten nearest of every hundredth row are about as deep as the thousand nearest of all
MIN_SAMPLE = 200  # rows
CELL_RECALLS = (0.992, 0.995, 0.998)  # shares of the neighbours in the cells that are read, to choose from


@dataclass(frozen=True)
class Trial:
    """Queries (m, d), the rows of their hundred exact neighbours (m, 100), and of their ten among every hundredth row
    (m, 10), best first; the last are empty if these are too few."""

    queries: np.ndarray
    truth: np.ndarray
    sample_truth: np.ndarray

    @classmethod
    def of(
        cls,
        rows: Float16[np.ndarray, "n d"],
        queries: Float[np.ndarray, "m d"],
        *,
        on_progress: Progress = lambda rows: None,
    ) -> Trial:
        """Compares all rows."""
        truth = exact_neighbours(rows, queries, count=LONG_LIST, on_progress=on_progress)
        sample = rows[::SAMPLE_STEP] if len(rows) >= SAMPLE_STEP * MIN_SAMPLE else rows[:0]
        if not len(sample):
            return cls(queries, truth, np.empty((len(queries), 0), np.int64))
        return cls(queries, truth, exact_neighbours(sample, queries) * SAMPLE_STEP)

    def candidates(
        self, quantiser: ProductQuantiser, parts: Sequence[PackedCodes], codes: UInt8[np.ndarray, "n bytes"], most: int
    ) -> tuple[list[float], float]:
        """How many of the best codes of all rows must be compared exactly, by depth (infinite if `most` do not
        suffice), and the recall at ten."""
        rotated = np.ascontiguousarray(self.queries @ quantiser.rotation)
        ranks = candidate_ranks(parts, rotated, self.truth, most=most)
        ten, hundred = needed(ranks[:, :RECALL_AT]), min(most, needed(ranks))
        recall = float((ranks[:, :RECALL_AT] <= ten).mean())
        if not self.sample_truth.size:
            return [ten, hundred, hundred * max(1, hundred / ten)], recall
        sample = PackedCodes(quantiser, codes, np.arange(0, len(codes), SAMPLE_STEP))
        deep = needed(candidate_ranks([sample], rotated, self.sample_truth // SAMPLE_STEP, most=sample.count))
        return [ten, hundred, deep * SAMPLE_STEP], recall

    def probes(
        self,
        quantiser: ProductQuantiser,
        cells: Cells,
        codes: UInt8[np.ndarray, "n bytes"],
        cost_ms: Callable[[float, float], float],
    ) -> tuple[Probing, Probing, int]:
        """How many cells must be read for ten and for a hundred neighbours, and for a thousand. `cost_ms` is that of a
        search that reads so many rows of cells and compares so many exactly; the cheapest number is chosen."""
        rotated = np.ascontiguousarray(self.queries @ quantiser.rotation)
        cell_ranks = np.empty((len(rotated), cells.count), np.int64)
        for at, query in enumerate(rotated):
            found = cells.nearest(query, cells.count)
            cell_ranks[at] = cells.count  # FAISS leaves out those of the least score
            cell_ranks[at, found] = np.arange(1, len(found) + 1)

        def ranks_of(truth: np.ndarray) -> np.ndarray:
            return np.take_along_axis(cell_ranks, cells.of_rows[truth].astype(np.int64), axis=1)

        def chosen(truth: np.ndarray) -> Probing:
            counts = {quantile(ranks_of(truth), recall) for recall in CELL_RECALLS}
            return min(
                (probing(quantiser, cells, codes, rotated, truth, int(count), cost_ms) for count in counts),
                key=lambda one: one.cost_ms,
            )

        deep = self.sample_truth if self.sample_truth.size else self.truth
        return chosen(self.truth[:, :RECALL_AT]), chosen(self.truth), int(quantile(ranks_of(deep), CELL_RECALLS[1]))


class Probing(NamedTuple):
    """A number of cells to read, of candidates to compare exactly (infinite if no number suffices), the recall, and the
    cost of a search on one core."""

    probes: int
    candidates: float
    recall: float
    cost_ms: float


def probing(
    quantiser: ProductQuantiser,
    cells: Cells,
    codes: UInt8[np.ndarray, "n bytes"],
    rotated: Float[np.ndarray, "m rotated"],
    truth: Int64[np.ndarray, "m k"],
    probes: int,
    cost_ms: Callable[[float, float], float],
) -> Probing:
    """What reading that many cells needs. `rotated` are queries after the quantiser's rotation."""
    ranks, read = np.full(truth.shape, np.inf), 0
    for at, query in enumerate(rotated):
        rows = cells.rows(cells.nearest(query, probes))
        ranked = rows[PackedCodes(quantiser, codes, rows).search(query, len(rows))]
        _, here, there = np.intersect1d(truth[at], ranked, return_indices=True)
        ranks[at, here] = there + 1
        read += len(rows)
    candidates = needed(ranks)
    cost = cost_ms(read / len(rotated), candidates)
    return Probing(probes, candidates, float((ranks <= candidates).mean()), cost)


def candidate_ranks(
    parts: Sequence[PackedCodes],
    rotated: Float[np.ndarray, "m rotated"],
    truth: Int64[np.ndarray, "m k"],
    *,
    most: int,
) -> Float[np.ndarray, "m k"]:
    """The number of candidates from which on each exact neighbour is among them; infinite if `most` do not suffice.

    Every part of the codes supplies the same share of the candidates, so a rank within a part counts times the number
    of parts.
    """
    ranks = np.full(truth.shape, np.inf)
    for at, query in enumerate(rotated):
        start = 0
        for part in parts:
            found = part.search(query, -(-most // len(parts))) + start
            _, here, there = np.intersect1d(truth[at], found, return_indices=True)
            ranks[at, here] = (there + 1) * len(parts)
            start += part.count
    return ranks


def needed(ranks: Float[np.ndarray, "m k"]) -> float:
    """How many candidates contain `TARGET_RECALL` of the neighbours, given the rank (from 1) of each among the
    candidates."""
    return quantile(ranks, TARGET_RECALL)


def quantile(ranks: np.ndarray, share: float) -> float:
    """The rank up to which that share of these lies."""
    return float(np.ceil(np.quantile(ranks, share, method="inverted_cdf")))


def exact_neighbours(
    rows: Float16[np.ndarray, "n d"],
    queries: Float[np.ndarray, "m d"],
    *,
    count: int = RECALL_AT,
    on_progress: Progress = lambda rows: None,
) -> Int64[np.ndarray, "m k"]:
    """Each query's nearest rows, best first, by comparing all rows."""
    scores = np.empty((len(queries), 0), np.float32)
    found = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(rows), 8192):
        block = rows[start : start + 8192].astype(np.float32)
        new = queries @ block.T
        top = np.argpartition(-new, min(count, len(block)) - 1, axis=1)[:, :count]
        scores = np.hstack([scores, np.take_along_axis(new, top, 1)])
        found = np.hstack([found, top + start])
        order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        scores, found = np.take_along_axis(scores, order, 1), np.take_along_axis(found, order, 1)
        on_progress(len(block))
    return found
