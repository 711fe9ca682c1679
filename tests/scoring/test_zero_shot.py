"""Zero-shot classification and comparison on vectors worked out by hand."""

import json
import math
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.scoring.comparison import compare
from diptych.scoring.difference import difference
from diptych.scoring.zero_shot import (
    PLAIN_TEMPLATES,
    PatchEmbeddings,
    calibrated_scale,
    class_vectors,
    classify,
    cosines,
    load_templates,
    multi_label_probabilities,
    patch_pooled_scores,
    prompts,
    unit,
)


def test_softmax_by_hand() -> None:
    """Cosines 1 and 0 at scale ln 3 give weights 3 : 1."""
    result = classify(np.array([[1.0, 0.0]]), ("cat", "dog"), scale=math.log(3))
    np.testing.assert_allclose(result.probabilities, [[0.75, 0.25]])
    assert result.best == ("cat",)


def test_sigmoid_by_hand() -> None:
    """Each label is judged alone: scale 2 x cosine 1 - 2 = 0 gives a half, cosine 0 gives 1 / (1 + e^2)."""
    result = classify(np.array([[1.0, 0.0]]), ("cat", "dog"), scale=2.0, bias=-2.0)
    np.testing.assert_allclose(result.probabilities, [[0.5, 1 / (1 + math.e**2)]])


def test_prompts_go_label_by_label() -> None:
    assert prompts(("a", "b"), ("{}", "x {}.")) == ["a", "x a.", "b", "x b."]
    assert prompts(("a bicycle", "The sea", "cat"), ("a photo of a {}.",)) == [
        "a photo of a bicycle.", "a photo of The sea.", "a photo of a cat.",
    ]  # fmt: skip
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


def test_sets_of_templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_templates("plain") == PLAIN_TEMPLATES
    assert len(load_templates("general")) == len(set(load_templates("general"))) > 10
    path = tmp_path / "prompts.json"
    for said in (["a {}.", "the {}"], {"templates": ["a {}.", "the {}"]}):
        path.write_text(json.dumps(said))
        assert load_templates(path) == ("a {}.", "the {}")
    for said, message in (
        ("{", "is not JSON"),
        ("[]", "contains no templates"),
        ('["a cat"]', "has no {} for the label"),
    ):
        path.write_text(said)
        with pytest.raises(ValueError, match=message):
            load_templates(path)
    with pytest.raises(ValueError, match="no set of templates 'imagenet'; choose plain, general, openai"):
        load_templates("imagenet")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ValueError, match="pip install open_clip_torch"):
        load_templates("openai")
    theirs = types.SimpleNamespace(OPENAI_IMAGENET_TEMPLATES=[lambda c: f"a bad photo of a {c}."])
    monkeypatch.setitem(sys.modules, "open_clip", theirs)
    assert load_templates("openai") == ("a bad photo of a {}.",)


@given(st.floats(2, 300), st.integers(0, 99))
def test_the_scale_that_drew_the_answers_is_found(scale: float, seed: int) -> None:
    """Answers drawn by a softmax at a scale are least surprising near it."""
    draw = np.random.default_rng(seed)
    cosines = draw.uniform(-0.05, 0.05, (3000, 6)) * 20 / scale
    weights = np.exp(scale * cosines)
    weights /= weights.sum(axis=1, keepdims=True)
    answers = (weights.cumsum(axis=1) > draw.random((3000, 1))).argmax(axis=1)
    assert calibrated_scale(cosines, answers) == pytest.approx(scale, rel=0.25)


def test_each_label_for_itself_by_hand() -> None:
    found = multi_label_probabilities(np.array([[1.0, 0.0], [0.6, 0.8]]), np.array([0.6, 0.36]), scale=10.0)
    margins = np.array([[4.0, -6.0], [2.4, 4.4]])
    assert found == pytest.approx(1 / (1 + np.exp(-margins)))


def test_some_part_has_to_fit_a_label() -> None:
    """A red hat and a blue cup, told from a blue hat and a red cup: the whole picture's mean cannot, its places can."""
    red, blue, hat, cup = np.eye(4)
    pairs = np.array([red + hat, blue + cup, blue + hat, red + cup]) / np.sqrt(2)
    places = pairs[[0] * 10 + [1] * 10][None]  # one picture of twenty places
    seen = PatchEmbeddings(places.mean(axis=1), places)
    whole = seen.images @ pairs.T
    assert whole[0, 0] == pytest.approx(whole[0, 2]) == pytest.approx(0.5)
    assert patch_pooled_scores(seen, pairs)[0] == pytest.approx(
        [0.95, 0.95, 0.5, 0.5]
    )  # a tenth of it is the whole picture's
    places[0, 1:10] = blue  # one place of red hat is left; the tenth of twenty is two
    assert patch_pooled_scores(seen, pairs)[0, 0] == pytest.approx(0.9 * (1 + 0) / 2 + 0.05)
    assert patch_pooled_scores(seen._replace(patches=places[:, :1]), pairs)[0, 0] == pytest.approx(0.9 + 0.05)


def test_cosines_stay_within_one() -> None:
    """Rounding takes products of unit vectors, and quotients of lengths, a little beyond."""
    vectors = np.random.default_rng(0).normal(size=(500, 64)).astype(np.float32)
    rows = unit(vectors)
    assert (rows @ rows.T).max() > 1
    for found in (cosines(rows, rows), compare(vectors, vectors).cosine):
        assert found.max() == 1
        assert np.diag(found) == pytest.approx(1, abs=1e-6)
    assert cosines(rows, -rows).min() == -1
    assert max(difference(row, row, rows[:2], ("a", "b"), scale=1.0).cosine for row in rows) == 1
