"""Recall against matrices worked out by hand."""

import numpy as np
import pytest

from diptych.metrics import recall, retrieval


def test_recall_of_ranks() -> None:
    assert recall(np.array([0, 3, 4, 9, 10])) == (20.0, 60.0, 80.0)


def test_two_pictures_three_texts_by_hand() -> None:
    """Text 2 (of picture 1) is nearer to picture 0; picture 1's nearest text is its own text 1.

                 text 0 (of 0)   text 1 (of 1)   text 2 (of 1)
    picture 0        0.8             0.0             0.6
    picture 1        0.6             1.0             0.0
    """
    images = np.array([[1.0, 0.0], [0.0, 1.0]])
    texts = np.array([[0.8, 0.6], [0.0, 1.0], [0.6, 0.0]])
    result = retrieval(images, texts, np.array([0, 1, 1]))
    assert result.text_to_image.at_1 == pytest.approx(100 * 2 / 3)
    assert result.text_to_image.at_5 == 100
    assert result.image_to_text == (100.0, 100.0, 100.0)


def test_picture_to_text_counts_its_best_caption() -> None:
    """Picture 0's captions rank 2nd and last of seven, so it is found at 5 and not at 1."""
    images = np.array([[1.0, 0.0], [0.0, 1.0]])
    cosines = np.array([0.5, 0.1, 0.9, 0.4, 0.3, 0.2, 0.15])
    texts = np.stack([cosines, np.linspace(0.5, 0.6, 7)], axis=1)
    result = retrieval(images, texts, np.array([0, 0, 1, 1, 1, 1, 1]))
    assert result.image_to_text == (50.0, 100.0, 100.0)


def test_a_model_that_says_one_thing_scores_nothing() -> None:
    """Ties count against the model: constant vectors find no picture among twenty."""
    same = np.ones((20, 4)) / 2
    assert retrieval(same, same, np.arange(20)).text_to_image == (0.0, 0.0, 0.0)


def test_a_broken_model_scores_nothing() -> None:
    """NaN is no answer, though no number is greater than it."""
    nothing = np.full((20, 4), np.nan)
    assert retrieval(nothing, nothing, np.arange(20)) == ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))


def test_tiles_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    images, owners = rng.normal(size=(40, 8)), np.repeat(np.arange(40), 3)
    texts = images[owners] + rng.normal(size=(120, 8))
    whole = retrieval(images, texts, owners)
    monkeypatch.setattr("diptych.metrics.TILE", 7)
    assert retrieval(images, texts, owners) == whole
    assert 0 < whole.text_to_image.at_1 < 100


def test_owners_must_match_texts() -> None:
    with pytest.raises(ValueError, match="2 owners for 3 texts"):
        retrieval(np.eye(2), np.ones((3, 2)), np.array([0, 1]))
