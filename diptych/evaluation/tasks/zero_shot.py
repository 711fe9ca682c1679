"""Zero-shot classification: which class's name fits a picture best."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from diptych.evaluation.tasks.job import EXAMPLES, Example, Job, Outcome
from diptych.scoring import metrics, zero_shot

if TYPE_CHECKING:
    from jaxtyping import Float, Int

MOST_IN_A_ROW = 200  # classes whose confusion stands in the row itself; of more it is in the .npz


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
