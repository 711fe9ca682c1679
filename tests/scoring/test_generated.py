"""CLIP score and CMMD by hand-worked values, and by the properties that their definitions have."""

import tracemalloc
from math import exp, sqrt

import numpy as np
import pytest

from diptych.errors import ArgumentError
from diptych.scoring import generated
from diptych.scoring.generated import clip_scores, cmmd, reference_clip_scores

EAST, NORTH, WEST = [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]
SIXTY = [0.5, sqrt(3) / 2]  # cosine 1/2 with EAST


def test_a_clip_score_is_two_and_a_half_cosines() -> None:
    scores = clip_scores(np.array([EAST, EAST, EAST]), np.array([EAST, SIXTY, NORTH]))
    np.testing.assert_allclose(scores, [2.5, 1.25, 0.0], atol=1e-12)


def test_each_score_is_clamped_before_the_mean() -> None:
    """The mean of 2.5 and 0 is 1.25; clamping the mean of 2.5 and -2.5 would give 0."""
    scores = clip_scores(np.array([EAST, EAST]), np.array([EAST, WEST]))
    assert scores.tolist() == [2.5, 0.0]
    assert scores.mean() == 1.25


def test_lengths_and_precision_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    images, texts = rng.normal(size=(2, 5, 8))
    wanted = clip_scores(images, texts)
    np.testing.assert_allclose(clip_scores(7 * images, (texts / 3).astype(np.float32)), wanted, atol=1e-6)
    np.testing.assert_allclose(clip_scores(images, texts, weight=1.0), wanted / 2.5)


def test_a_reference_score_is_the_harmonic_mean_with_the_nearest_reference() -> None:
    """Row 0: CLIPScore 1.25, references at cosines 0 and 1/2: 2 * 1.25 * 0.5 / 1.75. Row 1: its reference is opposite,
    so 0. Row 2: its CLIPScore is 0. Row 3 has no reference."""
    images, texts = np.array([SIXTY, EAST, NORTH, EAST]), np.array([EAST, EAST, EAST, EAST])
    references, rows = np.array([NORTH, WEST, SIXTY, EAST]), np.array([0, 1, 0, 2])
    scores = reference_clip_scores(images, texts, references, rows)
    np.testing.assert_allclose(scores, [1.25 / 1.75, 0.0, 0.0, np.nan], atol=1e-12)


def test_scores_need_a_text_for_each_picture() -> None:
    with pytest.raises(ArgumentError, match=r"pictures \(2, 2\) and texts \(1, 2\); wanted a text for each"):
        clip_scores(np.array([EAST, EAST]), np.array([EAST]))
    for bad in (np.zeros((1, 2)), np.full((1, 2), np.nan)):
        with pytest.raises(ArgumentError, match="some of texts are zero, NaN or infinite"):
            clip_scores(np.array([EAST]), bad)
    with pytest.raises(ArgumentError, match=r"images \(0, 2\); wanted some rows"):
        clip_scores(np.zeros((0, 2)), np.zeros((0, 2)))
    with pytest.raises(ArgumentError, match="for 1 references of 1 texts"):
        reference_clip_scores(np.array([EAST]), np.array([EAST]), np.array([EAST]), np.array([1]))


def test_cmmd_by_hand() -> None:
    """East twice against north twice: every distance across is sqrt(2), within 0."""
    across = exp(-2 / 200)
    for biased in (False, True):
        found = cmmd(np.array([EAST, EAST]), np.array([NORTH, NORTH]), biased=biased)
        assert found == pytest.approx(1000 * (1 + 1 - 2 * across), rel=1e-9)
    # East and west against north twice: within the first, 4 = |east - west|^2 off the diagonal.
    opposite = exp(-4 / 200)
    first, second = np.array([EAST, WEST]), np.array([NORTH, NORTH])
    assert cmmd(first, second) == pytest.approx(1000 * (opposite + 1 - 2 * across), rel=1e-9)
    assert cmmd(first, second, biased=True) == pytest.approx(1000 * ((1 + opposite) / 2 + 1 - 2 * across), rel=1e-9)
    assert cmmd(first, second, sigma=1.0) == pytest.approx(1000 * (exp(-2) + 1 - 2 * exp(-1)), rel=1e-9)


def vectors(seed: int, count: int, shift: float = 0.0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, 16))
    rows[:, 0] += shift
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_cmmd_grows_with_the_difference_of_two_sets() -> None:
    real = vectors(0, 400)
    assert cmmd(real, real, biased=True) == pytest.approx(0, abs=1e-9)
    assert abs(cmmd(vectors(1, 400), real)) < 0.1  # the same distribution; unbiased, so about 0
    near, far = (cmmd(vectors(1, 400, shift), real) for shift in (1, 3))
    assert 0.5 < near < far / 3
    assert cmmd(vectors(1, 400, 1), real) == pytest.approx(cmmd(real, vectors(1, 400, 1)), rel=1e-9)
    few = [cmmd(vectors(seed, 10), real[:10], biased=True) for seed in range(1, 5)]
    assert min(few) > 1  # a biased estimate is above 0 for small sets of one distribution


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = vectors(0, 37, 1), vectors(1, 23)
    wanted = [cmmd(x, y, biased=biased) for biased in (False, True)]
    monkeypatch.setattr(generated, "BLOCK", 5)
    np.testing.assert_allclose([cmmd(x, y, biased=biased) for biased in (False, True)], wanted, rtol=1e-9)


def test_memory_does_not_grow_with_the_product_of_the_sizes() -> None:
    """Four thousand rows each: a kernel's matrix would take 128 MB."""
    x, y = vectors(0, 4000), vectors(1, 4000)
    tracemalloc.start()
    try:
        cmmd(x, y)
        assert tracemalloc.get_traced_memory()[1] < 64e6
    finally:
        tracemalloc.stop()


def test_cmmd_takes_unit_vectors_of_one_model() -> None:
    with pytest.raises(ArgumentError, match="generated vectors are of length 2 to 2; wanted 1"):
        cmmd(2 * np.array([EAST, WEST]), np.array([EAST, WEST]))
    with pytest.raises(ArgumentError, match="of 2 and 16 dimensions; wanted those of one model"):
        cmmd(np.array([EAST, WEST]), vectors(0, 2))
    with pytest.raises(ArgumentError, match="1 real vectors; wanted 2 or more"):
        cmmd(np.array([EAST, WEST]), np.array([EAST]))
    for sigma in (0, -1, float("nan")):
        with pytest.raises(ArgumentError, match="sigma is"):
            cmmd(np.array([EAST, WEST]), np.array([EAST, WEST]), sigma=sigma)
