"""The plots of an evaluation's report and their SVG, which adapts to light and dark pages. Values are in percent."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from diptych.display.plots import cut_middle, shortened

if TYPE_CHECKING:
    from jaxtyping import Float
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # Okabe and Ito 2008, without black
SHAPES = ("o", "s", "^", "D", "v", "P", "X")  # one more than the colours: 42 different pairs
RIGHT, WRONG = COLOURS[:2]
INK, PALE, GRID = "#333334", "#8a8a8b", "#e4e4e5"  # used for nothing else, so that `svg` can replace them
DARK = {  # colour -> colour on a dark page
    INK: "#dcdcdf", PALE: "#8b8b90", GRID: "#3a3a3f", "#0072b2": "#4aa3e0", "#d55e00": "#f08138", "#009e73": "#2cc295",
    "#cc79a7": "#e096c1", "#56b4e9": "#9bd5f7", "#e69f00": "#f2b93b",
}  # fmt: skip
WIDTH_IN = 4.9  # a column of the page; a phone shows it at three quarters of that
FONT = 10.0
MAX_NUMBERED_CELLS = 12  # classes; the cells of a larger matrix have no room for numbers
LEVELS = 5
KINDS: dict[str, dict[str, Any]] = {  # line styles of few-shot curves
    "probe": {"linestyle": "-", "marker": "o"},
    "WiSE probe": {"linestyle": (0, (4, 2)), "marker": "s"},
    "zero-shot": {"linestyle": (0, (1, 1.6))},
}


class Curve(NamedTuple):
    """A line, an optional band around it, and the value with all examples (`whole`)."""

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    colour: int = 0
    whole: float | None = None


class Point(NamedTuple):
    """A model's accuracy on a set and on a shifted version of it, in percent."""

    base: float
    shifted: float
    shift: str


class LinearFit(NamedTuple):
    """A line through models in logits: logit(shifted) = slope * logit(base) + offset."""

    slope: float
    offset: float

    def at(self, base: float) -> float:
        """The shifted accuracy on the line at a base accuracy, in percent."""
        share = min(max(base / 100, 1e-3), 1 - 1e-3)
        return 100 / (1 + float(np.exp(-self.slope * np.log(share / (1 - share)) - self.offset)))


def confusion_figure(confusion: Float[np.ndarray, "true predicted"], classes: Sequence[str]) -> Figure:
    """The predicted classes (across) of each true class (down), in percent of the true class. Correct and wrong
    predictions have different colours; opacity is the square root of the share, so that 1 % is still visible."""
    from matplotlib.colors import to_rgb

    count = len(classes)
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    cells = np.empty((count, count, 4))
    cells[..., :3] = to_rgb(WRONG)
    cells[np.arange(count), np.arange(count), :3] = to_rgb(RIGHT)
    cells[..., 3] = np.sqrt(share)
    cell_in = 0.42 if count <= MAX_NUMBERED_CELLS else 0.21
    size = FONT if count <= MAX_NUMBERED_CELLS else 8.5
    labels = [_label(name, 16) for name in classes]
    side = 0.35 + 0.075 * (size / 10) * max(map(len, labels))
    figure, axes = _axes(side + max(cell_in * count, 2.0) + 0.3, side + cell_in * count + 0.35)
    axes.imshow(cells, interpolation="none", aspect="auto")
    axes.set_xticks(range(count), labels, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(range(count), labels, fontsize=size, parse_math=False)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("predicted", color=INK)
    axes.set_ylabel("true", color=INK)
    axes.tick_params(length=0, labelcolor=INK)
    axes.grid(False)
    axes.spines[:].set(visible=True, color=PALE)
    if count <= MAX_NUMBERED_CELLS:
        _number_cells(axes, share)
    return figure


def _number_cells(axes: Axes, share: np.ndarray) -> None:
    """Writes whole percents into the cells, except for zeros."""
    for (row, column), value in np.ndenumerate(share):
        if value >= 0.005:
            colour = "#ffffff" if value > 0.4 else INK
            axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=FONT, color=colour)


