"""Recall against matrices worked out by hand."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, confusion_matrix

from diptych.scoring.metrics import class_accuracy, confusion, rankings, recall, retrieval, top_accuracy


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
    monkeypatch.setattr("diptych.scoring.metrics.TILE", 7)
    assert retrieval(images, texts, owners) == whole
    assert 0 < whole.text_to_image.at_1 < 100


def test_owners_must_match_texts() -> None:
    with pytest.raises(ValueError, match="2 image indices for 3 texts"):
        retrieval(np.eye(2), np.ones((3, 2)), np.array([0, 1]))


def test_ranks_and_precision_by_hand() -> None:
    """Picture 0's captions stand 2nd and 7th of seven: precision 1/2 and 2/7. Picture 1's stand 1st and 3rd to 6th."""
    images = np.array([[1.0, 0.0], [0.0, 1.0]])
    cosines = np.array([0.5, 0.1, 0.9, 0.4, 0.3, 0.2, 0.15])
    texts = np.stack([cosines, [0.0, 0.1, 0.9, 0.8, 0.7, 0.6, 0.5]], axis=1)
    found = rankings(images, texts, np.array([0, 0, 1, 1, 1, 1, 1])).image_to_text
    assert found.median_rank == 1.5
    assert found.mean_average_precision == pytest.approx(100 * ((1 / 2 + 2 / 7) / 2 + 1) / 2)


def test_precision_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    owners = rng.permutation(np.repeat(np.arange(30), 4))
    images, texts = rng.normal(size=(30, 6)), rng.normal(size=(120, 6))
    texts += 0.5 * images[owners]
    found = rankings(images, texts, owners)
    of_images = [average_precision_score(owners == i, texts @ image) for i, image in enumerate(images)]
    of_texts = [average_precision_score(np.arange(30) == o, images @ t) for o, t in zip(owners, texts, strict=True)]
    assert found.image_to_text.mean_average_precision == pytest.approx(100 * np.mean(of_images))
    assert found.text_to_image.mean_average_precision == pytest.approx(100 * np.mean(of_texts))
    ranks = [1 + np.sum(images @ t > images[o] @ t) for o, t in zip(owners, texts, strict=True)]
    assert found.text_to_image.median_rank == np.median(ranks)


def test_a_picture_without_captions_asks_nothing() -> None:
    found = retrieval(np.eye(3), np.eye(3)[:2], np.array([0, 1]))
    assert found.image_to_text == (100, 100, 100)
    with pytest.raises(ValueError, match="image indices are from 0 to 5; there are 3 pictures"):
        retrieval(np.eye(3), np.eye(3)[:2], np.array([0, 5]))


def test_classes_by_hand() -> None:
    scores = np.array([[3.0, 1, 2], [1, 3, 2], [2, 2, 1], [0, 1, 2]])
    answers = np.array([0, 2, 0, 2])
    assert top_accuracy(scores, answers, (1, 2)) == {1: 50, 2: 100}  # of the tie in the third neither is the first
    found = confusion(scores.argmax(axis=1), answers, 3)
    assert found.tolist() == [[2, 0, 0], [0, 0, 0], [0, 1, 1]]
    np.testing.assert_array_equal(class_accuracy(found), [100, np.nan, 50])
    assert found.tolist() == confusion_matrix(answers, scores.argmax(axis=1), labels=[0, 1, 2]).tolist()
