"""The curves of one run, or of several on the same axes: numbers in, figure out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.display.plots import label_of, legend
from diptych.errors import ArgumentError
from diptych.training.diagnostics.monitor import duration
from diptych.training.run.metrics_file import Row, read_rows

if TYPE_CHECKING:
    from jaxtyping import Float
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Curve = tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")  # Okabe and Ito 2008
INK, PALE = "#333333", "#999999"
WAYS = {"text_to_image": "text to picture", "image_to_text": "picture to text"}
PANELS = {  # what a row of training has beside its loss, with its title
    "lr": "learning rate",
    "scale": "1 / temperature",
    "gradient_norm": "norm of the gradient, before clipping",
    "pictures_per_s": "pictures / s",
    "waiting": "waiting for data, % of the time",
}
AXES = {"epoch": "epochs", "step": "steps", "hours": "hours", "minutes": "minutes"}
SECONDS = {"hours": 3600, "minutes": 60}
FEW_HOURS = 2  # are told in minutes
FEW_POINTS = 30  # are drawn as such
NARROW = 0.02  # of its values an axis spans at least
WIDE = 30  # a range that only a logarithmic axis shows
INCHES = {"loss": 3.4, "recall": 2.7, "panel": 2.0}


def read_runs(folders: Sequence[str]) -> dict[str, list[Row]]:
    """The rows of several runs, each by its folder's name. Raises FileNotFoundError for a folder without any, and
    ValueError where a run has not come to its first row."""
    runs = {os.path.normpath(folder): read_rows(Path(folder)) for folder in folders}
    if empty := [name for name, rows in runs.items() if not len(curve(rows, "loss", "step")[0])]:
        raise ArgumentError(f"{empty[0]} has no rows of training yet; wait for its first steps.")
    return runs


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """The last row of training, and the last and the best evaluation (by all six recalls together)."""
    evaluations = [row for row in rows if "text_to_image" in row]
    best = max(evaluations, key=lambda row: sum(sum(row[way]) for way in WAYS), default=None)
    last = next((row for row in reversed(rows) if "loss" in row), None)
    return {"last": last, "evaluation": evaluations[-1] if evaluations else None, "best": best}


def curves_figure(runs: Mapping[str, Sequence[Row]], *, over: str | None = None) -> Figure:
    """Loss with the line of chance, recall both ways, learning rate, temperature, gradient, speed and waiting.

    `runs` are rows of metrics.jsonl by name. `over` is "epoch", "step" or "hours" (minutes, where there are few); by
    default epochs, where all runs count them. What no run has recorded gets no panel. An axis is logarithmic where it
    spans more than a factor 30.
    """
    from matplotlib.figure import Figure

    over = over or ("epoch" if all(len(curve(rows, "loss", "epoch")[0]) for rows in runs.values()) else "step")
    ways = [way for way in WAYS if any(way in row for rows in runs.values() for row in rows)]
    end = _end(runs, ways, over)
    if over == "hours" and end < FEW_HOURS:
        over, end = "minutes", 60 * end
    panels = [key for key in PANELS if any(len(curve(rows, key, over)[0]) for rows in runs.values())]
    beside = max(1, (len(panels) + 1) // 2)
    below = [panels[i : i + beside] for i in range(0, len(panels), beside)]
    plan = [(["loss"], INCHES["loss"]), (ways, INCHES["recall"]), *((row, INCHES["panel"]) for row in below)]
    plan = [(row, inches) for row, inches in plan if row]
    figure = Figure(figsize=(11, sum(inches for _, inches in plan) + 0.7), dpi=110, layout="constrained")
    figure.get_layout_engine().set(h_pad=0.09, w_pad=0.09)  # type: ignore[union-attr]
    grid = figure.add_gridspec(len(plan), 1, height_ratios=[inches for _, inches in plan])
    for place, (keys, _) in enumerate(plan):
        for axes, key in zip(grid[place].subgridspec(1, len(keys)).subplots(squeeze=False)[0], keys, strict=True):
            _style(axes)
            (_draw_recall if key in WAYS else _draw_loss if key == "loss" else _draw_panel)(axes, runs, key, over)
            axes.set_xlabel(AXES[over] if place == len(plan) - 1 else "", color=INK)
            axes.set_xlim(0, 1.005 * end)
            _plain_numbers(axes)
    figure.suptitle(_title(runs), x=0.012, ha="left", fontsize=12, color=INK, parse_math=False)
    return figure


def _plain_numbers(axes: Axes) -> None:
    """No `+2.5841e1` above an axis that spans little: it is widened until its numbers can be written as they are."""
    from matplotlib.ticker import ScalarFormatter

    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        if isinstance(axis.get_major_formatter(), ScalarFormatter):
            axes.ticklabel_format(axis=name, useOffset=False)  # type: ignore[arg-type]
    low, high = axes.get_ylim()
    least = NARROW * max(abs(low), abs(high))
    if axes.get_yscale() == "linear" and high - low < least:
        axes.set_ylim((low + high - least) / 2, (low + high + least) / 2)


def _end(runs: Mapping[str, Sequence[Row]], ways: Sequence[str], over: str) -> float:
    """Where the longest run ends."""
    ends = [x[-1] for rows in runs.values() for key in ("loss", *ways) if len(x := curve(rows, key, over)[0])]
    if not ends:
        raise ArgumentError(f"no row says how many {AXES[over]} had gone by; draw over something else.")
    return max(ends)


def curve(rows: Sequence[Row], key: str, over: str) -> Curve:
    """(x, y) of one number, in order; of a step that comes twice the later row counts."""
    points = {}
    for row in rows:
        seconds = row.get("elapsed_s")
        x = row.get(over) if over not in SECONDS else None if seconds is None else seconds / SECONDS[over]
        if x is not None and row.get(key) is not None:
            points[x] = row[key]
    xs = sorted(points)
    return np.array(xs, dtype=float), np.array([points[x] for x in xs], dtype=float)


def smoothed(x: Float[np.ndarray, " points"], y: Float[np.ndarray, " points"]) -> Float[np.ndarray, " points"]:
    """Means over a moving window, a fortieth of the curve wide, which is shorter at both ends. A point counts as much
    as its distance to the next: the first steps lie closer together than those after them."""
    if len(x) < 3:
        return y
    half = np.minimum((x[-1] - x[0]) / 78, np.minimum(x - x[0], x[-1] - x)) * (1 + 1e-9)
    first, after = np.searchsorted(x, x - half, "left"), np.searchsorted(x, x + half, "right")
    weights = np.gradient(x)
    sums, totals = (np.concatenate([[0.0], np.cumsum(values)]) for values in (weights * y, weights))
    return (sums[after] - sums[first]) / (totals[after] - totals[first])


def _draw_loss(axes: Axes, runs: Mapping[str, Sequence[Row]], key: str, over: str) -> None:
    _name(axes, "loss")
    _draw_smooth(axes, runs, key, over)
    chances = (next((round(row["chance"], 2) for row in rows if row.get("chance")), None) for rows in runs.values())
    lines = {chance: colour for colour, chance in zip(_colours(runs), chances, strict=True) if chance}
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


def _draw_panel(axes: Axes, runs: Mapping[str, Sequence[Row]], key: str, over: str) -> None:
    _name(axes, PANELS[key])
    _draw_smooth(axes, runs, key, over, factor=100 if key == "waiting" else 1)
    if axes.get_yscale() == "linear" and key != "scale":
        axes.set_ylim(0, 1.05 * axes.dataLim.y1 or 1)


def _draw_smooth(axes: Axes, runs: Mapping[str, Sequence[Row]], key: str, over: str, factor: float = 1) -> None:
    """A run's own course, pale, and over it what it comes to."""
    lowest, highest = np.inf, 0.0
    for colour, (name, rows) in zip(_colours(runs), runs.items(), strict=True):
        x, y = curve(rows, key, over)
        if not len(x):
            continue
        even = y if key == "lr" else smoothed(x, y)
        axes.plot(x, factor * y, color=colour, linewidth=0.8, alpha=0.25, zorder=2)
        axes.plot(
            x,
            factor * even,
            color=colour,
            linewidth=1.8,
            zorder=3,
            label=label_of(name, 30),
            marker="" if len(x) > FEW_POINTS else ".",
            markersize=5,
        )
        lowest, highest = min(lowest, even.min()), max(highest, even.max())
    if key in ("loss", "gradient_norm") and 0 < WIDE * lowest < highest:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")


