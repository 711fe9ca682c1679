"""Plots of the metrics of one run, or of several on the same axes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.display.plots import label_of, legend
from diptych.errors import ArgumentError
from diptych.training.diagnostics.monitor import duration
from diptych.training.run.metrics_file import MetricsRow, read_metrics

if TYPE_CHECKING:
    from jaxtyping import Float
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Curve = tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")  # Okabe and Ito 2008
INK, PALE = "#333333", "#999999"
DIRECTIONS = {"text_to_image": "text to picture", "image_to_text": "picture to text"}
PANELS = {  # the keys of a training row besides the loss, with their titles
    "lr": "learning rate",
    "scale": "1 / temperature",
    "gradient_norm": "norm of the gradient, before clipping",
    "pictures_per_s": "pictures / s",
    "waiting": "waiting for data, % of the time",
}
AXES = {"epoch": "epochs", "step": "steps", "hours": "hours", "minutes": "minutes"}
SECONDS = {"hours": 3600, "minutes": 60}
FEW_HOURS = 2  # shorter runs are plotted in minutes
FEW_POINTS = 30  # shorter curves have markers
MIN_SPAN = 0.02  # of an axis, relative to its values
LOG_RATIO = 30  # of highest to lowest; above it the axis is logarithmic
INCHES = {"loss": 3.4, "recall": 2.7, "panel": 2.0}


def read_runs(folders: Sequence[str]) -> dict[str, list[MetricsRow]]:
    """The rows of several runs by folder. Raises FileNotFoundError for a folder without metrics, and ValueError for a
    run without rows."""
    runs = {os.path.normpath(folder): read_metrics(Path(folder)) for folder in folders}
    if empty := [name for name, rows in runs.items() if not len(curve(rows, "loss", "step")[0])]:
        raise ArgumentError(f"{empty[0]} has no rows of training yet; wait for its first steps.")
    return runs


def summary(rows: Sequence[MetricsRow]) -> dict[str, Any]:
    """The last row of training, and the last and the best evaluation (by the sum of all six recalls)."""
    evaluations = [row for row in rows if "text_to_image" in row]
    best = max(evaluations, key=lambda row: sum(sum(row[way]) for way in DIRECTIONS), default=None)
    last = next((row for row in reversed(rows) if "loss" in row), None)
    return {"last": last, "evaluation": evaluations[-1] if evaluations else None, "best": best}


def curves_figure(runs: Mapping[str, Sequence[MetricsRow]], *, over: str | None = None) -> Figure:
    """Loss with its chance level, recall in both directions, learning rate, temperature, gradient norm, throughput and
    waiting time.

    `runs` are rows of metrics.jsonl by name. `over` is "epoch", "step" or "hours" (minutes for short runs); by default
    epochs, if all runs have them. A quantity that no run recorded gets no panel. An axis is logarithmic if its values
    differ by more than a factor of 30.
    """
    from matplotlib.figure import Figure

    over = over or ("epoch" if all(len(curve(rows, "loss", "epoch")[0]) for rows in runs.values()) else "step")
    directions = [key for key in DIRECTIONS if any(key in row for rows in runs.values() for row in rows)]
    last_point = _last_point(runs, directions, over)
    if over == "hours" and last_point < FEW_HOURS:
        over, last_point = "minutes", 60 * last_point
    panels = [key for key in PANELS if any(len(curve(rows, key, over)[0]) for rows in runs.values())]
    per_row = max(1, (len(panels) + 1) // 2)
    panel_rows = [panels[i : i + per_row] for i in range(0, len(panels), per_row)]
    plan = [(["loss"], INCHES["loss"]), (directions, INCHES["recall"]), *((row, INCHES["panel"]) for row in panel_rows)]
    plan = [(row, inches) for row, inches in plan if row]
    figure = Figure(figsize=(11, sum(inches for _, inches in plan) + 0.7), dpi=110, layout="constrained")
    figure.get_layout_engine().set(h_pad=0.09, w_pad=0.09)  # type: ignore[union-attr]
    grid = figure.add_gridspec(len(plan), 1, height_ratios=[inches for _, inches in plan])
    for panel_position, (keys, _) in enumerate(plan):
        for axes, key in zip(
            grid[panel_position].subgridspec(1, len(keys)).subplots(squeeze=False)[0], keys, strict=True
        ):
            _style(axes)
            (_draw_recall if key in DIRECTIONS else _draw_loss if key == "loss" else _draw_panel)(axes, runs, key, over)
            axes.set_xlabel(AXES[over] if panel_position == len(plan) - 1 else "", color=INK)
            axes.set_xlim(0, 1.005 * last_point)
            _plain_numbers(axes)
    figure.suptitle(_title(runs), x=0.012, ha="left", fontsize=12, color=INK, parse_math=False)
    return figure


def _plain_numbers(axes: Axes) -> None:
    """Widen an axis that spans little, so that its ticks need no offset such as `+2.5841e1`."""
    from matplotlib.ticker import ScalarFormatter

    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        if isinstance(axis.get_major_formatter(), ScalarFormatter):
            axes.ticklabel_format(axis=name, useOffset=False)  # type: ignore[arg-type]
    low, high = axes.get_ylim()
    min_span = MIN_SPAN * max(abs(low), abs(high))
    if axes.get_yscale() == "linear" and high - low < min_span:
        axes.set_ylim((low + high - min_span) / 2, (low + high + min_span) / 2)


def _last_point(runs: Mapping[str, Sequence[MetricsRow]], directions: Sequence[str], over: str) -> float:
    """The end of the longest run."""
    ends = [x[-1] for rows in runs.values() for key in ("loss", *directions) if len(x := curve(rows, key, over)[0])]
    if not ends:
        raise ArgumentError(f"no row has {AXES[over]}; plot over another quantity.")
    return max(ends)


def curve(rows: Sequence[MetricsRow], key: str, over: str) -> Curve:
    """(x, y) of one quantity, in order. The later of two rows of one step counts."""
    points = {}
    for row in rows:
        seconds = row.get("elapsed_s")
        x = row.get(over) if over not in SECONDS else None if seconds is None else seconds / SECONDS[over]
        if x is not None and row.get(key) is not None:
            points[x] = row[key]
    xs = sorted(points)
    return np.array(xs, dtype=float), np.array([points[x] for x in xs], dtype=float)


def smoothed(x: Float[np.ndarray, " points"], y: Float[np.ndarray, " points"]) -> Float[np.ndarray, " points"]:
    """Means over a moving window, a fortieth of the curve wide and shorter at both ends. A point's weight is its
    distance to the next, because the first steps are closer together than later ones."""
    if len(x) < 3:
        return y
    half = np.minimum((x[-1] - x[0]) / 78, np.minimum(x - x[0], x[-1] - x)) * (1 + 1e-9)
    start, end = np.searchsorted(x, x - half, "left"), np.searchsorted(x, x + half, "right")
    weights = np.gradient(x)
    sums, totals = (np.concatenate([[0.0], np.cumsum(values)]) for values in (weights * y, weights))
    return (sums[end] - sums[start]) / (totals[end] - totals[start])


def _draw_loss(axes: Axes, runs: Mapping[str, Sequence[MetricsRow]], key: str, over: str) -> None:
    _name(axes, "loss")
    _draw_smooth(axes, runs, key, over)
    chance_levels = (
        next((round(row["chance"], 2) for row in rows if row.get("chance")), None) for rows in runs.values()
    )
    lines = {chance: colour for colour, chance in zip(_colours(runs), chance_levels, strict=True) if chance}
    for chance, colour in lines.items():
        colour = colour if len(lines) > 1 else PALE
        axes.axhline(chance, color=colour, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
        axes.annotate(
            f"chance {chance:.2f}", (1, chance), (-4, 3), xycoords=("axes fraction", "data"),
            textcoords="offset points", ha="right", color="#666666", fontsize=9,
        )  # fmt: skip
    if len(runs) > 1:
        beside_title = {"loc": "lower right", "bbox_to_anchor": (1, 0.99), "borderaxespad": 0.2}
        legend(axes, ncols=min(4, len(runs)), frameon=False, fontsize=9, **beside_title)


def _draw_panel(axes: Axes, runs: Mapping[str, Sequence[MetricsRow]], key: str, over: str) -> None:
    _name(axes, PANELS[key])
    _draw_smooth(axes, runs, key, over, factor=100 if key == "waiting" else 1)
    if axes.get_yscale() == "linear" and key != "scale":
        axes.set_ylim(0, 1.05 * axes.dataLim.y1 or 1)


def _draw_smooth(axes: Axes, runs: Mapping[str, Sequence[MetricsRow]], key: str, over: str, factor: float = 1) -> None:
    """A run's values, pale, and over them the smoothed curve."""
    lowest, highest = np.inf, 0.0
    for colour, (name, rows) in zip(_colours(runs), runs.items(), strict=True):
        x, y = curve(rows, key, over)
        if not len(x):
            continue
        smooth = y if key == "lr" else smoothed(x, y)
        axes.plot(x, factor * y, color=colour, linewidth=0.8, alpha=0.25, zorder=2)
        axes.plot(
            x,
            factor * smooth,
            color=colour,
            linewidth=1.8,
            zorder=3,
            label=label_of(name, 30),
            marker="" if len(x) > FEW_POINTS else ".",
            markersize=5,
        )
        lowest, highest = min(lowest, smooth.min()), max(highest, smooth.max())
    if key in ("loss", "gradient_norm") and 0 < LOG_RATIO * lowest < highest:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")


