"""Compares two evaluations: each metric of both, their difference, and its confidence interval."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diptych.errors import DataError
from diptych.evaluation.intervals import Interval, paired_interval
from diptych.evaluation.results import BROKEN, ResultRow, arrays_in, read_results

ALONE = ("l2", "validation_top1")  # do not measure a model's quality


class MetricComparison(NamedTuple):
    """A metric of two rows, in percent (median ranks are ranks). `interval` is the paired interval of the difference
    over items, or None if the items differ or are unknown (see `note`). `models` are the names of both models."""

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
        """Second minus first."""
        return self.second - self.first


def compare_results(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> list[MetricComparison]:
    """Compares the tasks that two result folders (or results.jsonl files) have in common. If they hold several
    models, models of the same name are compared. Raises FileNotFoundError, and DataError if nothing is in common."""
    one, other = ([row for row in read_results(path) if not row.get("error")] for path in (first, second))
    found = []
    for here, there in _paired(one, other):
        found += _rows(here, there, _folder(first), _folder(second))
    if not found:
        raise DataError(f"{first} and {second} have no task on the same data set in common.")
    return found


def _folder(path: str | os.PathLike[str]) -> Path:
    return Path(path) if Path(path).is_dir() else Path(path).parent


def _paired(one: Sequence[ResultRow], other: Sequence[ResultRow]) -> Iterator[tuple[ResultRow, ResultRow]]:
    """Pairs of rows of the same data set and task: with equal settings if there are any, else the latest of each."""
    names, others = {row["model"] for row in one}, {row["model"] for row in other}
    by_name = len(names) > 1 or len(others) > 1
    if by_name and not names & others:
        raise DataError(
            f"the results are of {', '.join(sorted(names))} and of {', '.join(sorted(others))}; keep one model in each."
        )

    def row_key(row: ResultRow) -> tuple[str, ...]:
        return row["dataset"], row["task"], row["model"] if by_name else ""

    for key in dict.fromkeys(row_key(row) for row in one):
        mine = [row for row in one if row_key(row) == key]
        theirs = [row for row in other if row_key(row) == key]
        if theirs:
            same = ((a, b) for a in reversed(mine) for b in reversed(theirs) if a["settings"] == b["settings"])
            yield next(same, (mine[-1], theirs[-1]))


def _rows(one: ResultRow, other: ResultRow, here: Path, there: Path) -> list[MetricComparison]:
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
        found.append(MetricComparison(one["dataset"], one["task"], metric, value, second, interval, why, names))
    return found


def _items(row: ResultRow, folder: Path) -> dict[str, np.ndarray]:
    """The arrays with a number for each item; {} if their file is missing or invalid."""
    try:
        return arrays_in(folder, row["details"]["per_item"])
    except BROKEN:
        return {}


def _same(items: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> bool:
    """Whether these are the same items of the same data set."""
    return all(
        np.array_equal(items[name], others[name])
        for name in ("identity", "places", "text_places")
        if name in items or name in others
    )


def _interval(metric: str, items: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> Interval | None:
    """The interval in percent. Captions of one picture are drawn together."""
    name = array_of(metric)
    if name not in items or name not in others:
        return None
    groups = items["text_places"] if metric.startswith("text_to_image") else None
    return Interval(*(100 * value for value in paired_interval(items[name], others[name], groups)))


def array_of(metric: str) -> str:
    """The name of the per-item array whose mean is this metric."""
    if metric in ("top1", "all", "clean"):
        return "right"
    return f"{metric.removesuffix('_r1')}_right"
