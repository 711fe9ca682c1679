"""Sets that are a shift of another, its classes on other pictures (Taori et al. 2020, "Measuring robustness to natural
distribution shifts in image classification"), and what a model makes of the other under just their classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.errors import ArgumentError, DataError
from diptych.evaluation.sets.named import NAMED
from diptych.evaluation.sets.sets import Labelled, open_set
from diptych.evaluation.tasks.tasks import EXPECTED, Job
from diptych.scoring import metrics

if TYPE_CHECKING:
    from jaxtyping import Int

    from diptych.evaluation.suite import Entry

MOST_NAMED = 3


@dataclass
class Base:
    """The set that another is a shift of, by its name in the suite: open, or what is wrong with it."""

    name: str
    data: Labelled | None = None
    problem: str = ""

    def made_of(self) -> list[str]:
        """What a shift's row depends on."""
        return [self.name, self.data.pictures.identity if self.data else ""]


def bases(entries: Sequence[Entry]) -> dict[str, Entry]:
    """What each shifted set is a shift of, by the shifted one's name: as the suite says, and else as `named.NAMED`
    knows, where the suite has that set. Raises ArgumentError for a base that it has not."""
    found = {}
    for entry in entries:
        known = NAMED[entry.source].shift_of if entry.source in NAMED else None
        if entry.shift_of is not None:
            base = next((each for each in entries if each.name == entry.shift_of), None)
            if base is None or base is entry:
                others = ", ".join(each.name for each in entries if each is not entry)
                raise ArgumentError(
                    f"the data set {entry.name!r} is said to be a shift of {entry.shift_of!r}; the suite's other sets "
                    f"are {others or 'none'}."
                )
        else:
            base = next((each for each in entries if known and each.source == known), None)
        if base is not None:
            found[entry.name] = base
    return found


def open_base(entry: Entry) -> Base:
    """The base, or why there is none: that costs its shifts the comparison alone."""
    try:
        found = open_set(entry.source, split=entry.split, kind=entry.kind, allow_outside=entry.allow_outside)
    except EXPECTED as error:
        return Base(entry.name, problem=f"{entry.name} cannot be opened: {error}")
    if isinstance(found, Labelled):
        return Base(entry.name, found)
    return Base(entry.name, problem=f"{entry.name} has captions and no classes.")


@dataclass
class Classes:
    """Which classes of a base its shift has: the shift's number of each, -1 for those that it has not. `missing` are
    the shift's that the base has not."""

    numbers: Int[np.ndarray, " base_classes"]
    missing: list[str] = field(default_factory=list)


def same_classes(shifted: Sequence[str], base: Sequence[str]) -> Classes:
    """By name. Of a name that comes twice (two of ImageNet's are "missile") the first is the first, and so on."""
    places: dict[str, list[int]] = {}
    for at, name in enumerate(shifted):
        places.setdefault(name.casefold(), []).append(at)
    numbers, seen = np.full(len(base), -1), dict.fromkeys(places, 0)
    for at, name in enumerate(name.casefold() for name in base):
        if name in places:
            numbers[at] = places[name][min(seen[name], len(places[name]) - 1)]
            seen[name] += 1
    return Classes(numbers, [name for name in shifted if not seen[name.casefold()]])


def on_base(job: Job, base: Base) -> dict[str, Any]:
    """The accuracy on the base under the very classifier that the shift is judged by: its class names, its templates,
    and the base's pictures of these classes alone; under all classes of the base where it lacks some of them. `problem`
    says why there is none."""
    if base.data is None:
        return {"name": base.name, "problem": base.problem}
    try:
        return {"name": base.name, **_accuracy(job, base.data)}
    except EXPECTED as error:
        return {"name": base.name, "problem": f"{base.name} cannot be judged: {error}"}


def _accuracy(job: Job, base: Labelled) -> dict[str, Any]:
    same = same_classes(job.labelled.classes, base.classes)
    vectors, numbers = job.classes, same.numbers
    if same.missing:
        vectors = job.model.embed_labels(base.classes, templates=job.prompts, truncate=True)
        numbers = np.arange(len(base.classes))
    seen = job.seen(base)
    answers = numbers[base.answers[seen.places]]
    kept = answers >= 0
    if not kept.any():
        raise DataError("it has no picture of these classes.")
    top = metrics.top_accuracy(seen.vectors[kept] @ vectors.T, answers[kept], (1,))
    found = {"top1": top[1], "count": int(kept.sum()), "classes": int((numbers >= 0).sum()), "of": len(base.classes)}
    return found | ({"missing": same.missing[:MOST_NAMED], "lacking": len(same.missing)} if same.missing else {})