def _draw_recall(axes: Axes, runs: Mapping[str, Sequence[MetricsRow]], key: str, over: str) -> None:
    """Recall at 1, 5 and 10 of one run, with the last values; of several runs at 10 and (dashed) at 1. A ring marks the
    best."""
    is_single = len(runs) == 1
    _name(axes, f"{DIRECTIONS[key]}: " + ("recall, %" if is_single else "recall@10, and dashed recall@1, %"))
    for colour, rows in zip(_colours(runs), runs.values(), strict=True):
        x, recalls = curve(rows, key, over)
        for column, k in enumerate((1, 5, 10)) if len(x) else ():
            if not is_single and k == 5:
                continue
            y = recalls[:, column]
            dashed = (0, (3, 2)) if k == 1 and not is_single else "-"
            shade = {1: 0.45, 5: 0.7, 10: 1.0}[k] if is_single else 1.0
            axes.plot(x, y, color=colour, alpha=shade, linewidth=1.8, marker=".", markersize=5, linestyle=dashed)
            ring = {"marker": "o", "markersize": 8, "markerfacecolor": "none", "clip_on": False}
            axes.plot(x[y.argmax()], y.max(), color=colour, alpha=shade, **ring)
        if is_single and len(x):
            _label_ends(axes, x[-1], recalls[-1], 1.05 * max(recalls.max(), 1))
    axes.set_ylim(0, 1.05 * max(axes.dataLim.y1, 1))


