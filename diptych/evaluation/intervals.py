"""Bootstrap confidence intervals of means over items: percentile intervals (Efron and Tibshirani 1993, chapter 13)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.errors import ArgumentError

if TYPE_CHECKING:
    from jaxtyping import Float, Int

DRAWS = 10_000
LEVEL = 0.95
_MAX_DISTINCT = 64  # distinct values; correct and wrong are two, their differences three
_BLOCK = 2**22  # numbers drawn at a time


class Interval(NamedTuple):
    """A mean and the bounds of its confidence interval."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether zero is strictly outside."""
        return self.low > 0 or self.high < 0


def mean_interval(
    values: Float[np.ndarray, " items"],
    groups: Int[np.ndarray, " items"] | None = None,
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """The interval of a mean over items. Dependent items, such as the captions of one picture, have the same number in
    `groups` and are drawn together. Raises ArgumentError without items or with missing groups."""
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
    """The interval of the mean of second - first, for two models on the same items in the same order. The difficulty of
    items cancels out, so it is narrower than two separate intervals suggest. Raises ArgumentError if the lengths
    differ."""
    if len(first) != len(second):
        raise ArgumentError(f"{len(first)} items and {len(second)}; wanted the same ones.")
    differences = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    return mean_interval(differences, groups, level=level, draws=draws, seed=seed)


def _means(values: np.ndarray, draws: int, generator: np.random.Generator) -> np.ndarray:
    """The means of bootstrap samples. For few distinct values it is enough to draw their counts."""
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= _MAX_DISTINCT:
        return generator.multinomial(len(values), counts / len(values), size=draws) @ distinct / len(values)
    return np.concatenate([values[at].mean(axis=1) for at in _samples(len(values), draws, generator)])


def _grouped(values: np.ndarray, groups: np.ndarray, draws: int, generator: np.random.Generator) -> np.ndarray:
    _, group = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(group, values), np.bincount(group)
    return np.concatenate(
        [sums[at].sum(axis=1) / sizes[at].sum(axis=1) for at in _samples(len(sums), draws, generator)]
    )


def _samples(count: int, draws: int, generator: np.random.Generator):
    step = max(1, _BLOCK // count)
    for start in range(0, draws, step):
        yield generator.integers(0, count, (min(step, draws - start), count))
