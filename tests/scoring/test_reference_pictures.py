"""`diptych.scoring.reference_pictures`: how near to its best pictures a text is expected to come."""

from itertools import product

import numpy as np
import pytest
import safetensors.numpy

from diptych.errors import CheckpointError
from diptych.index.search.relevance import reference_statistics
from diptych.scoring.reference_pictures import (
    MAX_PICTURES,
    Logit,
    MultiLabel,
    ReferencePictures,
    best_weights,
    parse,
)

AXES = np.eye(2, dtype=np.float32)


@pytest.mark.parametrize(
    ("references", "count", "top_k", "weights"),
    [
        (3, 1, 1, [1 / 3, 1 / 3, 1 / 3]),  # one draw: the mean
        (2, 2, 1, [3 / 4, 1 / 4]),  # the greater of two draws is the lesser value only if both are
        (4, 2, 2, [1 / 4] * 4),  # the mean of all draws
        (
            2,
            3,
            2,
            [11 / 16, 5 / 16],
        ),  # 0, 1, 2, 3 of the greater value with 1, 3, 3, 1 of 8; the best two hold 0, 1, 2, 2
    ],
)
def test_the_weights_of_few_draws(references: int, count: int, top_k: int, weights: list[float]) -> None:
    assert best_weights(references, count, top_k) == pytest.approx(weights)


def test_the_weights_give_the_mean_over_all_draws() -> None:
    values = np.array([5.0, 2.0, 1.0])
    means = [np.sort(draws)[-2:].mean() for draws in product(values, repeat=4)]
    assert best_weights(3, 4, 2) @ values == pytest.approx(np.mean(means))


def test_of_very_many_draws_the_best_are_the_greatest_value() -> None:
    assert best_weights(100, 1_000_000, 20)[:2] == pytest.approx([1, 0])


def test_texts_are_measured_by_their_cosines_with_the_pictures() -> None:
    """Cosines .8 and .6, and 1 and 0: the better of two drawn is the greater in three of four."""
    texts = np.array([[0.6, 0.8], [1.0, 0.0]], np.float32)
    assert ReferencePictures.of(AXES, -0.5).expected(texts, count=2, top_k=1) == pytest.approx([0.75, 0.75])


def at_cosines(cosines: np.ndarray) -> ReferencePictures:
    """Pictures at these cosines to the first axis."""
    return ReferencePictures.of(np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1), 0.0)


EVEN = np.linspace(0, 1, 101)  # the median is .5, and a normal distribution has 15.87 % below its deviation


def test_pictures_without_matches_are_taken_to_be_normal() -> None:
    """The better of two normal numbers is expected 1 / sqrt(pi) deviations above the mean. What the greatest are does
    not count: they may be matches."""
    matches = np.where(EVEN > 0.8, 1.0, EVEN)
    for pictures in (at_cosines(EVEN), at_cosines(matches)):
        assert pictures.without_matches(AXES[0], 1, 1) == pytest.approx((0.5, 0.5 - 0.1587), abs=0.01)
        assert pictures.without_matches(AXES[0], 2, 1)[0] == pytest.approx(0.5 + 0.3413 / np.pi**0.5, abs=0.01)
    assert at_cosines(matches).expected(AXES[:1], 20, 2)[0] > at_cosines(EVEN).expected(AXES[:1], 20, 2)[0]


def test_relevance_weighs_what_is_expected_of_the_text_and_of_sentences() -> None:
    """In a library of one the text is expected at .5, with a deviation of .3413; sentences reach .2 and .6, which is .4
    with a deviation of .2."""
    sentences = np.array([[0.4, 0.0], [1.2, 0.0]], np.float32)
    found = reference_statistics(at_cosines(EVEN), AXES[0], 1, sentences)
    assert found.z_score(0.8) == pytest.approx((10 * 0.3 / 0.3413 + 0.4 / 0.2) / 11, abs=0.02)
    assert found.z_score(0.5) == pytest.approx(0.1 / 0.2 / 11, abs=0.02)


def test_a_library_that_shows_less_than_the_reference_pictures_is_not_expected_to_reach_them() -> None:
    """Of forty pictures four are averaged: among reference pictures of which a fifth match these are all at 1."""
    sentences, matches = noise_at_half(), np.where(EVEN > 0.8, 1.0, EVEN)
    means = [reference_statistics(at_cosines(each), AXES[0], 40, sentences).mean for each in (EVEN, matches)]
    assert at_cosines(matches).expected(AXES[:1], 40, 4)[0] == pytest.approx(1, abs=0.01)
    assert 0 < means[1] - means[0] < 1 - at_cosines(EVEN).expected(AXES[:1], 40, 4)[0]


