"""Corrupted pictures: what each kind does, by hand where that can be, and the task."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import diptych
from diptych.evaluation.sets.dataset import LabelledDataset
from diptych.evaluation.sets.opening import open_set
from diptych.evaluation.tasks import corruptions
from diptych.evaluation.tasks.corruptions import (
    CONTRAST,
    CORRUPTIONS,
    NOISE,
    SEVERITIES,
    Corruption,
    corrupt,
    corruption_transform,
)
from diptych.evaluation.tasks.job import EvaluationJob
from diptych.evaluation.tasks.zero_shot import zero_shot_task
from diptych.scenes.scene import draw_scene


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return draw_scene(3, size_px=224).image.convert("RGB")


def distance(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_stronger_is_farther(picture: Image.Image, corruption: Corruption) -> None:
    far = [distance(picture, corrupt(picture, corruption, severity)) for severity in SEVERITIES]
    assert 0 < far[0] < far[-1]
    assert far == sorted(far)


@pytest.mark.parametrize("corruption", CORRUPTIONS)
@given(seed=st.integers(0, 2**40), severity=st.integers(1, 5))
def test_the_same_seed_the_same_picture(corruption: Corruption, seed: int, severity: int) -> None:
    image = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 24, 3), np.uint8))
    first, again = (corrupt(image, corruption, severity, seed=seed) for _ in range(2))
    assert first.tobytes() == again.tobytes()
    assert (first.size, first.mode) == (image.size, "RGB")
    other = corrupt(image, corruption, severity, seed=seed + 1)
    assert (first.tobytes() == other.tobytes()) == (corruption != "noise")


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_has_its_deviation(severity: int) -> None:
    grey = Image.new("RGB", (200, 200), (128, 128, 128))
    noisy = np.asarray(corrupt(grey, "noise", severity), float) / 255
    inside = noisy[(noisy > 0) & (noisy < 1)] if severity > 3 else noisy
    assert noisy.mean() == pytest.approx(128 / 255, abs=0.01)
    assert inside.std() == pytest.approx(NOISE[severity - 1], rel=0.02 if severity < 3 else 0.4)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_contrast_by_hand(severity: int) -> None:
    """Half black and half white: the mean is 1/2, and each half comes nearer to it."""
    image = Image.fromarray(np.repeat(np.array([0, 255], np.uint8), 50).reshape(10, 10, 1).repeat(3, axis=2))
    half = CONTRAST[severity - 1] / 2
    values = np.unique(np.asarray(corrupt(image, "contrast", severity)))
    np.testing.assert_allclose(values, [255 * (0.5 - half), 255 * (0.5 + half)], atol=0.51)


def test_blur_of_one_point_keeps_its_light_and_its_width() -> None:
    """A Gaussian blur of standard deviation s spreads a point to a variance of s squared each way."""
    image = np.zeros((61, 61, 3), np.uint8)
    image[25:36, 25:36] = 255
    before, after = (np.asarray(each, float)[..., 0] for each in (image, corrupt(Image.fromarray(image), "blur", 3)))
    assert after.sum() == pytest.approx(before.sum(), rel=0.02)
    at = np.arange(61) - 30
    spread = [(each.sum(axis=0) * at**2).sum() / each.sum() for each in (before, after)]
    assert spread[1] - spread[0] == pytest.approx(3**2, rel=0.1)


def test_what_there_is_not(picture: Image.Image) -> None:
    with pytest.raises(ValueError, match="'fog' at severity 1; wanted one of noise, blur, jpeg, contrast"):
        corrupt(picture, "fog", 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at severity 6"):
        corrupt(picture, "noise", 6)


def test_each_picture_has_noise_of_its_own(picture: Image.Image) -> None:
    apply = corruption_transform("noise", 2).apply
    assert apply(picture, 1).tobytes() != apply(picture, 2).tobytes()
    assert apply(picture, 1).size == (224, 224)
    assert corruption_transform("noise", 2).name != corruption_transform("noise", 2, seed=1).name


def test_the_task(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corruptions, "CORRUPTIONS", ("blur", "contrast"))
    for name, colour in (("red", (200, 30, 30)), ("green", (30, 200, 30))):
        (tmp_path / name).mkdir()
        for index in range(3):
            Image.new("RGB", (40, 40), tuple(min(255, part + 9 * index) for part in colour)).save(
                tmp_path / name / f"{index}.png"
            )
    data = open_set(tmp_path)
    assert isinstance(data, LabelledDataset)
    job = EvaluationJob(diptych.load(tiny_model), data)
    outcome = corruptions.corruptions_task(job)
    assert outcome.metrics["clean"] == zero_shot_task(job).metrics["top1"]
    each = [
        outcome.metrics[f"{corruption}_{severity}"] for corruption in ("blur", "contrast") for severity in SEVERITIES
    ]
    assert outcome.metrics["mean"] == pytest.approx(np.mean(each))
    assert outcome.metrics["contrast_5"] == outcome.metrics["clean"]  # one colour has no contrast to lose
    assert outcome.per_item["mean_right"].mean() * 100 == pytest.approx(outcome.metrics["mean"])
