"""A job (a model and a data set) and the result of a task on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from diptych.embedder import Embedder
from diptych.errors import DataError
from diptych.evaluation.sets.dataset import CaptionedDataset, Dataset, LabelledDataset, PictureDataset
from diptych.evaluation.tasks.features import EmbeddedPictures, ImageTransform, arithmetic, image_vectors
from diptych.media.images import Decode
from diptych.scoring import zero_shot

if TYPE_CHECKING:
    from jaxtyping import Float

OWN_TEMPLATES = "the set's own"  # in results.jsonl
ALONE = "the set has pictures alone, without classes and captions; its task is cmmd."
EXAMPLES = 8  # of the best, and of the worst
DECODE: Decode = "fast"
EXPECTED = (ValueError, OSError, ArithmeticError, MemoryError)  # errors that affect one data set alone


class Example(NamedTuple):
    """A picture by its index, its true and its predicted label, and the score of the prediction (a probability or a
    cosine)."""

    index: int
    truth: str
    predicted: str
    score: float


@dataclass
class TaskResult:
    """A task's metrics in percent, the number of items, failures counted by reason, further details, named arrays with
    a number for each item, and the best and worst examples."""

    metrics: dict[str, float]
    count: int
    failures: dict[str, int] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    per_item: dict[str, np.ndarray] = field(default_factory=dict)
    best: list[Example] = field(default_factory=list)
    worst: list[Example] = field(default_factory=list)


@dataclass
class EvaluationJob:
    """A model and a data set. `train` is the training split, if there is one; `templates` is the name of `prompts`;
    `cache` is the folder for vectors; `left_out` has the message of the first unreadable picture for each reason;
    `reference` are the true pictures to compare with, if the suite names some, with their source; `drawing` is how the
    pictures are drawn, if a generator draws them."""

    model: Embedder
    data: Dataset
    train: LabelledDataset | None = None
    templates: str = "general"
    prompts: tuple[str, ...] = zero_shot.GENERAL_TEMPLATES
    seed: int = 0
    cache: Path | None = None
    progress: Callable[[int, int], None] = lambda done, total: None
    left_out: dict[str, str] = field(default_factory=dict)
    reference: tuple[str, Dataset] | None = None
    drawing: Mapping[str, Any] = field(default_factory=dict)

    @property
    def labelled(self) -> LabelledDataset:
        """The data set with its classes. Raises DataError if it has none."""
        if isinstance(self.data, CaptionedDataset):
            raise DataError(
                "the set has captions and no classes; its tasks are retrieval, clip-score, cmmd, scene-attributes."
            )
        if isinstance(self.data, PictureDataset):
            raise DataError(ALONE)
        return self.data

    @property
    def pairs(self) -> CaptionedDataset:
        """The data set with its captions. Raises DataError if it has none."""
        if isinstance(self.data, LabelledDataset):
            raise DataError(
                "the set has classes and no captions; its tasks are zero-shot, probe, few-shot, corruptions, cmmd."
            )
        if isinstance(self.data, PictureDataset):
            raise DataError(ALONE)
        return self.data

    @cached_property
    def classes(self) -> Float[np.ndarray, "classes dim"]:
        """The vector of each class's name in the templates."""
        return self.model.embed_labels(self.labelled.classes, templates=self.prompts, truncate=True)

    def embed(self, data: Dataset, transform: ImageTransform | None = None) -> EmbeddedPictures:
        """The vectors of a data set's pictures."""
        embedded = image_vectors(
            self.model, data.pictures, self.cache, decode=DECODE, transform=transform, progress=self.progress
        )
        for failure in embedded.failures.values():
            self.left_out.setdefault(failure.reason, failure.message)
        return embedded

    def settings(self) -> dict[str, Any]:
        """The settings that the metrics of every task depend on, besides the model and the data set."""
        return {
            "split": self.data.pictures.split,
            "corruption": None,
            "seed": self.seed,
            "decode": DECODE,
            **self.drawing,
        }

    def dependencies(self) -> list[str]:
        """The other inputs of the metrics: the data set's identity, the prompts and the arithmetic."""
        train = self.train.pictures.identity if self.train else ""
        return [self.data.pictures.identity, train, *self.prompts, arithmetic(self.model)]


def template_settings(job: EvaluationJob) -> dict[str, Any]:
    """The settings of tasks that put class names into templates."""
    return {"templates": job.templates}
