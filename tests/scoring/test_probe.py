"""Linear probes beside scikit-learn's, few shots, and mixtures with zero-shot weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from diptych.scoring.probe import STRENGTHS, CentredFeatures, Probe, few_shots, from_class_vectors, interpolated, sweep


def blobs(
    count: int, dim: int = 24, classes: int = 5, seed: int = 0, apart: float = 0.6
) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping clouds in a cone, as embeddings lie, of unit length."""
    draw = np.random.default_rng(seed)
    centres = apart * np.random.default_rng(99).standard_normal((classes, dim)) + 2 * np.eye(dim)[0]
    labels = draw.integers(classes, size=count)
    features = centres[labels] + draw.standard_normal((count, dim)) * np.linspace(1, 0.05, dim)
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32), labels


def objective(features: np.ndarray, labels: np.ndarray, weights: np.ndarray, bias: np.ndarray, l2: float) -> float:
    """In float64, from the words of the docstring."""
    logits = features.astype(np.float64) @ weights.astype(np.float64).T + bias
    logits -= logits.max(axis=1, keepdims=True)
    chosen = logits[np.arange(len(labels)), labels] - np.log(np.exp(logits).sum(axis=1))
    return float(-chosen.sum() + l2 / 2 * (weights.astype(np.float64) ** 2).sum())


@pytest.mark.parametrize("l2", [1e-2, 0.1, 1.0, 31.6, 1e3])
@pytest.mark.parametrize("classes", [2, 5])
def test_the_minimum_is_scikit_learns(l2: float, classes: int) -> None:
    features, labels = blobs(800, classes=classes)
    ours = CentredFeatures(features, labels).fit(l2)
    theirs = LogisticRegression(C=1 / l2, max_iter=10_000, tol=1e-10).fit(features.astype(np.float64), labels)
    weights, bias = theirs.coef_, theirs.intercept_
    if classes == 2:  # which scikit-learn gives as one row; ours are two, of opposite signs, each half as long
        gap = ours.weights[1] - ours.weights[0]
        np.testing.assert_allclose(gap, weights[0], atol=2e-2 * np.abs(weights).max())
    else:
        mine = objective(features, labels, ours.weights, ours.bias, l2)
        best = objective(features, labels, weights, bias, l2)
        assert mine == pytest.approx(best, rel=1e-4)
    test, answers = blobs(4000, classes=classes, seed=1)
    assert ours.accuracy(test, answers) == pytest.approx(100 * theirs.score(test, answers), abs=0.2)


def test_classes_that_can_be_told_apart_are_fitted_to_the_end() -> None:
    """Pixels of 0 to 16, hardly held: what is left of the loss is beneath float32's noise."""
    digits = load_digits()
    features, labels = np.asarray(digits.data, np.float32), np.asarray(digits.target)  # type: ignore[attr-defined]
    ours = CentredFeatures(features[:900], labels[:900]).fit(0.1)
    theirs = LogisticRegression(C=10, max_iter=10_000, tol=1e-8).fit(features[:900].astype(np.float64), labels[:900])
    mine = objective(features[:900], labels[:900], ours.weights, ours.bias, 0.1)
    assert mine == pytest.approx(
        objective(features[:900], labels[:900], theirs.coef_, theirs.intercept_, 0.1), rel=1e-3
    )
    score = 100 * theirs.score(features[900:], labels[900:])
    assert ours.accuracy(features[900:], labels[900:]) == pytest.approx(score, abs=0.2)


def test_a_warm_start_changes_the_way_and_not_the_end() -> None:
    features, labels = blobs(400)
    ready = CentredFeatures(features, labels)
    cold, warm = ready.fit(0.1), ready.fit(0.1, start=ready.fit(10))
    np.testing.assert_allclose(warm.scores(features), cold.scores(features), atol=0.05)


def test_a_strong_prior_stays() -> None:
    features, labels = blobs(200)
    prior = np.random.default_rng(3).standard_normal((5, 24)).astype(np.float32)
    near = CentredFeatures(features, labels).fit(1e6, prior=prior)
    np.testing.assert_allclose(near.weights, prior, atol=1e-3)


def test_the_sweep_tries_few_and_finds_the_best_of_them() -> None:
    features, labels = blobs(300)
    validation, answers = blobs(300, seed=1)
    found = sweep(features, labels, validation, answers)
    assert found.accuracy == max(found.tried.values())
    assert found.probe.accuracy(validation, answers) == found.accuracy
    assert found.probe.l2 == max(l2 for l2, accuracy in found.tried.items() if accuracy == found.accuracy)
    assert len(found.tried) < 20
    assert set(found.tried) <= set(STRENGTHS.tolist())


def test_labels_may_be_words() -> None:
    features, labels = blobs(200, classes=3, apart=2)
    names = np.array(["cat", "dog", "boat"])[labels]
    probe = CentredFeatures(features, names).fit(0.1)
    assert probe.classes.tolist() == ["boat", "cat", "dog"]
    assert probe.accuracy(features, names) > 90


def test_wrong_input_is_told() -> None:
    with pytest.raises(ValueError, match="2 labels for 3 features"):
        CentredFeatures(np.zeros((3, 2)), np.zeros(2))
    with pytest.raises(ValueError, match="a probe needs two or more classes"):
        CentredFeatures(np.zeros((3, 2)), np.zeros(3))


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 6), st.integers(0, 5))
def test_few_shots_are_of_every_class(labels: list[int], shots: int, seed: int) -> None:
    answers = np.array(labels)
    chosen = few_shots(answers, shots, seed=seed)
    assert len(set(chosen.tolist())) == len(chosen)
    for one in set(labels):
        assert (answers[chosen] == one).sum() == min(shots, labels.count(one))
    assert chosen.tolist() == few_shots(answers, shots, seed=seed).tolist()


def test_between_two_probes() -> None:
    one = from_class_vectors(np.eye(2, dtype=np.float32), ["a", "b"], scale=10)
    other = Probe(np.zeros((2, 2), np.float32), np.array([1, 3], np.float32), one.classes, 1.0)
    half = interpolated(one, other, 0.5)
    assert half.weights.tolist() == [[5, 0], [0, 5]]
    assert half.bias.tolist() == [0.5, 1.5]
    assert one.predict(np.array([[0.2, 0.9]], np.float32)).tolist() == ["b"]
