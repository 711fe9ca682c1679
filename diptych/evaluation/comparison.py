"""Two evaluations side by side: each metric of each, the difference, and whether it is more than chance."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diptych.errors import DataError
from diptych.evaluation.intervals import Interval, paired_interval
from diptych.evaluation.results import BROKEN, Row, arrays_in, read_results

ALONE = ("l2", "validation_top1")  # no measure of how good a model is


class Compared(NamedTuple):
    """A metric of two rows, in percent (median ranks are ranks). `interval` is that of the difference, paired over
    items; None where the items are not the same or nothing is known of each, which `note` then says. `models` are the
    names of both."""

    dataset: str
    task: str
    metric: str
    first: float
    second: float
    interval: Interval | None
    note: str
    models: tuple[str, str] = ("", "")

    @property
    def difference(self) -> float:
        """Second less first."""
        return self.second - self.first


def compare_results(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> list[Compared]:
    """What two folders of results (or their results.jsonl) have in common. Where they hold several models, those of one
    name are compared with each other. Raises FileNotFoundError and DataError, also where nothing is in common."""
    one, other = ([row for row in read_results(place) if not row.get("error")] for place in (first, second))
    found = []
    for here, there in _paired(one, other):
        found += _rows(here, there, _folder(first), _folder(second))
    if not found:
        raise DataError(f"{first} and {second} have no task on the same data set in common.")
    return found


def _folder(place: str | os.PathLike[str]) -> Path:
    return Path(place) if Path(place).is_dir() else Path(place).parent


def _paired(one: Sequence[Row], other: Sequence[Row]) -> Iterator[tuple[Row, Row]]:
    """Rows of the same set and task, of the same settings where there are such: else the latest of each."""
    names, others = {row["model"] for row in one}, {row["model"] for row in other}
    by_name = len(names) > 1 or len(others) > 1
    if by_name and not names & others:
        raise DataError(
            f"the results are of {', '.join(sorted(names))} and of {', '.join(sorted(others))}; keep one model in each."
        )

    def place(row: Row) -> tuple[str, ...]:
        return row["dataset"], row["task"], row["model"] if by_name else ""

    for key in dict.fromkeys(place(row) for row in one):
        mine = [row for row in one if place(row) == key]
        theirs = [row for row in other if place(row) == key]
        if theirs:
            same = ((a, b) for a in reversed(mine) for b in reversed(theirs) if a["settings"] == b["settings"])
            yield next(same, (mine[-1], theirs[-1]))


def _rows(one: Row, other: Row, here: Path, there: Path) -> list[Compared]:
    differ = [key for key in one["settings"] if one["settings"].get(key) != other["settings"].get(key)]
    note = f"with another {' and '.join(differ)}" if differ else ""
    items, others = _items(one, here), _items(other, there)
    same = bool(items) and bool(others) and _same(items, others)
    found = []
    for metric, value in one["metrics"].items():
        second = other["metrics"].get(metric)
        if metric in ALONE or value is None or second is None:
            continue
        interval = _interval(metric, items, others) if same else None
        why = note if same else ", ".join(filter(None, (note, "other pictures, so no interval")))
        names = str(one["model"]), str(other["model"])
        found.append(Compared(one["dataset"], one["task"], metric, value, second, interval, why, names))
    return found


def _items(row: Row, folder: Path) -> dict[str, np.ndarray]:
    """The numbers of each item; none where their file is gone, or none of the evaluation's."""
    try:
        return arrays_in(folder, row["details"]["per_item"])
    except BROKEN:
        return {}


def _same(items: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> bool:
    """Whether these are the same items of the same set."""
    return all(
        np.array_equal(items[name], others[name])
        for name in ("identity", "places", "text_places")
        if name in items or name in others
    )


def _interval(metric: str, items: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> Interval | None:
    """In percent. Captions of one picture go together."""
    name = array_of(metric)
    if name not in items or name not in others:
        return None
    groups = items["text_places"] if metric.startswith("text_to_image") else None
    return Interval(*(100 * value for value in paired_interval(items[name], others[name], groups)))


def array_of(metric: str) -> str:
    """What the numbers of each item are called whose mean a metric is."""
    if metric in ("top1", "all", "clean"):
        return "right"
    return f"{metric.removesuffix('_r1')}_right"
