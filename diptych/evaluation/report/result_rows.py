"""Reads the rows of results.jsonl for the report: checks and labels them, leaves out invalid ones and lists these."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.errors import ArgumentError
from diptych.evaluation.results import BROKEN, FILE, ROW_KEY, arrays_in, inside
from diptych.untrusted.json import parse_json

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass
class Result:
    """A row of results.jsonl and its folder. `label` is a name for the model that no other model has."""

    row: dict[str, Any]
    folder: Path
    label: str = ""

    @property
    def group(self) -> tuple[str, str, str]:
        """Results of the same data set, task and settings are compared."""
        return self.row["dataset"], self.row["task"], json.dumps(self.row["settings"], sort_keys=True)

    @property
    def title(self) -> str:
        return f"{self.row['dataset']}, {self.row['task']}, {self.label}"

    @property
    def details(self) -> dict[str, Any]:
        return self.row["details"]

    @property
    def settings(self) -> dict[str, Any]:
        return self.row["settings"]

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The row's metrics, and the WiSE-FT accuracies of its few-shot curve."""
        wise = {f"wise_{point['shots']}": point["wise"] for point in self.curve if is_number(point.get("wise"))}
        wise |= {"wise_all": self.details["all_wise"]} if is_number(self.details.get("all_wise")) else {}
        return {**self.row["metrics"], **wise}

    @property
    def curve(self) -> list[dict[str, Any]]:
        """The valid points of a few-shot curve."""
        points = self.details.get("curve")
        return [
            point
            for point in (points if isinstance(points, list) else [])
            if isinstance(point, dict) and is_number(point.get("shots")) and is_number(point.get("accuracy"))
        ]

    @cached_property
    def hits(self) -> dict[str, Float[np.ndarray, " items"]]:
        """Correctness of each item, by metric; empty if the row names no file."""
        found = {name: values.astype(np.float64) for name, values in self.arrays("right").items()}
        for name, values in found.items():
            if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
                raise ArgumentError(f"{self.details['per_item']}: {name} is not a list of finite numbers")
        return found

    def arrays(self, ending: str) -> dict[str, np.ndarray]:
        """The arrays in the per-item file whose names end with `ending`."""
        if not (name := self.details.get("per_item")):
            return {}
        return arrays_in(self.folder, name, ending)

    def inside(self, name: str) -> Path:
        """A file of this evaluation; the page shows no file outside its folder."""
        return inside(self.folder, name)


@dataclass
class Problems:
    """The problems with unusable results, in the order of their discovery."""

    found: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def of(self, subject: str) -> Iterator[None]:
        """Records an error of the block under `subject` and continues after the block."""
        try:
            yield
        except BROKEN as error:
            problem = f"{subject}: {error}" if str(error) else f"{subject}: {type(error).__name__}"
            if problem not in self.found:
                self.found.append(problem)


def read_results(folder: Path, problems: Problems) -> list[Result]:
    """The latest row of each measurement, and the errors of tasks without any measurement. Lines that are not rows are
    added to `problems`. Raises FileNotFoundError if the file does not exist."""
    path = folder / FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no {FILE}; wanted a folder that `diptych evaluate` wrote.")
    rows: dict[Any, dict[str, Any]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), start=1):
        if line.strip():
            with problems.of(f"{FILE}, line {number}, is not a result row"):
                row = _checked(parse_json(line))
                rows[_row_key(row), None if row["error"] else json.dumps(row["settings"], sort_keys=True)] = row
    done = {path for path, settings in rows if settings is not None}
    return _labelled([Result(row, folder) for (path, settings), row in rows.items() if settings or path not in done])


def _row_key(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in ROW_KEY)


def _checked(row: Any) -> dict[str, Any]:
    """The row with defaults for missing fields. Raises ValueError if it is not a row."""
    if not isinstance(row, dict):
        raise ArgumentError("wanted an object")
    if missing := [name for name in ("task", "dataset", "model") if not isinstance(row.get(name), str)]:
        raise ArgumentError(f"no {' and no '.join(missing)}")
    parts = {name: row.get(name) or {} for name in ("metrics", "settings", "failures", "details")}
    if bad := [name for name, part in parts.items() if not isinstance(part, dict)]:
        raise ArgumentError(f"{bad[0]} is not an object")
    whole = {"error": None, "count": None, "fingerprint": "", "engine": "", "version": "", "seconds": None,
             "started": "", "command": "", **row, **parts}  # fmt: skip
    whole["metrics"] = {name: value for name, value in parts["metrics"].items() if is_number(value)}
    return whole


def is_number(value: Any) -> bool:
    """Whether a value is a finite number and not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _labelled(results: list[Result]) -> list[Result]:
    """Labels results by model name; models of the same name also get the start of their fingerprint."""
    prints: dict[str, set[str]] = {}
    for result in results:
        if result.row["fingerprint"]:
            prints.setdefault(result.row["model"], set()).add(result.row["fingerprint"])
    for result in results:
        name, fingerprint = result.row["model"], str(result.row["fingerprint"])[:6]
        result.label = f"{name} ({fingerprint})" if len(prints.get(name, ())) > 1 and fingerprint else name
    return results


def unique(values: Iterable[str]) -> list[str]:
    """The distinct values, in the order of their first occurrence."""
    return list(dict.fromkeys(values))
