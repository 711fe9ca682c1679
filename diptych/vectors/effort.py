"""How much of an approximate index a search reads: measured when the index is built, for the ten and the hundred
nearest of all rows and for the ten nearest of a hundredth of them, which is as deep as the thousand nearest."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

DEPTHS = (10, 100, 1000)  # neighbours in the whole set
MARGIN = 2


class Effort(NamedTuple):
    """By depth: `probes`, cells to read, `cell_candidates`, the best codes of these to compare exactly, and
    `candidates`, the same where the codes of all rows are read. `probes` are zeros where cells do not pay."""

    probes: tuple[int, int, int]
    cell_candidates: tuple[int, int, int]
    candidates: tuple[int, int, int]

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Effort:
        """Of the facts in a header."""
        return cls(*(tuple(facts[name]) for name in cls._fields))

    def probes_for(self, k: int, share: float) -> int:
        """Cells to read for the `k` nearest of a `share` of all rows."""
        return by_depth(self.probes, _depth(k, share))

    def candidates_for(self, k: int, share: float, *, in_cells: bool) -> int:
        """Rows to compare exactly for the `k` nearest of a `share` of all rows."""
        measured = self.cell_candidates if in_cells else self.candidates
        return max(2 * k, int(share * by_depth(measured, _depth(k, share))))


def _depth(k: int, share: float) -> float:
    """The k-th of a share that is drawn at random has about the rank k / share among all rows, and that share of what
    ranks before it; with a margin, for the rank varies."""
    return k if share >= 1 else k / share * min(MARGIN, 1 / share)


def by_depth(measured: tuple[int, int, int], depth: float) -> int:
    """A power law of the depth between what was measured, and beyond it; that of the least depth below it."""
    logs, values = np.log(DEPTHS), np.log(np.maximum.accumulate(np.maximum(measured, 1)))
    wanted = np.log(depth)
    beyond = max(0.0, wanted - logs[-1]) * (values[-1] - values[-2]) / (logs[-1] - logs[-2])
    return int(np.exp(min(np.interp(wanted, logs, values) + beyond, 40)) + 0.5)