def class_figure(accuracy: Mapping[str, Float[np.ndarray, " classes"]], classes: Sequence[str]) -> Figure:
    """The accuracy on each class, with a marker for each model; classes are sorted by mean accuracy, best first."""
    values = np.array(list(accuracy.values()), dtype=float)  # (series, classes)
    order = np.argsort(-np.nan_to_num(values).mean(axis=0), kind="stable")
    figure, axes = _axes(WIDTH_IN, 0.95 + 0.24 * len(classes) + _legend_inches(accuracy))
    y_positions = np.arange(len(order))
    low, high = np.nanmin(values, axis=0)[order], np.nanmax(values, axis=0)[order]
    axes.hlines(y_positions, low, high, color=PALE, linewidth=1.5, zorder=1)
    for at, (name, row) in enumerate(zip(accuracy, values, strict=True)):
        style: Any = {"color": COLOURS[at % len(COLOURS)], "marker": SHAPES[at % len(SHAPES)], "linestyle": ""}
        axes.plot(row[order], y_positions, markersize=6.5, label=_label(name), clip_on=False, **style)
    axes.set_yticks(y_positions, [_label(classes[int(at)], 22) for at in order], fontsize=FONT, parse_math=False)
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("accuracy, %", color=INK)
    axes.grid(axis="both", color=GRID, linewidth=0.8)
    _legend(axes, accuracy)
    return figure


def shots_figure(models: Mapping[str, Mapping[str, Curve]]) -> Figure:
    """Accuracy by the number of examples per class (doubling, then all). Each model has curves by their KINDS; a
    zero-shot curve is a horizontal line at its only value. Colours show the kind if there is one model, else the
    model."""
    from matplotlib.lines import Line2D

    alone = len(models) == 1
    kinds = [kind for kind in KINDS if any(kind in curves for curves in models.values())]
    shades = {kind: COLOURS[at] if alone else INK for at, kind in enumerate(KINDS)}
    names = kinds if alone else [*models, *kinds]
    figure, axes = _axes(WIDTH_IN, 3.2 + _legend_inches(names))
    every = [curve for curves in models.values() for kind, curve in curves.items() if kind != "zero-shot"]
    shots = sorted({float(x) for curve in every for x in curve.x})
    for at, curves in enumerate(models.values()):
        for kind, curve in curves.items():
            _draw_shots(axes, kind, curve, shades[kind] if alone else COLOURS[at % len(COLOURS)], 2 * shots[-1])
    axes.set_xscale("log", base=2)
    has_all = any(curve.whole is not None for curve in every)
    ticks = {shot: f"{shot:g}" for shot in shots} | ({2 * shots[-1]: "all"} if has_all else {})
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set_xticks([], minor=True)
    axes.set_xlabel("examples of each class", color=INK)
    _finish_accuracy(axes)
    lines = [Line2D([], [], color=shades[kind], linewidth=2, label=kind, **KINDS[kind]) for kind in kinds]
    _legend(axes, names, lines if alone else [*_colour_keys(list(models)), *lines])
    return figure


def _draw_shots(axes: Axes, kind: str, curve: Curve, colour: str, last: float) -> None:
    """Draws a curve and, at x = `last`, its value with all examples."""
    if kind == "zero-shot":
        axes.axhline(curve.y[0], linewidth=2, color=colour, **KINDS[kind])
        return
    _draw(axes, "", curve._replace(colour=COLOURS.index(colour)), **KINDS[kind])
    if curve.whole is not None:
        faint: Any = {"color": colour, "linewidth": 1, "linestyle": (0, (2, 2))}
        axes.plot([curve.x[-1], last], [curve.y[-1], curve.whole], **faint)
        axes.plot(last, curve.whole, KINDS[kind]["marker"], color=colour, markersize=6)


