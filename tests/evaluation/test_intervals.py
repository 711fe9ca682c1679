"""Bootstrap intervals: against the exact distribution, and what pairing and groups must do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from diptych.evaluation.intervals import Interval, mean_interval, paired_interval


@pytest.mark.parametrize(("right", "total"), [(3, 10), (70, 100), (1, 40)])
def test_of_right_and_wrong_it_is_binomial(right: int, total: int) -> None:
    """Drawn with replacement, the number of right ones is binomial, whose quantiles are known exactly."""
    found = mean_interval(np.r_[np.ones(right), np.zeros(total - right)], draws=200_000)
    assert found.mean == right / total
    exact = binom.ppf([0.025, 0.975], total, right / total) / total
    np.testing.assert_allclose([found.low, found.high], exact, atol=1e-9)


def test_of_many_values_it_is_nearly_normal() -> None:
    values = np.random.default_rng(1).normal(2.0, 3.0, 2000)
    found = mean_interval(values)
    half = 1.96 * values.std() / np.sqrt(2000)
    assert found.low == pytest.approx(values.mean() - half, abs=0.01)
    assert found.high == pytest.approx(values.mean() + half, abs=0.01)


def test_two_items_by_hand() -> None:
    """Of (0, 1) two are drawn: means 0, 1/2 and 1 with chances 1/4, 1/2, 1/4; the middle half is from 1/4 up."""
    assert mean_interval(np.array([0.0, 1.0]), level=0.4) == Interval(0.5, 0.5, 0.5)
    assert mean_interval(np.array([0.0, 1.0]), level=0.9) == Interval(0.5, 0.0, 1.0)


def test_pairing_cancels_what_both_find_hard() -> None:
    draw = np.random.default_rng(0)
    first = (draw.random(1000) < 0.5).astype(float)
    second = first.copy()
    second[np.flatnonzero(first == 0)[:20]] = 1  # all the same but for twenty more
    found = paired_interval(first, second)
    assert found.mean == pytest.approx(0.02)
    assert found.excludes_zero
    # by themselves they would not be told apart
    assert mean_interval(first).high > mean_interval(second).low
    assert not paired_interval(first, first).excludes_zero
    swapped = paired_interval(second, first)
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low), abs=2e-3)


@given(st.integers(2, 6), st.integers(0, 50))
def test_copies_in_a_group_add_no_certainty(copies: int, seed: int) -> None:
    values = np.random.default_rng(seed).random(30)
    alone = mean_interval(values, np.arange(30), seed=seed, draws=2000)
    copied = mean_interval(np.repeat(values, copies), np.repeat(np.arange(30), copies), seed=seed, draws=2000)
    np.testing.assert_allclose(copied, alone)
    careless = mean_interval(np.repeat(values, copies), seed=seed, draws=2000)
    assert careless.high - careless.low < alone.high - alone.low


def test_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="3 items and 2"):
        paired_interval(np.ones(3), np.ones(2))
    with pytest.raises(ValueError, match="0 values"):
        mean_interval(np.ones(0))
    with pytest.raises(ValueError, match="3 values and 2 groups"):
        mean_interval(np.ones(3), np.ones(2, int))
