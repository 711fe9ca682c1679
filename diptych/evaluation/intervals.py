"""Bootstrap confidence intervals of means over items: percentile intervals (Efron and Tibshirani 1993, chapter 13)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.errors import ArgumentError

if TYPE_CHECKING:
    from jaxtyping import Float, Int

DRAWS = 10_000
LEVEL = 0.95
_FEW = 64  # different values; right and wrong are two, and their differences three
_AT_ONCE = 2**22  # numbers drawn at a time


class Interval(NamedTuple):
    """A mean, and where it lies with the confidence asked for."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside, its bounds not counted."""
        return self.low > 0 or self.high < 0


def mean_interval(
    values: Float[np.ndarray, " items"],
    groups: Int[np.ndarray, " items"] | None = None,
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """Of a mean over items. Items that go together, such as the captions of one picture, have the same number in
    `groups`: whole groups are then drawn. Raises ArgumentError where there are no items, or not a group for each."""
    values = np.asarray(values, np.float64)
    if not len(values) or (groups is not None and len(groups) != len(values)):
        raise ArgumentError(f"{len(values)} values and {'no' if groups is None else len(groups)} groups; wanted some.")
    generator = np.random.default_rng(seed)
    drawn = _means(values, draws, generator) if groups is None else _grouped(values, groups, draws, generator)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high))


def paired_interval(
    first: Float[np.ndarray, " items"],
    second: Float[np.ndarray, " items"],
    groups: Int[np.ndarray, " items"] | None = None,
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """Of the mean of second - first, the numbers of two models on the same items in the same order. What both find hard
    or easy cancels, so it is narrower than two intervals suggest. Raises ArgumentError where the lengths differ."""
    if len(first) != len(second):
        raise ArgumentError(f"{len(first)} items and {len(second)}; wanted the same ones.")
    differences = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    return mean_interval(differences, groups, level=level, draws=draws, seed=seed)


def _means(values: np.ndarray, draws: int, generator: np.random.Generator) -> np.ndarray:
    """The means of samples of as many, with replacement. Of few different values only their counts need drawing."""
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= _FEW:
        return generator.multinomial(len(values), counts / len(values), size=draws) @ distinct / len(values)
    return np.concatenate([values[at].mean(axis=1) for at in _samples(len(values), draws, generator)])


def _grouped(values: np.ndarray, groups: np.ndarray, draws: int, generator: np.random.Generator) -> np.ndarray:
    _, group = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(group, values), np.bincount(group)
    return np.concatenate(
        [sums[at].sum(axis=1) / sizes[at].sum(axis=1) for at in _samples(len(sums), draws, generator)]
    )


def _samples(count: int, draws: int, generator: np.random.Generator):
    step = max(1, _AT_ONCE // count)
    for start in range(0, draws, step):
        yield generator.integers(0, count, (min(step, draws - start), count))
