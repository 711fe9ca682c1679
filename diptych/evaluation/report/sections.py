"""The sections of an evaluation's report: the tables, plots and examples of each task, for the template."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from diptych.display.plots import thumbnail
from diptych.errors import ArgumentError
from diptych.evaluation.report import figures
from diptych.evaluation.report.figures import Curve
from diptych.evaluation.report.result_rows import Problems, Result, is_number
from diptych.evaluation.report.robustness import Robustness, robustness_of
from diptych.evaluation.report.tables import (
    LEVELS,
    MAX_CLASSES,
    Table,
    classes_table,
    corruptions_of,
    groups_of,
    levels_table,
    metrics_table,
    pairs_table,
)

if TYPE_CHECKING:
    from jaxtyping import Float
    from matplotlib.figure import Figure

THUMBNAIL_PX = 128
ENDS = {"best": "Best", "worst": "Worst"}
_RIGHT_OR_WRONG = {"scene-attributes": {"best": "Right", "worst": "Wrong"}}  # tasks whose examples have no score


class Plot(NamedTuple):
    """An embedded figure with its alternative text."""

    uri: str
    alt: str
    title: str
    width_px: int


class ReportExample(NamedTuple):
    """A picture with its true and its predicted label."""

    uri: str
    truth: str
    predicted: str
    score: str


@dataclass
class ReportSection:
    """One task on one data set, or a summary of several. `folded` are (title, table)."""

    title: str
    results: Sequence[Result] = ()
    note: str = ""
    tables: list[Table] = field(default_factory=list)
    folded: list[tuple[str, Table]] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    examples: list[tuple[str, list[ReportExample]]] = field(default_factory=list)


def sections_of(dataset: str, results: Sequence[Result], problems: Problems) -> list[ReportSection]:
    """A section for each task of a data set, and one on robustness."""
    own = [result for result in results if result.row["dataset"] == dataset]
    sections = [_section(name, members, problems) for name, members in groups_of(own)]
    with problems.of(f"{dataset}: no plot of robustness"):
        if found := robustness_of(dataset, results):
            sections.append(_robustness(found))
    return sections


def _section(name: str, results: list[Result], problems: Problems) -> ReportSection:
    section = ReportSection(name[:1].upper() + name[1:], results, tables=[metrics_table(name, results)])
    with problems.of(f"{results[0].row['dataset']}, {name}: no curves"):
        section.plots += _curves(results)
    confusions = {}
    for result in results:
        with problems.of(f"{result.title}: no confusion matrix"):
            if found := _confusion(result):
                confusions[result.label] = found
    with problems.of(f"{results[0].row['dataset']}, {name}: no accuracy by class"):
        _add_classes(section, results, confusions)
    for result in results:
        if result.label in confusions:
            _add_confusion(section, result, *confusions[result.label])
    if corruptions_of(results):
        section.folded.append(("Every severity", levels_table(results)))
    for result in results:
        for end, title in _RIGHT_OR_WRONG.get(result.row["task"], ENDS).items():
            if examples := _examples(result, end, problems):
                section.examples.append((f"{title}: {result.label}", examples))
    return section


# Classes


def _confusion(result: Result) -> tuple[Float[np.ndarray, "true predicted"], list[str]] | None:
    """The confusion matrix and its classes, or None."""
    given = result.details.get("confusion")
    if given is None:  # with many classes it is in the per-item file
        given = result.arrays("confusion").get("confusion") if "classes" in result.details else None
    if given is None:
        return None
    matrix = np.array(given, dtype=float)
    classes = [str(name) for name in result.details["classes"]]
    if matrix.shape != (len(classes), len(classes)) or not len(classes):
        raise ArgumentError(f"it is {' x '.join(map(str, matrix.shape))} for {len(classes)} classes")
    if not (np.isfinite(matrix) & (matrix >= 0)).all():
        raise ArgumentError("some values are not counts")
    return matrix, classes


def _add_confusion(section: ReportSection, result: Result, matrix: np.ndarray, classes: list[str]) -> None:
    pairs = pairs_table(result, matrix, classes)
    rows = pairs.groups[0][1]
    if len(classes) <= MAX_CLASSES:
        most = f" Most often: {rows[0][0]}, {rows[0][1][1].text} of that class." if rows else ""
        alt = f"Heat map of {len(classes)} true classes and the classes predicted by {result.label}.{most}"
        title = f"{result.label}: percent of each true class (down) by predicted class (across)"
        section.plots.append(_plot(figures.confusion_figure(matrix, classes), alt, title))
    if rows and len(classes) <= MAX_CLASSES:
        section.folded.append((f"Most confused: {result.label}", pairs))
    elif rows:
        section.tables.append(pairs)


def _add_classes(
    section: ReportSection, results: Sequence[Result], confusions: Mapping[str, tuple[np.ndarray, list[str]]]
) -> None:
    """Adds accuracy by class, for the results with the same classes as the first."""
    known = {result.label: found for result in results if (found := _class_accuracy(result, confusions))}
    if not known:
        return
    classes = next(iter(known.values()))[1]
    accuracy = {label: values for label, (values, own) in known.items() if own == classes}
    measured = ~np.isnan(np.array(list(accuracy.values()))).all(axis=0)  # classes without a picture have no accuracy
    accuracy = {label: values[measured] for label, values in accuracy.items()}
    classes = [classes[at] for at in np.flatnonzero(measured)]
    table = classes_table(accuracy, classes)
    if len(classes) > MAX_CLASSES:
        section.tables.append(table)
        return
    alt = f"Accuracy of {', '.join(accuracy)} on each of {len(classes)} classes; the table of classes has the numbers."
    section.plots.append(_plot(figures.class_figure(accuracy, classes), alt, "Accuracy on each class, best first"))
    section.folded.append(("Table of classes", table))


def _class_accuracy(result: Result, confusions: Mapping[str, tuple[np.ndarray, list[str]]]):
    """(percent for each class, classes), from the confusion matrix if there is one; None if both are unknown."""
    if result.label in confusions:
        matrix, classes = confusions[result.label]
        count = matrix.sum(axis=1)
        return np.where(count > 0, 100 * matrix.diagonal() / np.maximum(count, 1), np.nan), classes
    values, classes = result.details.get("class_accuracy"), result.details.get("classes")
    if not values or not classes or result.details.get("confusion") is not None:
        return None
    if len(values) != len(classes):
        raise ArgumentError(f"{result.label} has {len(values)} accuracies for {len(classes)} classes")
    return np.array(values, dtype=float), [str(name) for name in classes]


# Curves


def _curves(results: Sequence[Result]) -> list[Plot]:
    if results[0].row["task"] == "few-shot":
        return _shots(results)
    return _levels(results) if corruptions_of(results) else []


def _shots(results: Sequence[Result]) -> list[Plot]:
    """The few-shot curves of all models in one plot, with zero-shot as a horizontal line."""
    models = {result.label: curves for result in results if (curves := _shot_curves(result))}
    if not models:
        return []
    predicted = [
        f"{label}, {kind}, from {curve.y[0]:.1f} to {curve.y[-1]:.1f}"
        for label, curves in models.items()
        for kind, curve in curves.items()
    ]
    alt = f"Accuracy over the number of examples of each class: {'; '.join(predicted)}."
    return [_plot(figures.shots_figure(models), alt, "Few-shot accuracy (band: lowest to highest draw)")]


def _shot_curves(result: Result) -> dict[str, Curve]:
    """The curves of one model by kind; empty if there are no points."""
    points = sorted(result.curve, key=lambda point: point["shots"])
    if not points:
        return {}
    banded = all(is_number(point.get("low")) and is_number(point.get("high")) for point in points)
    low, high = ([point[end] for point in points] if banded else None for end in ("low", "high"))
    x, y = [point["shots"] for point in points], [point["accuracy"] for point in points]
    curves = {"probe": Curve(x, y, low, high, whole=result.metrics.get("all"))}
    if wise := [(point["shots"], point["wise"]) for point in points if is_number(point.get("wise"))]:
        x, y = zip(*wise, strict=True)
        curves["WiSE probe"] = Curve(x, y, whole=result.metrics.get("wise_all"))
    if "zero_shot" in result.metrics:
        curves["zero-shot"] = Curve([], [result.metrics["zero_shot"]])
    return curves


def _levels(results: Sequence[Result]) -> list[Plot]:
    """One plot of all corruptions for one model, else a plot for each corruption."""
    corruptions = corruptions_of(results)
    if len(results) == 1:
        curves = {name: found for at, name in enumerate(corruptions) if (found := _level_curve(results[0], name, at))}
        return [_level_plot(curves, "Accuracy under corruption")]
    plots = []
    for name in corruptions:
        found = {result.label: _level_curve(result, name, at) for at, result in enumerate(results)}
        plots.append(_level_plot({label: curve for label, curve in found.items() if curve}, f"Accuracy under {name}"))
    return plots


def _level_curve(result: Result, corruption: str, colour: int) -> Curve | None:
    points = [(level, result.metrics.get(f"{corruption}_{level}")) for level in LEVELS]
    points = [(0, result.metrics.get("clean")), *points]
    known = [(x, y) for x, y in points if y is not None]
    if not known:
        return None
    x, y = zip(*known, strict=True)
    return Curve(x, y, colour=colour)


def _level_plot(curves: Mapping[str, Curve], title: str) -> Plot:
    ends = "; ".join(f"{name} from {curve.y[0]:.1f} to {curve.y[-1]:.1f}" for name, curve in curves.items())
    return _plot(figures.levels_figure(curves), f"{title}, from clean to the highest severity: {ends}.", title)


def _robustness(found: Robustness) -> ReportSection:
    section = ReportSection("Robustness", note=found.note)
    if found.points:
        alt = "Accuracy on the base and on shifted pictures; the table has the numbers."
        section.tables.append(found.table())
        section.plots.append(_plot(figures.robustness_figure(found.points, found.fits), alt, "Accuracy under shifts"))
    return section


# Pictures


def _examples(result: Result, end: str, problems: Problems) -> list[ReportExample]:
    given = result.details.get(end)
    found = []
    for each in given if isinstance(given, list) else []:
        with problems.of(f"{result.title}: a picture among the {end} is missing"):
            score = f"{each['score']:.2f}" if is_number(each.get("score")) else ""
            truth, predicted = str(each.get("truth", "")), str(each.get("said", ""))
            found.append(ReportExample(_thumbnail(result, each["image"]), truth, predicted, score))
    return found


def _thumbnail(result: Result, name: str) -> str:
    """The picture as a newly encoded JPEG, so that the page contains no metadata and no file that is not a picture."""
    file = io.BytesIO()
    thumbnail(result.inside(name), THUMBNAIL_PX).save(file, "JPEG", quality=85)
    return _uri("image/jpeg", file.getvalue())


def _plot(figure: Figure, alt: str, title: str) -> Plot:
    width_px = round(figure.get_figwidth() * 96)
    return Plot(_uri("image/svg+xml", figures.svg(figure).encode("utf-8", "replace")), alt, title, width_px)


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def plain(value: Any) -> str:
    """A setting's value in words."""
    return "none" if value is None else "yes" if value is True else "no" if value is False else str(value)
