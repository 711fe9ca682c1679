"""The tables of an evaluation's report."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.errors import ArgumentError
from diptych.evaluation.intervals import mean_interval
from diptych.evaluation.report.result_rows import Problems, Result, is_number, unique

if TYPE_CHECKING:
    from jaxtyping import Float

TASKS = (
    "zero-shot",
    "retrieval",
    "probe",
    "few-shot",
    "corruptions",
    "clip-score",
    "cmmd",
    "scene-attributes",
)  # in the order of the page
LEVEL, LEVELS = re.compile(r"(?!shots_|wise_)(.+)_([1-5])"), (1, 2, 3, 4, 5)  # noise_3: the third severity of noise
MAX_CLASSES = 40  # in a matrix or plot; with more, tables of the best and worst
MAX_PAIRS, MAX_LISTED = 12, 10
LOWER_IS_BETTER, NO_DIRECTION = ("median_rank", "cmmd", "cmmd_biased"), ("l2", "clip_score_other_prompts")
CONTROLS = ("things_next_caption", "true_scenes_things", "true_scenes_relation", "true_scenes_next_caption")
SHORT = ("l2", "cmmd", "cmmd_biased")  # numbers that are no percentages
DIRECTIONS = {"text_to_image": "text to picture", "image_to_text": "picture to text"}
TITLES = {
    "top1": "accuracy", "top5": "top-5 accuracy", "mean_class": "accuracy, mean over classes",
    "l2": "L2 penalty chosen", "map": "mAP",
    "validation_top1": "accuracy on validation data", "plain": "accuracy, started from zero", "zero_shot": "zero-shot",
    "all": "probe, all examples",
    "median_rank": "median rank", "mean": "mean over corruptions", "r1": "R@1", "r5": "R@5", "r10": "R@10",
    "clip_score": "CLIP score, times 100", "reference_clip_score": "CLIP score with references, times 100",
    "clip_score_other_prompts": "CLIP score with other pictures' prompts", "cmmd": "CMMD (lower is better)",
    "cmmd_biased": "CMMD, biased as in its authors' code",
    "things": "all things in their colours and shapes, no others", "relation": "the stated relation",
    "colours": "the colours", "kinds": "the shapes", "things_next_caption": "all things of the next picture's caption",
    "true_scenes_things": "true scenes: all things", "true_scenes_relation": "true scenes: the stated relation",
    "true_scenes_next_caption": "true scenes: all things of the next one's caption",
}  # fmt: skip


class Cell(NamedTuple):
    """A number in a table, with an interval or range below it."""

    text: str
    note: str = ""
    best: bool = False


@dataclass
class Table:
    """`groups` are (title, rows); a row is (header, one cell per column)."""

    caption: str
    head: Sequence[str]
    groups: list[tuple[str, list[tuple[str, list[Cell]]]]]


def summary(results: Sequence[Result], problems: Problems) -> Table:
    """Main metrics of each data set (rows) by model (columns), with bootstrap intervals if the items are known."""
    models = unique(result.label for result in results)
    groups = []
    for dataset in unique(result.row["dataset"] for result in results):
        rows = []
        for name, members in groups_of([result for result in results if result.row["dataset"] == dataset]):
            for metric in _main(members[0]):
                cells = {result.label: _cell(result, metric, _interval(result, metric, problems)) for result in members}
                rows.append((f"{name}: {title_of(metric)}", _marked(metric, cells, members, models)))
        groups.append((dataset, rows))
    return Table("The main metric of each task, percent", models, groups)


def groups_of(results: Sequence[Result]) -> list[tuple[str, list[Result]]]:
    """Groups of comparable results. A group's name is its task, with the settings that distinguish it from others."""
    members: dict[tuple[str, str, str], list[Result]] = {}
    order = {task: at for at, task in enumerate(TASKS)}
    for result in sorted(results, key=lambda result: order.get(result.row["task"], len(order))):
        members.setdefault(result.group, []).append(result)
    named = []
    for (dataset, task, _), group in members.items():
        settings_of_task = [other[0].row["settings"] for key, other in members.items() if key[:2] == (dataset, task)]
        settings = group[0].row["settings"]
        distinguishing = [
            f"no {key}" if value is None else f"{key} {value}"
            for key, value in settings.items()
            if any(o.get(key) != value for o in settings_of_task)
        ]
        named.append((f"{task} ({', '.join(distinguishing)})" if distinguishing else task, group))
    return named


