"""Zero-shot classification: each picture gets the class with the best-matching name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from diptych.evaluation.tasks.job import EXAMPLES, EvaluationJob, Example, TaskResult
from diptych.scoring import metrics, zero_shot

if TYPE_CHECKING:
    from jaxtyping import Float, Int

MAX_CLASSES_IN_ROW = 200  # with more classes the confusion matrix is in the .npz instead of the row


def zero_shot_task(job: EvaluationJob) -> TaskResult:
    """Accuracy of the best-matching class name (Radford et al. 2021, section 3.1)."""
    labelled, seen = job.labelled, job.embed(job.labelled)
    labels = labelled.labels[seen.indices]
    scores = seen.vectors @ job.classes.T
    top = metrics.top_accuracy(scores, labels)
    table = metrics.confusion(scores.argmax(axis=1), labels, len(labelled.classes))
    shares = metrics.class_accuracy(table)
    result = TaskResult(
        {"top1": top[1], "top5": top[5], "mean_class": float(np.nanmean(shares))}, len(labels), seen.reasons()
    )
    result.details = {"classes": labelled.classes, "class_accuracy": shares}
    result.per_item = {
        "places": seen.indices,
        "right": metrics.is_right(scores, labels),
        "top5_right": metrics.is_right(scores, labels, 5),
        "said": scores.argmax(axis=1),
    }
    (result.details if len(labelled.classes) <= MAX_CLASSES_IN_ROW else result.per_item)["confusion"] = table
    result.best, result.worst = _examples(job, seen.indices, scores, labels)
    return result


def _examples(
    job: EvaluationJob,
    indices: Int[np.ndarray, " n"],
    scores: Float[np.ndarray, "n classes"],
    labels: Int[np.ndarray, " n"],
) -> tuple[list[Example], list[Example]]:
    """The correct and the wrong predictions with the highest confidence."""
    names = job.labelled.classes
    predicted, confidence = scores.argmax(axis=1), _probabilities(job, scores)
    order = np.argsort(-confidence, kind="stable")
    right = metrics.is_right(scores, labels)[order] == 1

    def example(row: int) -> Example:
        return Example(int(indices[row]), names[labels[row]], names[predicted[row]], float(confidence[row]))

    return [example(row) for row in order[right][:EXAMPLES]], [example(row) for row in order[~right][:EXAMPLES]]


def _probabilities(job: EvaluationJob, scores: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, " n"]:
    """The probability of each picture's likeliest class, computed for a few thousand pictures at a time."""
    names = job.labelled.classes
    parts = [scores[at : at + 4096] for at in range(0, len(scores), 4096)]
    scale, bias = job.model.scale, job.model.bias
    examples = (zero_shot.classify(part, names, scale=scale, bias=bias).probabilities.max(axis=1) for part in parts)
    return np.concatenate(list(examples))
