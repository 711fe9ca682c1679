"""Labels that are judged each by itself: probabilities as the model's files say, or against prompts without a label."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import diptych
from diptych.inference.labels import LabelSet
from diptych.scoring.reference_pictures import Logit, MultiLabel, ReferencePictures

COSINES = np.array([[0.15, 0.3, 0.25]], np.float32)  # of two labels, and of the prompts without one


@dataclass
class FilesSay:
    """A model with these reference pictures."""

    reference_pictures: ReferencePictures | None = None
    scale: float = 10.0
    bias: float | None = None
    engine: Any = None

    def embed_texts(self, texts: Any, *, truncate: bool = False) -> np.ndarray:
        return np.eye(len(texts), 4, dtype=np.float32)


FITTED = ReferencePictures(np.ones((2, 4), np.int8), 0.0, MultiLabel(Logit(20.0, -3.0), Logit(10.0, -2.5)))


def labels(model: FilesSay, *, multi_label: bool = True, patches: bool = False) -> LabelSet:
    vectors = np.eye(2, 4, dtype=np.float32)
    return LabelSet.of(model, ("a dog", "a cat"), vectors, multi_label=multi_label, patches=patches)


def logistic(*logits: float) -> Any:
    return pytest.approx([1 / (1 + np.exp(-each)) for each in logits], abs=1e-6)


def test_probabilities_are_as_the_files_say() -> None:
    """20 x .15 - 3 is 0, which is a half; 20 x .3 - 3 is 3. Patches have a scale and a bias of their own."""
    judged = labels(FilesSay(FITTED))
    assert judged.classify(COSINES).probabilities[0] == logistic(0, 3)
    assert judged.classify(COSINES).best == ("a cat",)
    assert judged.scale == 20
    by_patches = labels(FilesSay(FITTED), patches=True)
    assert by_patches.classify(COSINES).probabilities[0] == logistic(-1, 0.5)
    assert by_patches.scale == 10


@pytest.mark.parametrize("reference", [None, FITTED._replace(multi_label=None)])
def test_files_that_say_nothing_leave_labels_to_prompts_without_one(reference: ReferencePictures | None) -> None:
    judged = labels(FilesSay(reference))
    assert judged.classify(COSINES).probabilities[0] == logistic(10 * (0.15 - 0.25), 10 * (0.3 - 0.25))
    assert judged.scale == 10


def test_another_scale_is_of_the_prompts_without_a_label() -> None:
    judged = labels(FilesSay(FITTED))
    assert judged.classify(COSINES, 40.0).probabilities[0] == logistic(40 * (0.15 - 0.25), 40 * (0.3 - 0.25))


def test_one_label_of_several_is_judged_as_before() -> None:
    judged = labels(FilesSay(FITTED), multi_label=False)
    assert judged.classify(COSINES[:, :2]).probabilities[0] == logistic(10 * (0.15 - 0.3), 10 * (0.3 - 0.15))
    assert judged.scale == 10


def test_the_bundled_model_says_little_of_what_a_plain_picture_does_not_show() -> None:
    """Grey is neither of these. Against prompts without a label it is said to be each of them by a third or more."""
    model, names = diptych.load(precision="float32"), ["a bathroom", "a motorcycle", "a wedding", "a submarine"]
    grey = np.full((64, 64, 3), 128, np.uint8)
    assert (model.classify(grey, names, multi_label=True).probabilities < 0.1).all()
    assert model.classify(grey, names, multi_label=True, scale=model.scale).probabilities.max() > 0.3
