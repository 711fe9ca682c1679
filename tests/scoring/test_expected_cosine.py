"""`diptych.scoring.expected_cosine`: how near to its best pictures a text comes."""

import json

import numpy as np
import pytest

from diptych.errors import CheckpointError
from diptych.scoring.expected_cosine import ExpectedCosine, fit, parse


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def test_a_linear_level_is_found_again() -> None:
    """All pictures are one vector, so that the cosine of a text is linear in its vector."""
    rng = np.random.default_rng(0)
    texts, picture = unit(rng.normal(size=(4000, 8))), unit(rng.normal(size=(1, 8)))
    found = fit(texts, np.repeat(picture, 300, axis=0))
    assert np.allclose(found.of(texts), texts @ picture[0], atol=0.01)


def test_the_best_hundredth_counts() -> None:
    """Of 200 pictures, the two nearest: the level is theirs, not the mean of all."""
    texts = unit(np.array([[1.0, 0.1], [1.0, -0.1], [1.0, 0.0]]))
    pictures = np.array([[1.0, 0.0]] * 2 + [[0.0, 1.0]] * 198, np.float32)
    assert np.allclose(fit(texts, pictures).of(texts), texts[:, 0], atol=0.01)


def test_a_file_says_the_same() -> None:
    made = ExpectedCosine(np.array([0.25, -0.5], np.float32), 0.125, -0.5)
    read = parse(made.to_json(), 2, "a model")
    assert read.weights.tolist() == [0.25, -0.5]
    assert (read.bias, read.threshold) == (0.125, -0.5)


@pytest.mark.parametrize(
    "content",
    [
        {"weights": [1, 2, 3], "bias": 0, "threshold": 0}, {"weights": [1, None], "bias": 0, "threshold": 0}, {}, [],
        {"weights": [1, 1e9], "bias": 0, "threshold": 0}, {"weights": "12", "bias": 0, "threshold": 0},
        {"weights": [1, 2], "bias": 10**400, "threshold": 0}, {"weights": ["1", "2"], "bias": 0, "threshold": 0},
        {"weights": [1, 2], "bias": 0, "threshold": float("nan")}, {"weights": [[1], 2], "bias": 0, "threshold": 0},
    ],
)  # fmt: skip
def test_damaged_files_are_refused_by_name(content: object) -> None:
    with pytest.raises(CheckpointError, match=r"a model: its relevance\.json lacks weights, bias and threshold for 2"):
        parse(json.dumps(content), 2, "a model")
    with pytest.raises(CheckpointError, match=r"relevance\.json is not JSON"):
        parse("{", 2, "a model")
