"""Files and folders classified and compared: calibration, accuracy, failures, and differences of two pictures."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import diptych
from diptych.embedder import Embedder

LABELS = ["red", "blue"]


@pytest.fixture(scope="module")
def model() -> Embedder:
    """The bundled model, which tells colours."""
    return diptych.load(precision="float32")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures in folders of their colours, one of them in the wrong one, and a broken file."""
    for name, colour, at in (("red", "red", 0), ("blue", "blue", 1), ("blue", "red", 2)):
        (tmp_path / "set" / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), colour).save(tmp_path / "set" / name / f"{at}.png")
    (tmp_path / "set" / "red" / "broken.png").write_bytes(b"none")
    return tmp_path / "set"


def test_files_are_classified_with_their_accuracy(model: Embedder, folder: Path) -> None:
    result = model.classify_files(folder, LABELS)
    assert [Path(str(path)).name for path in result.pictures] == ["1.png", "2.png", "0.png"]
    assert result.classification.best == ("blue", "red", "red")
    assert [failure.reason for failure in result.failures.values()] == ["not an image"]
    assert result.accuracy is not None
    assert (result.accuracy.top[1], result.accuracy.by_class) == (pytest.approx(200 / 3), {"red": 100, "blue": 50})
    assert result.accuracy.most_confused() == [("blue", "red", 1)]
    assert [pair.count for pair in result.accuracy.pairs] == [1, 1, 1]
    assert (result.scale, result.calibration, result.unlabelled) == (model.scale, None, 0)
    alone = model.classify_files(folder / "red" / "0.png", LABELS)
    assert alone.accuracy is not None
    wanted = model.classify(folder / "red" / "0.png", LABELS).accuracy(["red"])
    assert (alone.accuracy.top, alone.accuracy.by_class) == (wanted.top, wanted.by_class)


def test_a_folder_calibrates(model: Embedder, folder: Path) -> None:
    """As labelled pictures do; where all are right, the model's own temperature stays."""
    result = model.classify_files(folder, LABELS, calibrate=folder)
    assert result.calibration == model.calibrate(result.pictures, ["blue", "blue", "red"], LABELS)
    assert result.scale == result.calibration.scale != model.scale
    wanted = model.classify(result.pictures, LABELS, scale=result.scale).probabilities
    np.testing.assert_allclose(result.classification.probabilities, wanted, atol=1e-5)
    assert model.calibrate([folder / "red" / "0.png"], ["red"], LABELS) == (None, 1)
    with pytest.raises(diptych.ArgumentError, match="the true label 'green' is none of the labels"):
        model.calibrate(result.pictures, ["green"] * 3, LABELS)
    shutil.copytree(folder / "red", folder / "green")
    with pytest.raises(diptych.ArgumentError, match="has pictures in 'green', which is no label") as error:
        model.classify_files(folder, LABELS, calibrate=folder)
    assert error.value.argument == "calibrate"


def test_several_labels_may_fit(model: Embedder, folder: Path) -> None:
    picture = folder / "red" / "0.png"
    for patches in (False, True):
        one = model.classify(picture, LABELS, multi_label=True, patches=patches).probabilities
        other = model.classify(picture, ["red"], multi_label=True, patches=patches).probabilities
        assert one[0, 0] == pytest.approx(other[0, 0], abs=1e-6)  # whatever the other labels are
    assert model.classify(picture, ["red"]).probabilities.tolist() == [[1.0]]


def test_files_are_compared_with_texts(model: Embedder, folder: Path) -> None:
    result = model.compare_files([folder, "gone.png"], ["a red thing", ""])
    assert (len(result.pictures), result.texts) == (3, ["a red thing"])
    assert {failure.reason for failure in result.picture_failures.values()} == {"not an image", "missing"}
    assert {index: failure.reason for index, failure in result.text_failures.items()} == {1: "empty"}
    wanted = model.similarity(result.pictures, result.texts)
    np.testing.assert_allclose(result.measures.cosine, wanted, atol=1e-5)


def test_two_pictures_in_words(model: Embedder, folder: Path) -> None:
    result = model.difference(folder / "red" / "0.png", folder / "blue" / "1.png", LABELS)
    appeared, disappeared = result.top(1)
    assert (list(appeared), list(disappeared)) == (["blue"], ["red"])
    assert not result.is_same
    assert model.difference(folder / "red" / "0.png", folder / "blue" / "2.png", LABELS).is_same
    with pytest.raises(diptych.ArgumentError, match="expected two or more"):
        model.difference(folder / "red" / "0.png", folder / "blue" / "1.png", ["red"])


def test_old_names_of_the_model_work(model: Embedder, folder: Path) -> None:
    picture = folder / "red" / "0.png"
    for old, new in (
        ("embed_readable", model.try_embed_images), ("embed_readable_texts", model.try_embed_texts),
        ("shown", model.model_input), ("anywhere", model.patch_scores), ("reading", model.text_preprocessing),
        ("passed_over", model.ignored_keys),
    ):  # fmt: skip
        with pytest.warns(DeprecationWarning, match=rf"Embedder\.{old} is now"):
            assert getattr(model, old) == new
    with pytest.warns(DeprecationWarning, match=r"classify\(places=\) is now patches="):
        old_way = model.classify(picture, LABELS, places=True)  # type: ignore[call-arg]
    assert (old_way.probabilities == model.classify(picture, LABELS, patches=True).probabilities).all()
    with pytest.warns(DeprecationWarning, match='method="places" is now'):
        found = model.locate(picture, "red", method="places")  # type: ignore[arg-type]
    assert found.method == "patches"
    with pytest.warns(DeprecationWarning, match=r"HeatMap\.likely is now relative_likelihood"):
        assert found.likely is found.relative_likelihood