def _main(result: Result) -> list[str]:
    """The metrics that represent a task in the summary."""
    metrics = result.metrics
    if result.row["task"] == "few-shot":
        shots = sorted((name for name in metrics if name.startswith("shots_")), key=_number)
        return shots[-1:]
    wanted = ("mean",) if result.row["task"] == "corruptions" else ("top1", "text_to_image_r1", "image_to_text_r1")
    return [name for name in wanted if name in metrics] or list(metrics)[:1]


def _number(metric: str) -> int:
    last = metric.rpartition("_")[2]
    return int(last) if last.isdecimal() else 0


def title_of(metric: str) -> str:
    """A metric's name in words: `text_to_image_r1` -> "text to picture, R@1"."""
    if way := next((way for way in DIRECTIONS if metric.startswith(f"{way}_")), None):
        return f"{DIRECTIONS[way]}, {title_of(metric[len(way) + 1 :])}"
    for start, probe in (("shots_", "probe"), ("wise_", "WiSE probe")):
        if metric.startswith(start):
            return f"{probe}, {f'{_number(metric)} of each class' if _number(metric) else 'all examples'}"
    return TITLES.get(metric, metric)


def _interval(result: Result, metric: str, problems: Problems) -> tuple[float, float] | None:
    """The 95 % bootstrap interval in percent; None if the items are unknown or their mean is not this metric."""
    with problems.of(f"{result.title}: no interval"):
        hits = result.hits.get("right" if metric == "top1" else f"{metric.removesuffix('_r1')}_right")
        if hits is None:
            return None
        if abs(100 * hits.mean() - result.metrics[metric]) > 0.1:
            raise ArgumentError(f"the items' mean is {100 * hits.mean():.1f}, {metric} is {result.metrics[metric]:.1f}")
        found = mean_interval(hits)
        return 100 * found.low, 100 * found.high
    return None


def _cell(result: Result, metric: str, ends: tuple[float, float] | None = None) -> Cell:
    if (value := result.metrics.get(metric)) is None:
        return Cell("–")
    text = f"{value:.3g}" if metric in SHORT else f"{value:.1f}"
    return Cell(text, f"{ends[0]:.1f} to {ends[1]:.1f}" if ends else "")


def _marked(metric: str, cells: dict[str, Cell], results: Sequence[Result], labels: Sequence[str]) -> list[Cell]:
    """The cells in the order of the models, with the best of several marked."""
    values = {result.label: result.metrics[metric] for result in results if metric in result.metrics}
    if len(values) > 1 and not metric.endswith(NO_DIRECTION + CONTROLS):
        best = (min if metric.endswith(LOWER_IS_BETTER) else max)(values.values())
        cells = {label: cell._replace(best=values.get(label) == best) for label, cell in cells.items()}
    return [cells.get(label, Cell("–")) for label in labels]


def _marked_best(values: Mapping[str, float | None], labels: Sequence[str]) -> list[Cell]:
    known = {label: value for label, value in values.items() if value is not None}
    best = max(known.values()) if len(known) > 1 else None
    return [Cell(f"{known[name]:.1f}", best=known[name] == best) if name in known else Cell("–") for name in labels]