def _label_ends(axes: Axes, x: float, recalls: Sequence[float], top: float) -> None:
    """Each curve's last value beside its end, moved up where two would overlap."""
    label_y = -top
    for k, value in zip((1, 5, 10), recalls, strict=True):
        label_y = max(value, label_y + 0.09 * top)
        axes.annotate(
            f"R@{k}  {value:.1f}", (x, label_y), (8, 0), textcoords="offset points", va="center",
            fontsize=9, color=INK, annotation_clip=False,
        )  # fmt: skip


def _style(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(PALE)
    axes.tick_params(labelsize=8.5, color=PALE, labelcolor=INK)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


def _name(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=INK, fontweight="bold")


def _colours(runs: Mapping[str, Sequence[MetricsRow]]) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(len(runs))]


def _title(runs: Mapping[str, Sequence[MetricsRow]]) -> str:
    if len(runs) > 1:
        return f"{len(runs)} runs"
    [(name, rows)] = runs.items()
    last = rows[-1]
    epochs = f" · {last['epoch']:.1f} epochs" if last.get("epoch") else ""
    elapsed = f" · {duration(last['elapsed_s'])}" if last.get("elapsed_s") else ""
    return f"{name} · {last['step']:,} step{'s' * (last['step'] != 1)}{epochs}{elapsed}"
