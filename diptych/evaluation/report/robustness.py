"""Robustness: accuracy on a data set, its shifted versions and its corrupted pictures, after Taori et al. 2020,
"Measuring robustness to natural distribution shifts in image classification", section 3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diptych.evaluation.report.figures import LinearFit, Point
from diptych.evaluation.report.result_rows import Result, is_number, unique
from diptych.evaluation.report.tables import Cell, Table, corruptions_of, mean_over

ENOUGH = 5  # models of different accuracies that a fit needs; a line through fewer would be overfitted
EDGE = 0.1  # percent: 0 and 1 have no logit
ON_THE_LINE = (
    "On the dashed line, accuracy under the shift equals accuracy on the base. A model has effective robustness if it "
    "lies above the line fitted to other models (Taori et al. 2020)."
)
FITTED = "The thin lines are fitted to the models on this page, in logits as in that paper."
SAME = "The base of a shifted set is evaluated on the same classes, with the same names and templates."
MEANS = "The accuracy on a corruption is the mean over its severities."


@dataclass
class Robustness:
    """`points` of each model, `fits` of the shifts with enough models, `sizes` in words of shifts with fewer classes
    than their base, and a `note` that explains the figures."""

    points: dict[str, list[Point]]
    fits: dict[str, LinearFit]
    sizes: dict[str, str]
    note: str

    def table(self) -> Table:
        """Accuracy under each shift, with its difference from the base and from the fit below."""
        rows = []
        for shift in unique(point.shift for series in self.points.values() for point in series):
            series = [next((p for p in own if p.shift == shift), None) for own in self.points.values()]
            rows.append((shift + self.sizes.get(shift, ""), [self._cell(point) for point in series]))
        small = "the difference from the base" + (", and from the fitted line" if self.fits else "")
        return Table(f"Accuracy under shifts, percent; small: {small}", list(self.points), [("", rows)])

    def _cell(self, point: Point | None) -> Cell:
        if point is None:
            return Cell("–")
        note = f"{_signed(point.shifted - point.base)} from {point.base:.1f}"
        if (fit := self.fits.get(point.shift)) is not None:
            note += f", {_signed(point.shifted - fit.at(point.base))} from the line"
        return Cell(f"{point.shifted:.1f}", note)


def _signed(value: float) -> str:
    return f"{round(value, 1) + 0.0:+.1f}".replace("-", "−")  # no minus before zero


def robustness_of(dataset: str, results: Sequence[Result]) -> Robustness | None:
    """The results on a data set's shifts (rows with `shift_of`) and corruptions; None if there are none."""
    points = {
        label: found
        for label in unique(result.label for result in results)
        if (found := _points(dataset, [result for result in results if result.label == label]))
    }
    shifted = [result for result in results if result.row.get("shift_of") == dataset and _base(result)]
    if not points and not shifted:
        return None
    fits = _fits(points)
    notes = [ON_THE_LINE] * bool(points) + [FITTED] * bool(fits) + [SAME] * bool(shifted)
    notes += [MEANS] * any(corruptions_of([result]) for result in results if result.row["dataset"] == dataset)
    return Robustness(points, fits, _sizes(shifted), " ".join([*notes, *_exceptions(shifted)]))


def _points(dataset: str, own: Sequence[Result]) -> list[Point]:
    """The points of one model, from the last row of each shift."""
    found = {
        result.row["dataset"]: Point(base["top1"], result.metrics["top1"], result.row["dataset"])
        for result in own
        if result.row.get("shift_of") == dataset and "top1" in result.metrics
        if (base := _base(result)) and is_number(base.get("top1"))
    }
    corrupted = next((r for r in own if r.row["task"] == "corruptions" and r.row["dataset"] == dataset), None)
    if corrupted and "clean" in corrupted.metrics:
        means = {name: mean_over(corrupted, name) for name in corruptions_of([corrupted])}
        found |= {n: Point(corrupted.metrics["clean"], mean, n) for n, mean in means.items() if mean is not None}
    return list(found.values())


def _base(result: Result) -> dict[str, Any]:
    """The model's result on the base with the shift's classes; empty if the row has none."""
    found = result.details.get("base") if result.row["task"] == "zero-shot" else None
    return found if isinstance(found, dict) else {}


def _sizes(shifted: Sequence[Result]) -> dict[str, str]:
    """The number of classes, in words, of each shift with fewer classes than its base."""
    parts = {result.row["dataset"]: _base(result) for result in shifted if not _base(result).get("missing")}
    return {
        name: f" ({base['classes']:,} of {base['of']:,} classes)"
        for name, base in parts.items()
        if is_number(base.get("classes")) and is_number(base.get("of")) and base["classes"] < base["of"]
    }


def _exceptions(shifted: Sequence[Result]) -> list[str]:
    """The shifts that could not be compared with their base, or not on the same classes."""
    messages = []
    for result in shifted:
        base, name = _base(result), result.row["dataset"]
        if base.get("problem"):
            messages.append(f"{name} could not be compared for {result.label}: {base['problem']}")
        elif missing := base.get("missing"):
            more = f" and {base['lacking'] - len(missing)} more" if base.get("lacking", 0) > len(missing) else ""
            messages.append(
                f"{name} has classes that {base.get('name')} does not name ({', '.join(map(str, missing))}{more}), so "
                f"it is compared with the accuracy on all {base.get('of')} classes of {base.get('name')}."
            )
    return unique(messages)


def _fits(points: dict[str, list[Point]]) -> dict[str, LinearFit]:
    """A line through the models' accuracies in logits, for each shift with enough models."""
    found = {}
    for shift in unique(point.shift for series in points.values() for point in series):
        own = [point for series in points.values() for point in series if point.shift == shift]
        if len({round(point.base, 1) for point in own}) >= ENOUGH:
            base, shifted = (_logits([getattr(point, name) for point in own]) for name in ("base", "shifted"))
            slope, offset = np.polyfit(base, shifted, 1)
            found[shift] = LinearFit(float(slope), float(offset))
    return found


def _logits(percent: Sequence[float]) -> np.ndarray:
    shares = np.clip(percent, EDGE, 100 - EDGE) / 100
    return np.log(shares / (1 - shares))
