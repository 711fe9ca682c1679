"""What shifts cost: accuracy on a data set against that on its shifted versions and on its corrupted pictures, after
Taori et al. 2020, "Measuring robustness to natural distribution shifts in image classification", section 3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diptych.evaluation.report.figures import LinearFit, Point
from diptych.evaluation.report.result_rows import Result, is_number, unique
from diptych.evaluation.report.tables import Cell, Table, corruptions_of, mean_over

ENOUGH = 5  # models of different accuracies that a line is fitted to; through fewer it would only follow them
EDGE = 0.1  # percent: nothing and all have no logit
ON_THE_LINE = (
    "On the dashed line a shift would cost nothing. A model is robust beyond its accuracy where it lies above the line "
    "that other models trace (effective robustness, Taori et al. 2020)."
)
FITTED = "The thin lines are fitted to the models on this page, in logits as there."
SAME = "A shifted set is compared with the accuracy on the same classes, under the same names and templates."
MEANS = "A corruption is the mean over its severities."


@dataclass
class Robustness:
    """`points` of each model, `fits` of those shifts that enough models were measured on, `sizes` of the shifts that
    have a part of the classes, in words, and what could not be compared."""

    points: dict[str, list[Point]]
    fits: dict[str, LinearFit]
    sizes: dict[str, str]
    note: str

    def table(self) -> Table:
        """Accuracy on what is shifted, and under it the way there: from the base, and from the fit."""
        rows = []
        for shift in unique(point.shift for series in self.points.values() for point in series):
            series = [next((p for p in own if p.shift == shift), None) for own in self.points.values()]
            rows.append((shift + self.sizes.get(shift, ""), [self._cell(point) for point in series]))
        small = "the difference from pictures as they were" + (", and from the fitted line" if self.fits else "")
        return Table(f"Accuracy under shifts, percent; in small {small}", list(self.points), [("", rows)])

    def _cell(self, point: Point | None) -> Cell:
        if point is None:
            return Cell("–")
        note = f"{_signed(point.shifted - point.base)} from {point.base:.1f}"
        if (fit := self.fits.get(point.shift)) is not None:
            note += f", {_signed(point.shifted - fit.at(point.base))} from the line"
        return Cell(f"{point.shifted:.1f}", note)


def _signed(value: float) -> str:
    return f"{round(value, 1) + 0.0:+.1f}".replace("-", "−")  # no minus before nothing


def robustness_of(dataset: str, results: Sequence[Result]) -> Robustness | None:
    """What is known of a data set's shifts (rows that say `shift_of`) and corruptions; None where there are none."""
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
    """One model's; of several rows of a shift the last."""
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
    """What the model made of the base, under the shift's classes; empty where nothing is said."""
    found = result.details.get("base") if result.row["task"] == "zero-shot" else None
    return found if isinstance(found, dict) else {}


def _sizes(shifted: Sequence[Result]) -> dict[str, str]:
    """Which shifts have a part of the classes of their base."""
    parts = {result.row["dataset"]: _base(result) for result in shifted if not _base(result).get("missing")}
    return {
        name: f" ({base['classes']:,} of {base['of']:,} classes)"
        for name, base in parts.items()
        if is_number(base.get("classes")) and is_number(base.get("of")) and base["classes"] < base["of"]
    }


def _exceptions(shifted: Sequence[Result]) -> list[str]:
    """Where the same classes, or the base at all, could not be had."""
    said = []
    for result in shifted:
        base, name = _base(result), result.row["dataset"]
        if base.get("problem"):
            said.append(f"{name} could not be compared for {result.label}: {base['problem']}")
        elif missing := base.get("missing"):
            more = f" and {base['lacking'] - len(missing)} more" if base.get("lacking", 0) > len(missing) else ""
            said.append(
                f"{name} has classes that {base.get('name')} has not by these names ({', '.join(map(str, missing))}"
                f"{more}), so it is compared with the accuracy on all of that one's {base.get('of')} classes."
            )
    return unique(said)


def _fits(points: dict[str, list[Point]]) -> dict[str, LinearFit]:
    """For each shift a line through the models' accuracies in logits, where there are enough."""
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
