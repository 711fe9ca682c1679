"""What is measured: each task takes a job and gives its numbers, with what each single item came to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from diptych.data.samples import count
from diptych.display.plots import shortened
from diptych.embedder import Embedder
from diptych.errors import DataError
from diptych.evaluation.sets.sets import Labelled, Pairs
from diptych.evaluation.tasks.features import Change, Seen, arithmetic, image_vectors
from diptych.media.images import Decode
from diptych.scoring import metrics, zero_shot

if TYPE_CHECKING:
    from jaxtyping import Float, Int

OWN_TEMPLATES = "the set's own"
EXAMPLES = 8  # best, and as many worst
MOST_IN_A_ROW = 200  # classes whose confusion stands in the row itself; of more it is in the .npz
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


def zero_shot_task(job: Job) -> Outcome:
    """Which class's name fits a picture best (Radford et al. 2021, section 3.1)."""
    labelled, seen = job.labelled, job.seen(job.labelled)
    answers = labelled.answers[seen.places]
    scores = seen.vectors @ job.classes.T
    top = metrics.top_accuracy(scores, answers)
    table = metrics.confusion(scores.argmax(axis=1), answers, len(labelled.classes))
    shares = metrics.class_accuracy(table)
    result = Outcome(
        {"top1": top[1], "top5": top[5], "mean_class": float(np.nanmean(shares))}, len(answers), seen.reasons()
    )
    result.details = {"classes": labelled.classes, "class_accuracy": shares}
    result.per_item = {
        "places": seen.places,
        "right": metrics.is_right(scores, answers),
        "top5_right": metrics.is_right(scores, answers, 5),
        "said": scores.argmax(axis=1),
    }
    (result.details if len(labelled.classes) <= MOST_IN_A_ROW else result.per_item)["confusion"] = table
    result.best, result.worst = _examples(job, seen.places, scores, answers)
    return result


def _examples(
    job: Job, places: Int[np.ndarray, " n"], scores: Float[np.ndarray, "n classes"], answers: Int[np.ndarray, " n"]
) -> tuple[list[Example], list[Example]]:
    """The right ones that the model was surest of, and the wrong ones that it was surest of."""
    names = job.labelled.classes
    said, sure = scores.argmax(axis=1), _chances(job, scores)
    order = np.argsort(-sure, kind="stable")
    right = metrics.is_right(scores, answers)[order] == 1

    def told(chosen: np.ndarray) -> list[Example]:
        return [Example(int(places[i]), names[answers[i]], names[said[i]], float(sure[i])) for i in chosen[:EXAMPLES]]

    return told(order[right]), told(order[~right])


def _chances(job: Job, scores: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, " n"]:
    """The probability of each picture's likeliest class; a few thousand pictures at a time, for there are 1,000
    classes in ImageNet."""
    names = job.labelled.classes
    parts = [scores[at : at + 4096] for at in range(0, len(scores), 4096)]
    scale, bias = job.model.scale, job.model.bias
    told = (zero_shot.classify(part, names, scale=scale, bias=bias).probabilities.max(axis=1) for part in parts)
    return np.concatenate(list(told))


def retrieval_task(job: Job) -> Outcome:
    """Captions find their picture and pictures their captions (Karpathy and Fei-Fei 2015, section 4.2)."""
    pairs, seen = job.pairs, job.seen(job.pairs)
    failures = seen.reasons()
    captions, owners = _captions(pairs, seen, failures)
    texts = job.model.try_embed_texts(captions, truncate=True)
    for failure in texts.failures.values():
        count(failures, f"caption: {failure.reason}")
    owners = owners[texts.keys]
    if not len(owners):
        raise DataError("the set has no caption that can be read.")
    ways, above = _both_ways(seen.vectors, texts.vectors, owners)
    result = Outcome(_ranking_metrics(ways), len(seen.places), failures)
    result.details = {
        "captions": len(owners),
        "cut": job.model.tokenize([captions[at] for at in texts.keys], truncate=True).truncated,
    }
    result.per_item = {
        "places": seen.places[np.unique(owners)],
        "text_places": seen.places[owners],
        **{
            f"{way}{among}_right": (better < k).astype(np.float32)
            for way, better in zip(("text_to_image", "image_to_text"), above, strict=True)
            for k, among in ((1, ""), (5, "_r5"), (10, "_r10"))
        },
    }
    kept = [captions[at] for at in texts.keys]
    result.best, result.worst = _caption_examples(seen, texts.vectors, owners, kept)
    return result


