"""Sample statistics, and results that are unlike each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_fixtures import noise, unit

from diptych.index.search.ranking import SampleStatistics, diverse_order


def test_z_counts_deviations_above_the_mean() -> None:
    statistics = SampleStatistics.of(np.array([0.0, 0.2] * 10))
    assert statistics == pytest.approx((0.1, 0.1, 20))
    assert statistics.z_scores(np.array([0.3, 0.1])) == pytest.approx([2, 0])


def test_a_sample_that_is_too_small_has_no_z_and_still_ranks() -> None:
    few = SampleStatistics.of(np.array([0.0, 0.2, 0.0]))
    assert few.z_scores(np.array([0.2])) == [None]
    assert few.standardise(np.array([0.2]))[0] > few.standardise(np.array([0.0]))[0]
    assert SampleStatistics.of(np.full(20, 0.3)).z_scores(np.array([0.3])) == [None]
    assert SampleStatistics.of(np.empty(0)).standardise(np.array([0.3])) == [0]


def test_the_second_of_two_similar_results_comes_later() -> None:
    vectors = unit([[1, 0, 0], [0.999, 0.04, 0], [0.6, 0, 0.8]])
    relevance = [0.9, 0.89, 0.5]
    assert diverse_order(vectors, relevance, diversity=0, limit=3).tolist() == [0, 1, 2]
    assert diverse_order(vectors, relevance, diversity=0.6, limit=3).tolist() == [0, 2, 1]
    assert diverse_order(vectors, relevance, diversity=0.6, limit=1).tolist() == [0]


@given(st.integers(0, 20), st.floats(0, 1), st.integers(1, 25), st.integers(0, 99))
def test_an_order_is_without_repeats_and_starts_with_the_best(
    count: int, diversity: float, limit: int, seed: int
) -> None:
    vectors, relevance = noise(count, seed), np.random.default_rng(seed).random(count)
    order = diverse_order(vectors, relevance, diversity=diversity, limit=limit).tolist()
    assert len(order) == len(set(order)) == min(count, limit)
    if order:
        assert order[0] == relevance.argmax()
    if diversity == 0:
        assert order == np.argsort(-relevance, kind="stable")[:limit].tolist()


def test_diversity_is_a_share() -> None:
    with pytest.raises(ValueError, match=r"diverse is 1\.5; wanted 0"):
        diverse_order(noise(2), [1, 2], diversity=1.5, limit=1)
