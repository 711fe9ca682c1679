"""The plots of an evaluation's report: what is in them, that nothing lies on anything else, and that they follow the
page."""

import re
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from diptych.evaluation.report.figures import (
    COLOURS,
    DARK,
    Curve,
    LinearFit,
    Point,
    class_figure,
    confusion_figure,
    levels_figure,
    robustness_figure,
    shots_figure,
    svg,
)

LONG = "runs/7/a-model-whose-name-is-longer-than-its-place/model"
NAMES = ("cat", "_dog", "$x$", "<b>", "a & b", "", LONG, "tab\tand\x00nothing")


def boxes(figure: Figure) -> list:
    """Where every written word lies, in pixels."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    axes = figure.axes[0]
    texts = [axes.title, axes.xaxis.label, axes.yaxis.label]
    for axis, (low, high) in ((axes.xaxis, sorted(axes.get_xlim())), (axes.yaxis, sorted(axes.get_ylim()))):
        there = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
        texts += [label for tick in there for label in (tick.label1, tick.label2)]
    texts += [text for legend in figure.legends for text in legend.get_texts()]
    return [text.get_window_extent(renderer) for text in texts if text.get_text() and text.get_visible()]


def check_layout(figure: Figure) -> None:
    found = boxes(figure)
    width, height = figure.get_size_inches() * figure.dpi
    for box in found:
        assert box.x0 >= -1
        assert box.y0 >= -1
        assert box.x1 <= width + 1
        assert box.y1 <= height + 1
    for one, other in combinations(found, 2):
        across = min(one.x1, other.x1) - max(one.x0, other.x0)
        up = min(one.y1, other.y1) - max(one.y0, other.y0)
        assert across <= 1 or up <= 1


def curve(*values: float, **more) -> Curve:
    return Curve([1, 2, 4, 8, 16][: len(values)], values, **more)


def figures() -> dict[str, Figure]:
    rng = np.random.default_rng(0)
    forty = [f"class number {index}" for index in range(40)]
    models = ("bundled", LONG, "ViT-B/32")
    kinds = {"probe": curve(30, 40, 50, 60, 70, whole=80), "WiSE probe": curve(55, 56, 60, 70, 75)}
    shots = {name: {**kinds, "zero-shot": Curve([], [44.0])} for name in models}
    return {
        "confusion": confusion_figure(rng.integers(0, 9, (8, 8)), NAMES),
        "confusion of 40": confusion_figure(rng.integers(0, 9, (40, 40)), forty),
        "confusion of 2": confusion_figure(np.eye(2), ["a", "b"]),
        "classes": class_figure({name: rng.uniform(0, 100, 8) for name in models}, NAMES),
        "classes of 40": class_figure({"bundled": rng.uniform(0, 100, 40)}, forty),
        "shots": shots_figure(shots),
        "shots of one": shots_figure({"bundled": shots["bundled"]}),
        "levels": levels_figure({name: Curve(range(6), [80, 70, 60, 50, 40, 30]) for name in models}),
        "robustness": robustness_figure({name: [Point(80, 60, "sketch"), Point(75, 70, LONG)] for name in models}),
        "robustness of one": robustness_figure({"bundled": [Point(99.5, 99, "noise")]}),
        "robustness of many": robustness_figure(
            {f"model {at}": [Point(40 + 5 * at, 30 + 4 * at, "a"), Point(40 + 5 * at, 4 * at, "b")] for at in range(9)},
            {"a": LinearFit(1, -0.3), "b": LinearFit(1.1, -1)},
        ),
    }


@pytest.fixture(scope="module")
def drawn() -> dict[str, Figure]:
    return figures()


@pytest.mark.parametrize("name", list(figures()))
def test_no_word_lies_on_another_or_is_cut_off(drawn: dict[str, Figure], name: str) -> None:
    check_layout(drawn[name])


def test_letters_are_large_enough(drawn: dict[str, Figure]) -> None:
    """At the size shown a point is 1/72 of an inch of 96 pixels: 8 pt are 10.7 px."""
    for figure in drawn.values():
        boxes(figure)
        axes = figure.axes[0]
        labels = [*axes.get_xticklabels(), *axes.get_yticklabels(), *axes.texts]
        assert min(label.get_fontsize() for label in labels) >= 8


def test_a_confusion_matrix_says_shares_of_each_true_class() -> None:
    axes = confusion_figure(np.array([[3, 1], [0, 5]]), ["cat", "dog"]).axes[0]
    assert [(text.get_position(), text.get_text()) for text in axes.texts] == [
        ((0, 0), "75"), ((1, 0), "25"), ((1, 1), "100"),
    ]  # fmt: skip
    cells = np.asarray(axes.images[0].get_array())
    assert cells[..., 3] == pytest.approx(np.sqrt([[0.75, 0.25], [0, 1]]))
    assert cells[0, 0, :3] == pytest.approx(to_rgb(COLOURS[0]))
    assert cells[0, 1, :3] == pytest.approx(to_rgb(COLOURS[1]))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog"]


def test_a_class_without_pictures_is_an_empty_row() -> None:
    axes = confusion_figure(np.array([[2, 2], [0, 0]]), ["cat", "dog"]).axes[0]
    assert [text.get_text() for text in axes.texts] == ["50", "50"]


def test_classes_go_from_the_best_down() -> None:
    axes = class_figure({"a": [10, 90, 40], "b": [20, 70, float("nan")]}, ["low", "high", "half"]).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["high", "half", "low"]
    first, second = (line.get_xdata() for line in axes.lines)
    assert list(first) == [90, 40, 10]
    assert second[0] == 70


def test_shots_double_along_the_axis_and_end_with_all() -> None:
    band = curve(40, 50, 60, low=[35, 46, 58], high=[44, 53, 61], whole=77)
    figure = shots_figure({"bundled": {"probe": band, "WiSE probe": curve(61, 62, 63), "zero-shot": Curve([], [55])}})
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "4", "all"]
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.figure.legends[0].get_texts()] == ["probe", "WiSE probe", "zero-shot"]
    low, high = axes.get_ylim()
    assert low < 35
    assert 77 < high <= 100


def test_of_several_models_each_has_a_colour_and_each_kind_a_line() -> None:
    kinds = {"probe": curve(40, 50), "zero-shot": Curve([], [55])}
    axes = shots_figure({"a": kinds, "b": kinds}).axes[0]
    assert [text.get_text() for text in axes.figure.legends[0].get_texts()] == ["a", "b", "probe", "zero-shot"]
    assert [line.get_color() for line in axes.lines] == [COLOURS[0], COLOURS[0], COLOURS[1], COLOURS[1]]


def test_robustness_has_the_line_where_nothing_is_lost() -> None:
    axes = robustness_figure({"bundled": [Point(80, 60, "sketch"), Point(85, 75, "noise")]}).axes[0]
    line, *marks = axes.lines
    assert list(line.get_xdata()) == list(line.get_ydata())
    assert [(mark.get_xdata()[0], mark.get_ydata()[0]) for mark in marks] == [(80, 60), (85, 75)]
    assert [text.get_text() for text in axes.figure.legends[0].get_texts()] == ["bundled", "sketch", "noise"]
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert left <= line.get_xdata()[0] < line.get_xdata()[1] <= right == top
    assert bottom < 60


def test_a_line_that_is_fitted_goes_over_the_models_that_it_is_fitted_to() -> None:
    """logit(0.8) is ln 4; a slope of 1 and an offset of -ln 4 make it 0, which is a half."""
    fit = LinearFit(1, -float(np.log(4)))
    assert fit.at(80) == pytest.approx(50)
    points = {"a": [Point(60, 30, "sketch")], "b": [Point(80, 50, "sketch"), Point(90, 88, "noise")]}
    *_, line = robustness_figure(points, {"sketch": fit}).axes[0].lines
    assert (line.get_xdata()[0], line.get_xdata()[-1]) == (60, 80)
    assert line.get_ydata()[-1] == pytest.approx(50)


def test_of_more_models_than_colours_each_still_has_a_mark_of_its_own() -> None:
    axes = robustness_figure({f"model {at}": [Point(50, at, "noise")] for at in range(12)}).axes[0]
    marks = axes.lines[1:]
    assert len({(mark.get_color(), mark.get_markerfacecolor()) for mark in marks}) == 12


def test_svg_is_whole_the_same_each_time_and_follows_the_page() -> None:
    first, again = (svg(confusion_figure(np.eye(8), NAMES)) for _ in range(2))
    assert first == again
    root = ElementTree.fromstring(first.partition("?>")[2])
    texts = ["".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"cat", "$x$", "<b>", "a & b", "(no name)"} <= {text.strip() for text in texts}
    assert "@media(prefers-color-scheme:dark)" in first
    coloured = re.sub(r"var\(--c\d+, #[0-9a-f]{6}\)|<style>.*?</style>", "", first, flags=re.DOTALL)
    assert not [colour for colour in DARK if f": {colour}" in coloured]


def luminance(colour: str) -> float:
    """WCAG 2.1, relative luminance."""
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot(parts, (0.2126, 0.7152, 0.0722)))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_ink_and_the_first_colours_stand_out_on_both_grounds() -> None:
    """WCAG 2.1: 4.5 for text, 3 for lines."""
    ink, *_ = DARK
    for ground, of in (("#f6f7f8", lambda colour: colour), ("#202226", DARK.get)):
        assert contrast(of(ink), ground) >= 4.5
        for colour in COLOURS[:3]:
            assert contrast(of(colour), ground) >= 3, (colour, ground)


# Viénot, Brettel and Mollon 1999, linear RGB: what the two frequent kinds of colour blindness see.
PROTANOPIA = np.array([[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]])
DEUTERANOPIA = np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]])


@pytest.mark.parametrize("seen", [PROTANOPIA, DEUTERANOPIA], ids=["protanopia", "deuteranopia"])
def test_colours_differ_to_colour_blind_readers(seen: np.ndarray) -> None:
    for colours in (COLOURS, [DARK[colour] for colour in COLOURS]):
        linear = np.array([to_rgb(colour) for colour in colours]) ** 2.2
        looks = np.clip(linear @ seen.T, 0, 1) ** (1 / 2.2)
        for one, other in combinations(looks, 2):
            assert np.abs(one - other).max() > 0.08