def levels_figure(curves: Mapping[str, Curve]) -> Figure:
    """Accuracy by the severity of a corruption; severity 0 is the clean picture."""
    figure, axes = _axes(WIDTH_IN, 2.9 + _legend_inches(curves))
    for at, (name, curve) in enumerate(curves.items()):
        _draw(axes, name, curve, marker=SHAPES[at % len(SHAPES)])
    axes.set_xticks(range(LEVELS + 1), ["clean", *map(str, range(1, LEVELS + 1))])
    axes.set_xlabel("severity", color=INK)
    _finish_accuracy(axes)
    _legend(axes, curves)
    return figure


def robustness_figure(points: Mapping[str, Sequence[Point]], fits: Mapping[str, LinearFit] | None = None) -> Figure:
    """Accuracy on a data set (x) and on its shifted versions (y), as in Taori et al. 2020, figure 1, on linear axes:
    `points` of each series, and `fits` by shift. On y = x the accuracies are equal."""
    shifts = list(dict.fromkeys(point.shift for series in points.values() for point in series))
    figure, axes = _axes(WIDTH_IN, 4.4 + _legend_inches([*points, *shifts]))
    every = [point for series in points.values() for point in series]
    left, bottom = (max(0, min(values) - 6) for values in zip(*((p.base, p.shifted) for p in every), strict=True))
    high, start = min(100, max(max(p.base, p.shifted) for p in every) + 6), max(left, bottom)
    axes.plot([start, high], [start, high], color=PALE, linewidth=1.5, linestyle=(0, (4, 3)), zorder=1)
    for at, series in enumerate(points.values()):
        for point in series:
            shape = SHAPES[shifts.index(point.shift) % len(SHAPES)]
            axes.plot(point.base, point.shifted, shape, markersize=8, clip_on=False, **_mark(at))
    for shift, fit in (fits or {}).items():
        own = [point.base for series in points.values() for point in series if point.shift == shift]
        _draw_fit(axes, fit, min(own), max(own))
    near = start + 0.06 * (high - start)
    slant = np.degrees(np.arctan((high - left) / (high - bottom)))  # the plot is square
    along: Any = {"rotation": slant, "rotation_mode": "anchor", "fontsize": FONT}
    axes.annotate("y = x", (near, near), (-4, 5), textcoords="offset points", color=INK, **along)
    axes.set_xlim(left, high)
    axes.set_ylim(bottom, high)
    axes.set_box_aspect(1)
    axes.set_xlabel("accuracy on the base set, same classes, %", color=INK)
    axes.set_ylabel("accuracy on the shifted set, %", color=INK)
    axes.grid(axis="both", color=GRID, linewidth=0.8)
    _draw_keys(axes, list(points), shifts)
    return figure


def _mark(series: int) -> dict[str, Any]:
    """A colour for each series; markers are hollow once every colour is used."""
    colour = COLOURS[series % len(COLOURS)]
    hollow = series // len(COLOURS) % 2 == 1
    return {"color": colour, "markerfacecolor": "none" if hollow else colour, "markeredgewidth": 1.6 if hollow else 1}


def _draw_fit(axes: Axes, fit: LinearFit, low: float, high: float) -> None:
    x = np.linspace(low, high, 50)
    axes.plot(x, [fit.at(value) for value in x], color=PALE, linewidth=1, zorder=1)


