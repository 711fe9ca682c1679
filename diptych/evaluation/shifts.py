"""Distribution shifts: data sets with the classes of a base data set on other pictures (Taori et al. 2020, "Measuring
robustness to natural distribution shifts in image classification"), and the accuracy on the base with their classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.errors import DataError
from diptych.evaluation.sets.dataset import LabelledDataset
from diptych.evaluation.sets.opening import open_set
from diptych.evaluation.suite_file import SuiteEntry
from diptych.evaluation.tasks.job import EXPECTED, EvaluationJob
from diptych.scoring import metrics

if TYPE_CHECKING:
    from jaxtyping import Int


MAX_NAMED = 3


@dataclass
class BaseDataset:
    """The base data set of a shift, by its name in the suite: opened, or with the problem."""

    name: str
    data: LabelledDataset | None = None
    problem: str = ""

    def dependencies(self) -> list[str]:
        """The identities that the row of a shift depends on."""
        return [self.name, self.data.pictures.identity if self.data else ""]


def open_base(entry: SuiteEntry) -> BaseDataset:
    """The base, or its problem, which only prevents a comparison of its shifts with it."""
    if entry.kind == "generator":
        return BaseDataset(entry.name, problem=f"{entry.name} is a generator and has no classes.")
    try:
        found = open_set(entry.source, split=entry.split, kind=entry.kind, allow_outside=entry.allow_outside)
    except EXPECTED as error:
        return BaseDataset(entry.name, problem=f"{entry.name} cannot be opened: {error}")
    if isinstance(found, LabelledDataset):
        return BaseDataset(entry.name, found)
    return BaseDataset(entry.name, problem=f"{entry.name} has captions and no classes.")


@dataclass
class ClassMapping:
    """For each class of the base, its index in the shift, or -1. `missing` are the classes of the shift that the base
    does not have."""

    numbers: Int[np.ndarray, " base_classes"]
    missing: list[str] = field(default_factory=list)


def same_classes(shifted: Sequence[str], base: Sequence[str]) -> ClassMapping:
    """Matches classes by name. Repeated names (two ImageNet classes are "missile") are matched in order."""
    indices: dict[str, list[int]] = {}
    for at, name in enumerate(shifted):
        indices.setdefault(name.casefold(), []).append(at)
    numbers, seen = np.full(len(base), -1), dict.fromkeys(indices, 0)
    for at, name in enumerate(name.casefold() for name in base):
        if name in indices:
            numbers[at] = indices[name][min(seen[name], len(indices[name]) - 1)]
            seen[name] += 1
    return ClassMapping(numbers, [name for name in shifted if not seen[name.casefold()]])


def base_accuracy(job: EvaluationJob, base: BaseDataset) -> dict[str, Any]:
    """The accuracy on the base with the classifier of the shift: its class names, its templates, and the base's
    pictures of these classes alone. If the base lacks some of them, all its classes are used. `problem` explains a
    missing accuracy."""
    if base.data is None:
        return {"name": base.name, "problem": base.problem}
    try:
        return {"name": base.name, **_accuracy(job, base.data)}
    except EXPECTED as error:
        return {"name": base.name, "problem": f"{base.name} cannot be evaluated: {error}"}


def _accuracy(job: EvaluationJob, base: LabelledDataset) -> dict[str, Any]:
    same = same_classes(job.labelled.classes, base.classes)
    vectors, numbers = job.classes, same.numbers
    if same.missing:
        vectors = job.model.embed_labels(base.classes, templates=job.prompts, truncate=True)
        numbers = np.arange(len(base.classes))
    seen = job.embed(base)
    labels = numbers[base.labels[seen.indices]]
    kept = labels >= 0
    if not kept.any():
        raise DataError("it has no picture of these classes.")
    top = metrics.top_accuracy(seen.vectors[kept] @ vectors.T, labels[kept], (1,))
    found = {"top1": top[1], "count": int(kept.sum()), "classes": int((numbers >= 0).sum()), "of": len(base.classes)}
    return found | ({"missing": same.missing[:MAX_NAMED], "lacking": len(same.missing)} if same.missing else {})
