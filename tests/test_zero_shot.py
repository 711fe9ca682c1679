"""Zero-shot classification and comparison on vectors worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.comparison import compare
from diptych.zero_shot import class_vectors, classify, prompts


def test_softmax_by_hand() -> None:
    """Cosines 1 and 0 at scale ln 3 give weights 3 : 1."""
    result = classify(np.array([[1.0, 0.0]]), np.eye(2), ("cat", "dog"), scale=math.log(3))
    np.testing.assert_allclose(result.probabilities, [[0.75, 0.25]])
    assert result.best == ("cat",)


def test_sigmoid_by_hand() -> None:
    """Each label is judged alone: scale 2 x cosine 1 - 2 = 0 gives a half, cosine 0 gives 1 / (1 + e^2)."""
    result = classify(np.array([[1.0, 0.0]]), np.eye(2), ("cat", "dog"), scale=2.0, bias=-2.0)
    np.testing.assert_allclose(result.probabilities, [[0.5, 1 / (1 + math.e**2)]])


def test_prompts_go_label_by_label() -> None:
    assert prompts(("a", "b"), ("{}", "x {}.")) == ["a", "x a.", "b", "x b."]
    assert prompts(("{curly}",), ("a {}",)) == ["a {curly}"]
    with pytest.raises(ValueError, match="no place"):
        prompts(("a",), ("no place",))


def test_class_vectors_average_in_space() -> None:
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    np.testing.assert_allclose(class_vectors(vectors, 2), [[0.5**0.5, 0.5**0.5], [0.0, 1.0]])


def test_compare_by_hand() -> None:
    result = compare(np.array([[3.0, 4.0]]), np.array([[1.0, 0.0], [3.0, 4.0]]))
    np.testing.assert_allclose(result.cosine, [[0.6, 1.0]])
    np.testing.assert_allclose(result.dot, [[3.0, 25.0]])
    np.testing.assert_allclose(result.euclidean, [[20**0.5, 0.0]])
    with pytest.raises(ValueError, match="2 dimensions, texts 3"):
        compare(np.ones((1, 2)), np.ones((1, 3)))


@given(st.integers(0, 10**6))
def test_on_unit_vectors_the_three_measures_agree(seed: int) -> None:
    rng = np.random.default_rng(seed)
    images, texts = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in rng.normal(size=(2, 3, 5)))
    result = compare(images, texts)
    np.testing.assert_allclose(result.dot, result.cosine, atol=1e-12)
    np.testing.assert_allclose(result.euclidean**2, 2 - 2 * result.cosine, atol=1e-9)