def _draw_recall(axes: Axes, runs: Mapping[str, Sequence[Row]], key: str, over: str) -> None:
    """Recall at 1, 5 and 10 of one run, with the last values; of several, at 10 and (dashed) at 1. A ring: the best."""
    alone = len(runs) == 1
    _name(axes, f"{WAYS[key]}: " + ("recall, %" if alone else "recall@10, and dashed recall@1, %"))
    for colour, rows in zip(_colours(runs), runs.values(), strict=True):
        x, recalls = curve(rows, key, over)
        for place, k in enumerate((1, 5, 10)) if len(x) else ():
            if not alone and k == 5:
                continue
            y = recalls[:, place]
            dashed = (0, (3, 2)) if k == 1 and not alone else "-"
            shade = {1: 0.45, 5: 0.7, 10: 1.0}[k] if alone else 1.0
            axes.plot(x, y, color=colour, alpha=shade, linewidth=1.8, marker=".", markersize=5, linestyle=dashed)
            ring = {"marker": "o", "markersize": 8, "markerfacecolor": "none", "clip_on": False}
            axes.plot(x[y.argmax()], y.max(), color=colour, alpha=shade, **ring)
        if alone and len(x):
            _label_ends(axes, x[-1], recalls[-1], 1.05 * max(recalls.max(), 1))
    axes.set_ylim(0, 1.05 * max(axes.dataLim.y1, 1))


def _label_ends(axes: Axes, x: float, recalls: Sequence[float], top: float) -> None:
    """Each line's last value beside its end; those of lines that end close together move up, in order."""
    place = -top
    for k, value in zip((1, 5, 10), recalls, strict=True):
        place = max(value, place + 0.09 * top)
        axes.annotate(
            f"R@{k}  {value:.1f}", (x, place), (8, 0), textcoords="offset points", va="center",
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


def _colours(runs: Mapping[str, Sequence[Row]]) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(len(runs))]


def _title(runs: Mapping[str, Sequence[Row]]) -> str:
    if len(runs) > 1:
        return f"{len(runs)} runs"
    [(name, rows)] = runs.items()
    last = rows[-1]
    epochs = f" · {last['epoch']:.1f} epochs" if last.get("epoch") else ""
    passed = f" · {duration(last['elapsed_s'])}" if last.get("elapsed_s") else ""
    return f"{name} · {last['step']:,} step{'s' * (last['step'] != 1)}{epochs}{passed}"