def metrics_table(name: str, results: Sequence[Result]) -> Table:
    """Metrics (rows) by model (columns), with the mean over each corruption's severities (see `levels_table`)."""
    labels = unique(result.label for result in results)
    metrics = unique(metric for result in results for metric in result.metrics if not LEVEL.fullmatch(metric))
    ranges = {result.label: _ranges(result) for result in results}
    rows = []
    for metric in metrics:
        cells = {result.label: _cell(result, metric, ranges[result.label].get(metric)) for result in results}
        rows.append((title_of(metric), _marked(metric, cells, results, labels)))
    for corruption in corruptions_of(results):
        means = {result.label: mean_over(result, corruption) for result in results}
        rows.append((f"{corruption}, mean over severities", _marked_best(means, labels)))
    excepted = [title_of(name) for name in (*LOWER_IS_BETTER, *NO_DIRECTION) if any(m.endswith(name) for m in metrics)]
    unit = "percent" + (f", except {excepted[0]}" if excepted else "")
    spread = "; small: the lowest and the highest of several draws" if any(ranges.values()) else ""
    return Table(f"{results[0].row['dataset']}, {name}: {unit}{spread}", labels, [("", rows)])


def levels_table(results: Sequence[Result]) -> Table:
    """Accuracy at each severity of each corruption."""
    labels = unique(result.label for result in results)
    groups = []
    for corruption in corruptions_of(results):
        metrics = [f"{corruption}_{level}" for level in LEVELS]
        by_label = {result.label: result for result in results}
        rows = [
            (f"severity {metric[-1]}", [_cell(by_label[label], metric) for label in labels])
            for metric in metrics
            if any(metric in result.metrics for result in results)
        ]
        groups.append((corruption, rows))
    return Table("Accuracy at each severity, percent", labels, groups)


def corruptions_of(results: Sequence[Result]) -> list[str]:
    """The corruptions with measured severities."""
    if any(result.row["task"] != "corruptions" for result in results):
        return []
    return unique(match[1] for result in results for metric in result.metrics if (match := LEVEL.fullmatch(metric)))


def mean_over(result: Result, corruption: str) -> float | None:
    """Mean accuracy over the severities, or None."""
    names = [f"{corruption}_{level}" for level in LEVELS]
    values = [result.metrics[name] for name in names if name in result.metrics]
    return sum(values) / len(values) if values else None


def _ranges(result: Result) -> dict[str, tuple[float, float]]:
    """The lowest and highest of several draws, by metric."""
    return {
        f"shots_{point['shots']}": (point["low"], point["high"])
        for point in result.curve
        if is_number(point.get("low")) and is_number(point.get("high"))
    }


def pairs_table(result: Result, confusion: Float[np.ndarray, "true predicted"], classes: Sequence[str]) -> Table:
    """The most frequent confusions, in descending order."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    rows = []
    for cell_index in np.argsort(-wrong, axis=None, kind="stable")[:MAX_PAIRS]:
        true, predicted = np.unravel_index(cell_index, wrong.shape)
        if times := wrong[true, predicted]:
            share = Cell(f"{100 * times / confusion[true].sum():.1f} %")
            rows.append((f"{classes[true]} → {classes[predicted]}", [Cell(f"{times:g}"), share]))
    return Table(
        f"Most often confused by {result.label} (true → predicted)", ["times", "of the true class"], [("", rows)]
    )


def classes_table(accuracy: Mapping[str, np.ndarray], classes: Sequence[str]) -> Table:
    """Accuracy on each class (rows) by model (columns), best first; the best and worst alone if there are many."""
    values = np.array(list(accuracy.values()))
    order = np.argsort(-np.nan_to_num(values).mean(axis=0), kind="stable")
    rows = [(classes[at], [Cell("–" if np.isnan(v) else f"{v:.1f}") for v in values[:, at]]) for at in map(int, order)]
    if len(rows) <= MAX_CLASSES:
        return Table("Accuracy on each class, percent", list(accuracy), [("", rows)])
    ends = [(f"the {MAX_LISTED} best", rows[:MAX_LISTED]), (f"the {MAX_LISTED} worst", rows[-MAX_LISTED:])]
    return Table(f"Accuracy on the best and worst of {len(rows)} classes, percent", list(accuracy), ends)
