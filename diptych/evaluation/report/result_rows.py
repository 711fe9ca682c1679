"""The rows of results.jsonl as its report reads them: checked, labelled, and what is broken left out and named."""

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
    """A row of results.jsonl, and where it lies. `label` tells it from the other models."""

    row: dict[str, Any]
    folder: Path
    label: str = ""

    @property
    def group(self) -> tuple[str, str, str]:
        """What is compared: the same data set, task and settings."""
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
        """What was measured, with what only a curve of shots knows beside it."""
        wise = {f"wise_{point['shots']}": point["wise"] for point in self.curve if is_number(point.get("wise"))}
        wise |= {"wise_all": self.details["all_wise"]} if is_number(self.details.get("all_wise")) else {}
        return {**self.row["metrics"], **wise}

    @property
    def curve(self) -> list[dict[str, Any]]:
        """The points of a few-shot curve; what is no point is left out."""
        points = self.details.get("curve")
        return [
            point
            for point in (points if isinstance(points, list) else [])
            if isinstance(point, dict) and is_number(point.get("shots")) and is_number(point.get("accuracy"))
        ]

    @cached_property
    def hits(self) -> dict[str, Float[np.ndarray, " items"]]:
        """What was right, item by item, by metric; nothing where no file is named."""
        found = {name: values.astype(np.float64) for name, values in self.arrays("right").items()}
        for name, values in found.items():
            if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
                raise ArgumentError(f"{self.details['per_item']}: {name} is no list of finite numbers")
        return found

    def arrays(self, ending: str) -> dict[str, np.ndarray]:
        """The arrays of the file of items whose names end so."""
        if not (name := self.details.get("per_item")):
            return {}
        return arrays_in(self.folder, name, ending)

    def inside(self, name: str) -> Path:
        """A file of this evaluation: nothing outside its folder gets into the page."""
        return inside(self.folder, name)


@dataclass
class Problems:
    """What could not be used, named, in the order in which it was met."""

    found: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def of(self, what: str) -> Iterator[None]:
        """What is broken in here costs itself alone."""
        try:
            yield
        except BROKEN as error:
            said = f"{what}: {error}" if str(error) else f"{what}: {type(error).__name__}"
            if said not in self.found:
                self.found.append(said)


def read_results(folder: Path, problems: Problems) -> list[Result]:
    """The rows that stand: of the same thing measured twice the later, and an error only where nothing was measured.
    Lines that are no rows are named. Raises FileNotFoundError where there is no such file."""
    path = folder / FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no {FILE}; wanted a folder that `diptych evaluate` wrote.")
    rows: dict[Any, dict[str, Any]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), start=1):
        if line.strip():
            with problems.of(f"{FILE}, line {number}, is no row of results"):
                row = _checked(parse_json(line))
                rows[_row_key(row), None if row["error"] else json.dumps(row["settings"], sort_keys=True)] = row
    done = {path for path, settings in rows if settings is not None}
    return _labelled([Result(row, folder) for (path, settings), row in rows.items() if settings or path not in done])


def _row_key(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in ROW_KEY)


def _checked(row: Any) -> dict[str, Any]:
    """The row with everything that it may have; raises ValueError for what is no row."""
    if not isinstance(row, dict):
        raise ArgumentError("wanted an object")
    if missing := [name for name in ("task", "dataset", "model") if not isinstance(row.get(name), str)]:
        raise ArgumentError(f"no {' and no '.join(missing)}")
    parts = {name: row.get(name) or {} for name in ("metrics", "settings", "failures", "details")}
    if bad := [name for name, part in parts.items() if not isinstance(part, dict)]:
        raise ArgumentError(f"{bad[0]} is no object")
    whole = {"error": None, "count": None, "fingerprint": "", "engine": "", "version": "", "seconds": None,
             "started": "", "command": "", **row, **parts}  # fmt: skip
    whole["metrics"] = {name: value for name, value in parts["metrics"].items() if is_number(value)}
    return whole


def is_number(value: Any) -> bool:
    """Finite, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _labelled(results: list[Result]) -> list[Result]:
    """Names for the models; those of one name get the start of their fingerprints too."""
    prints: dict[str, set[str]] = {}
    for result in results:
        if result.row["fingerprint"]:
            prints.setdefault(result.row["model"], set()).add(result.row["fingerprint"])
    for result in results:
        name, mark = result.row["model"], str(result.row["fingerprint"])[:6]
        result.label = f"{name} ({mark})" if len(prints.get(name, ())) > 1 and mark else name
    return results


def unique(values: Iterable[str]) -> list[str]:
    """Each once, in the order in which they come."""
    return list(dict.fromkeys(values))