def noise_at_half() -> np.ndarray:
    """Sentences at cosines from .3 to .7 with the first axis."""
    cosines = np.linspace(0.3, 0.7, 8)
    return np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1).astype(np.float32)


def test_a_text_at_one_cosine_with_all_pictures_divides_by_no_zero() -> None:
    pictures = ReferencePictures.of(np.repeat(AXES[:1], 3, axis=0), 0.0)
    assert np.isfinite(reference_statistics(pictures, AXES[0], 3, AXES).z_score(0.5))
    assert np.isfinite(reference_statistics(pictures, AXES[0], 3, AXES[:1]).z_score(0.5))


def test_eight_bits_keep_directions_and_the_file_says_the_same() -> None:
    vectors = np.array([[0.6, 0.8], [-0.28, 0.96]], np.float32)
    made = ReferencePictures.of(vectors, -0.35)
    assert made.vectors.tolist() == [[95, 127], [-37, 127]]  # 127 * 3 / 4, 127 * -28 / 96
    read = parse(made.to_bytes(), 2, "a model")
    assert read.vectors.tolist() == made.vectors.tolist()
    assert read.threshold == -0.35
    assert read.multi_label is None
    fitted = made._replace(multi_label=MultiLabel(Logit(25.92, -4.565), Logit(26.62, -5.749)))
    assert parse(fitted.to_bytes(), 2, "a model").multi_label == fitted.multi_label
    text = np.array([0.6, 0.8], np.float32)
    assert read.expected(text[None], count=1, top_k=1)[0] == pytest.approx(0.8, abs=0.005)  # of 1 and .6


def content(vectors: np.ndarray | None = None, threshold: np.ndarray | None = None, **more: np.ndarray) -> bytes:
    tensors = {
        "vectors": np.ones((3, 2), np.int8) if vectors is None else vectors,
        "threshold": np.array(0, np.float32) if threshold is None else threshold,
    }
    return safetensors.numpy.save(tensors | more)


@pytest.mark.parametrize(
    ("damaged", "problem"),
    [
        (b"", "cannot be read"),
        (b"{}" * 99, "cannot be read"),
        (content()[:-1], "cannot be read"),
        (safetensors.numpy.save({"vectors": np.ones((3, 2), np.int8)}), "cannot be read.*threshold"),
        (content(np.ones((3, 2), np.float32)), "cannot be read.*F32, wanted I8"),
        (content(threshold=np.array(0, np.float64)), "cannot be read.*F64, wanted F32"),
        (content(np.ones((3, 4), np.int8)), r"shape \(3, 4\), wanted 2 to 10,000 vectors of 2 dimensions"),
        (content(np.ones(6, np.int8)), r"shape \(6,\)"),
        (content(np.ones((1, 2), np.int8)), r"shape \(1, 2\)"),
        (content(np.ones((MAX_PICTURES + 1, 2), np.int8)), r"shape \(10001, 2\)"),
        (content(np.array([[1, 0], [0, 0]], np.int8)), "a vector that is zero"),
        (content(threshold=np.array(np.nan, np.float32)), "no finite number as its threshold"),
        (content(multi_label=np.ones((2, 2))), "cannot be read.*F64, wanted F32"),
        (content(multi_label=np.ones(4, np.float32)), "no two scales and biases as its multi_label"),
        (content(multi_label=np.full((2, 2), np.inf, np.float32)), "no two scales and biases"),
        (content(multi_label=np.array([[20, -4], [0, -4]], np.float32)), "no two scales and biases"),
        (content(threshold=np.zeros(1, np.float32)), "no finite number as its threshold"),
    ],
)
def test_damaged_files_are_refused_by_name(damaged: bytes, problem: str) -> None:
    with pytest.raises(CheckpointError, match=rf"a model: its reference_pictures\.safetensors .*{problem}") as caught:
        parse(damaged, 2, "a model")
    assert str(caught.value).endswith("Fetch the model again, or remove the file: relevance is then judged without it.")
    assert len(parse(content(), 2, "a model").vectors) == 3