def _draw_keys(axes: Axes, series: Sequence[str], shifts: Sequence[str]) -> None:
    """Draws the legend: a box for each series and a shape for each shift."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    boxes = [
        Patch(edgecolor=mark["color"], facecolor=mark["markerfacecolor"], linewidth=1.6, label=_label(name))
        for name, mark in zip(series, map(_mark, range(len(series))), strict=True)
    ]
    key: Any = {"linestyle": "", "markersize": 8, "color": PALE}
    shapes = [
        Line2D([], [], marker=SHAPES[at % len(SHAPES)], label=_label(name), **key) for at, name in enumerate(shifts)
    ]
    _legend(axes, [*series, *shifts], [*boxes, *shapes])


def _colour_keys(series: Sequence[str]) -> list[Line2D]:
    from matplotlib.lines import Line2D

    key: Any = {"linestyle": "", "markersize": 8, "marker": "_", "markeredgewidth": 5}
    return [
        Line2D([], [], color=COLOURS[at % len(COLOURS)], label=_label(name), **key) for at, name in enumerate(series)
    ]


def _draw(axes: Axes, name: str, curve: Curve, *, marker: str, linestyle: Any = "-") -> None:
    colour = COLOURS[curve.colour % len(COLOURS)]
    if curve.low is not None and curve.high is not None:
        axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.16, linewidth=0)
    style: Any = {"color": colour, "linestyle": linestyle, "marker": marker}
    axes.plot(curve.x, curve.y, linewidth=2, markersize=5.5, label=_label(name), **style)


def _axes(width_in: float, height_in: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), dpi=96, layout="constrained")
    figure.patch.set_alpha(0)  # the page's background
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(PALE)
    axes.tick_params(labelsize=FONT, color=PALE, labelcolor=INK)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _finish_accuracy(axes: Axes) -> None:
    """Sets the y axis to percent, over the range of the data and at most 100."""
    from matplotlib.ticker import MaxNLocator

    low, high = axes.dataLim.y0, axes.dataLim.y1
    levels = [np.asarray(line.get_ydata())[0] for line in axes.lines]  # dataLim excludes horizontal lines
    low, high = min([low, *levels]), max([high, *levels])
    room = max(2.0, 0.08 * (high - low))
    axes.set_ylim(max(0, low - room), min(100, high + room) if high < 100 else 100.5)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_ylabel("accuracy, %", color=INK)


def _legend_columns(names: Sequence[str]) -> int:
    longest = max((len(_label(name)) for name in names), default=0)
    return 3 if longest <= 13 else 2 if longest <= 24 else 1


def _legend_inches(names: Sequence[str] | Mapping[str, object]) -> float:
    names = list(names)
    return 0.24 * -(-len(names) // _legend_columns(names)) + 0.05


def _legend(axes: Axes, names: Sequence[str] | Mapping[str, object], keys: Sequence[Artist] | None = None) -> None:
    """Draws a legend above the plot, where it covers nothing."""
    handles: Sequence[Artist] = axes.get_lines() if keys is None else keys
    handles = [line for line in handles if not str(line.get_label()).startswith("_")]  # matplotlib's own names
    legend = axes.figure.legend(  # type: ignore[union-attr]
        handles=handles, loc="outside upper left", ncols=_legend_columns(list(names)), frameon=False, fontsize=FONT,
        labelcolor=INK, handlelength=2.0, columnspacing=1.2, labelspacing=0.3, borderaxespad=0.1,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)


def _label(name: str, length: int = 34) -> str:
    """A short printable name. matplotlib would leave a name with a leading underscore out of the legend."""
    plain = "".join(letter if letter.isprintable() else "\ufffd" for letter in shortened(name, 200))
    return cut_middle(f" {plain}" if plain.startswith("_") else plain or "(no name)", length)


def svg(figure: Figure) -> str:
    """The figure as deterministic SVG. Its colours are CSS variables, which change on a dark page. Text stays text, so
    that the browser's fonts show names in any script."""
    import matplotlib

    file = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "diptych", "svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # its font measures the text alone
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    light, dark = [], []
    for at, (colour, on_dark) in enumerate(DARK.items()):
        text = text.replace(f": {colour}", f": var(--c{at}, {colour})")  # in styles alone; names have no such colours
        light.append(f"--c{at}:{colour}")
        dark.append(f"--c{at}:{on_dark}")
    style = f"svg{{{';'.join(light)}}}@media(prefers-color-scheme:dark){{svg{{{';'.join(dark)}}}}}"
    head, mark, rest = text.partition("<defs>")
    return f"{head}{mark}<style>{style}</style>{rest}"
