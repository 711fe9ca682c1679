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

    def filtered_candidates(self, k: int, share: float) -> int:
        """Rows to compare exactly of a `share` of all rows, all of whose codes are read. What the rows are about may
        differ from the query, so the share is taken of what is needed where no neighbour is alike: of the deepest."""
        return max(2 * k, int(share * by_depth(self.candidates, max(depth_of(k, share), DEPTHS[2] / DEPTHS[0] * k))))


def depth_of(k: int, share: float) -> float:
    """About the rank among all rows of the k-th of a share that is drawn at random: k / share. With a margin, for that
    rank varies, and beyond a hundred the effort may grow faster than between what was measured."""
    depth = k / share
    return depth * (MARGIN if depth > DEPTHS[1] else min(MARGIN, 1 / share))


def by_depth(measured: tuple[int, int, int], depth: float) -> int:
    """A power law of the depth between what was measured, and beyond it; that of the least depth below it."""
    logs, values = np.log(DEPTHS), np.log(np.maximum.accumulate(np.maximum(measured, 1)))
    wanted = np.log(depth)
    beyond = max(0.0, wanted - logs[-1]) * (values[-1] - values[-2]) / (logs[-1] - logs[-2])
    return int(np.exp(min(np.interp(wanted, logs, values) + beyond, 40)) + 0.5)