def _captions(pairs: Pairs, seen: Seen, failures: dict[str, int]) -> tuple[list[str], np.ndarray]:
    """All captions of the pictures that were seen, with the row of each one's picture."""
    captions: list[str] = []
    owners: list[int] = []
    for row, place in enumerate(seen.places):
        try:
            own = pairs.captions(int(place))
        except (DataError, OSError) as error:
            count(failures, f"caption: {getattr(error, 'reason', type(error).__name__)}")
            continue
        captions += own
        owners += [row] * len(own)
    return captions, np.array(owners, np.int64)


def _both_ways(
    images: Float[np.ndarray, "n dim"], texts: Float[np.ndarray, "m dim"], owners: Int[np.ndarray, " m"]
) -> tuple[metrics.Rankings, tuple[np.ndarray, np.ndarray]]:
    """`metrics.rankings`, and for each text and each picture that has one how many wrong answers are before its first
    right one."""
    numbers = np.arange(len(texts))
    to_image = metrics.above(texts, images, numbers, owners)
    order = np.argsort(owners, kind="stable")
    to_text = metrics.above(images, texts, owners[order], order)
    ways = metrics.Rankings(metrics.ranking(numbers, to_image), metrics.ranking(owners[order], to_text))
    starts = np.flatnonzero(np.r_[True, np.diff(owners[order]) > 0])
    first = np.minimum.reduceat(to_text, starts)
    return ways, (to_image, first)


def _ranking_metrics(ways: metrics.Rankings) -> dict[str, float]:
    said = {}
    for way, ranking in ways._asdict().items():
        said |= {f"{way}_r{k}": value for k, value in zip((1, 5, 10), ranking.recall, strict=True)}
        said[f"{way}_median_rank"] = ranking.median_rank
        said[f"{way}_map"] = ranking.mean_average_precision
    return said


def _caption_examples(
    seen: Seen, texts: Float[np.ndarray, "m dim"], owners: Int[np.ndarray, " m"], captions: list[str]
) -> tuple[list[Example], list[Example]]:
    """Pictures by how far the best of their own captions is before, or behind, the best of all others."""
    margins, said, score = np.full(len(seen.places), np.nan), np.zeros(len(seen.places), np.int64), {}
    for row in np.unique(owners):
        cosines, own = texts @ seen.vectors[row], owners == row
        said[row], score[row] = cosines.argmax(), float(cosines.max())
        margins[row] = cosines[own].max() - (cosines[~own].max() if not own.all() else 0)
    order = np.argsort(-margins, kind="stable")[: np.isfinite(margins).sum()]
    first = {int(row): at for at, row in reversed(list(enumerate(owners)))}

    def told(rows: np.ndarray) -> list[Example]:
        shown = [(row, shortened(captions[first[row]], 120), shortened(captions[said[row]], 120)) for row in rows]
        return [Example(int(seen.places[row]), truth, words, score[row]) for row, truth, words in shown]

    return told(order[:EXAMPLES]), told(order[::-1][:EXAMPLES])


class Task(NamedTuple):
    """What runs a task, and the settings that it has of its own."""

    run: Callable[[Job], Outcome]
    settings: Callable[[Job], Mapping[str, Any]]


def of_templates(job: Job) -> dict[str, Any]:
    """The settings of tasks that name classes in templates."""
    return {"templates": job.templates}


def tasks() -> dict[str, Task]:
    """Every task by name."""
    from diptych.evaluation.tasks import corruptions, probing

    return {
        "zero-shot": Task(zero_shot_task, of_templates),
        "retrieval": Task(retrieval_task, lambda job: {}),
        "probe": Task(probing.probe_task, probing.probe_settings),
        "few-shot": Task(probing.few_shot_task, probing.few_shot_settings),
        "corruptions": Task(corruptions.corruptions_task, corruptions.settings),
    }
