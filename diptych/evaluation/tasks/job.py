"""A job, a model before a set, and what a task gives for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from diptych.data.samples import DataError
from diptych.embedder import Embedder
from diptych.evaluation.sets.dataset import Labelled, Pairs
from diptych.evaluation.tasks.features import Change, Seen, arithmetic, image_vectors
from diptych.media.images import Decode
from diptych.scoring import zero_shot

if TYPE_CHECKING:
    from jaxtyping import Float

OWN_TEMPLATES = "the set's own"
EXAMPLES = 8  # best, and as many worst
DECODE: Decode = "fast"
EXPECTED = (ValueError, OSError, ArithmeticError, MemoryError)  # what a set may do to its tasks, and to no other's


class Example(NamedTuple):
    """A picture by its place, what it is, what the model took it for, and how sure it was (a probability, or a
    cosine)."""

    place: int
    truth: str
    said: str
    score: float


@dataclass
class Outcome:
    """A task's numbers in percent, of how many items, what could not be read by reason, further details, numbers for
    each single item by name, and the best and the worst examples."""

    metrics: dict[str, float]
    count: int
    failures: dict[str, int] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    per_item: dict[str, np.ndarray] = field(default_factory=dict)
    best: list[Example] = field(default_factory=list)
    worst: list[Example] = field(default_factory=list)


@dataclass
class Job:
    """A model before a set. `train` is the set's training split, where it has one; `templates` a name for `prompts`;
    `cache` the folder where vectors are kept; `left_out` has what was said of the first picture that could not be read,
    for each reason."""

    model: Embedder
    data: Labelled | Pairs
    train: Labelled | None = None
    templates: str = "general"
    prompts: tuple[str, ...] = zero_shot.GENERAL_TEMPLATES
    seed: int = 0
    cache: Path | None = None
    progress: Callable[[int, int], None] = lambda done, total: None
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def labelled(self) -> Labelled:
        """The set, which has classes; else DataError."""
        if isinstance(self.data, Pairs):
            raise DataError("the set has captions and no classes; its task is retrieval.")
        return self.data

    @property
    def pairs(self) -> Pairs:
        """The set, which has captions; else DataError."""
        if isinstance(self.data, Labelled):
            raise DataError(
                "the set has classes and no captions; its tasks are zero-shot, probe, few-shot, corruptions."
            )
        return self.data

    @cached_property
    def classes(self) -> Float[np.ndarray, "classes dim"]:
        """The vector of each class's name in the templates."""
        return self.model.embed_labels(self.labelled.classes, templates=self.prompts, truncate=True)

    def seen(self, data: Labelled | Pairs, change: Change | None = None) -> Seen:
        """The vectors of a set's pictures."""
        seen = image_vectors(
            self.model, data.pictures, self.cache, decode=DECODE, change=change, progress=self.progress
        )
        for failure in seen.failures.values():
            self.left_out.setdefault(failure.reason, failure.message)
        return seen

    def settings(self) -> dict[str, Any]:
        """What any task's numbers depend on, beside the model and the set."""
        return {"split": self.data.pictures.split, "corruption": None, "seed": self.seed, "decode": DECODE}

    def made_of(self) -> list[str]:
        """Which numbers these are, beyond what settings say: the very set, prompts and arithmetic."""
        train = self.train.pictures.identity if self.train else ""
        return [self.data.pictures.identity, train, *self.prompts, arithmetic(self.model)]


def of_templates(job: Job) -> dict[str, Any]:
    """The settings of tasks that name classes in templates."""
    return {"templates": job.templates}
