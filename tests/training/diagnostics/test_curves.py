"""The figure of a run's curves, and the command that draws it."""

import io
import math
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diptych.cli import FAILED, OK, USAGE
from diptych.training.diagnostics.curves import DIRECTIONS, curve, curves_figure, read_runs, smoothed, summary
from diptych.training.run.metrics_file import FILE, to_line
from tests.conftest import Cli


def rows_of_a_run(steps: int = 300, seed: int = 0, chance: float = 5.55) -> list[dict]:
    rng = np.random.default_rng(seed)
    rows: list[dict] = []
    for number in range(10, steps + 1, 10):
        rows.append(
            {
                "step": number, "epoch": number / 50, "elapsed_s": number / 2, "chance": chance,
                "loss": chance * math.exp(-number / steps) + rng.normal(0, 0.1), "lr": 1e-3, "scale": 20.0,
                "gradient_norm": 2.0, "pictures_per_s": 200.0, "waiting": 0.07,
            }
        )  # fmt: skip
        if number % 100 == 0:
            rows.append(
                {"step": number, "epoch": number / 50, "text_to_image": [1.0, 4, 8], "image_to_text": [2, 5, 9]}
            )
    return rows


def titles(figure) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes]


def drawn(figure) -> Image.Image:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(file, format="png")
    return Image.open(file)


def test_the_curves_of_a_run() -> None:
    figure = curves_figure({"runs/1": rows_of_a_run()})
    assert titles(figure) == [
        "loss", "text to picture: recall, %", "picture to text: recall, %", "learning rate", "1 / temperature",
        "norm of the gradient, before clipping", "pictures / s", "waiting for data, % of the time",
    ]  # fmt: skip
    loss, recall, *_, waiting = figure.axes
    assert [text.get_text() for text in loss.texts] == ["chance 5.55"]
    assert [text.get_text() for text in recall.texts] == ["R@1  1.0", "R@5  4.0", "R@10  8.0"]
    np.testing.assert_allclose(waiting.lines[0].get_ydata(), 7)
    assert waiting.get_xlabel() == "epochs"
    assert figure._suptitle.get_text() == "runs/1 · 300 steps · 6.0 epochs"
    assert drawn(figure).width == 1210


def test_an_evaluation_after_the_last_row_of_training_is_inside() -> None:
    rows = [
        {"step": 1, "epoch": 0.1, "loss": 2.0},
        {"step": 9, "epoch": 0.9, **{key: [1.0, 2.0, 3.0] for key in DIRECTIONS}},
    ]
    for axes in curves_figure({"a": rows}).axes:
        assert axes.get_xlim()[1] == pytest.approx(1.005 * 0.9)


def test_runs_side_by_side() -> None:
    """The second has no evaluations and another batch."""
    second = [row for row in rows_of_a_run(500, 1, chance=4.85) if "loss" in row]
    figure = curves_figure({"a": rows_of_a_run(), "_b $\\frac{$": second}, over="step")
    loss, recall = figure.axes[:2]
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["a", " _b $\\frac{$"]
    assert [text.get_text() for text in loss.texts] == ["chance 5.55", "chance 4.85"]
    assert recall.get_title(loc="left") == "text to picture: recall@10, and dashed recall@1, %"
    for axes in figure.axes:
        assert axes.get_xlim() == pytest.approx((0, 502.5))
    assert drawn(figure).height > 900


def test_nothing_to_draw_over() -> None:
    with pytest.raises(ValueError, match="no row has hours"):
        curves_figure({"old": [{"step": 1, "loss": 1.0}]}, over="hours")


def test_few_hours_are_minutes() -> None:
    """150 s, and 10,000 s."""
    short, long = ({"runs/1": rows_of_a_run(steps=steps)} for steps in (300, 20000))
    assert {figure.axes[-1].get_xlabel() for figure in [curves_figure(short, over="hours")]} == {"minutes"}
    assert curves_figure(short, over="hours").axes[0].lines[0].get_xdata()[-1] == pytest.approx(2.5)
    assert curves_figure(long, over="hours").axes[-1].get_xlabel() == "hours"


def test_labels_at_the_ends_keep_apart() -> None:
    rows = [{"step": 1, "loss": 1.0}, {"step": 1, "text_to_image": [98.0, 99.5, 99.9], "image_to_text": [0.0, 0, 0]}]
    figure = curves_figure({"a": rows})
    drawn(figure)
    for axes in figure.axes[1:3]:
        boxes = [text.get_window_extent() for text in axes.texts]
        assert all(low.y1 <= high.y0 for low, high in pairwise(boxes))


def test_panels_only_for_what_was_recorded() -> None:
    rows = [{"step": n, "elapsed_s": 36.0 * n, "loss": 0.5**n} for n in range(1, 10)]
    figure = curves_figure({"old": rows}, over="hours")
    assert titles(figure) == ["loss"]
    assert figure.axes[0].get_yscale() == "log"  # from 1/2 to 1/512
    assert figure.axes[0].get_xlim()[1] == pytest.approx(1.005 * 5.4)  # minutes
    assert curves_figure({"old": rows}).axes[0].get_xlabel() == "steps"


def test_curve_and_smoothing_by_hand() -> None:
    rows = [{"step": 2, "loss": 3.0}, {"step": 1, "loss": 2.0}, {"step": 2, "loss": 5.0}, {"step": 3, "loss": None}]
    x, y = curve(rows, "loss", "step")
    assert (x.tolist(), y.tolist()) == ([1.0, 2.0], [2.0, 5.0])
    assert smoothed(np.array([1.0, 2.0]), np.array([1.0, 2.0])).tolist() == [1.0, 2.0]
    line = np.arange(160.0)
    np.testing.assert_allclose(smoothed(line, line), line)  # no lag, also at the ends
    uneven = np.array([*range(1, 51), *range(60, 4001, 10)], float)  # as rows are kept: 50 single steps, then tens
    np.testing.assert_allclose(smoothed(uneven, uneven), uneven, atol=6)
    spike = np.zeros(160)
    spike[80] = 5
    np.testing.assert_allclose(smoothed(line, spike)[[77, 78, 82, 83]], [0, 1, 1, 0])


def test_plot_command(cli: Cli, tmp_path: Path) -> None:
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / FILE).write_text("".join(map(to_line, rows_of_a_run(seed=int(name)))))
    said = cli("train", "--plot", tmp_path / "1")
    assert (said.code, said.err) == (OK, "")
    assert Path(said.out.strip()).samefile(tmp_path / "1" / "curves.png")
    both = cli("train", "--plot", tmp_path / "1", "--plot", tmp_path / "2", "--over", "hours", "--json").json
    assert Path(both["plot"]).samefile(tmp_path / "curves.png")
    first = both["runs"][str(tmp_path / "1")]
    assert (first["last"]["step"], first["best"]["step"], first["evaluation"]["step"]) == (300, 100, 300)
    said = cli("train", "--plot", tmp_path / "1", "--out", tmp_path / "mine.svg")
    assert "<svg" in (tmp_path / "mine.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--plot", "RUN", "--lr", "0"], USAGE, "--plot does not train; leave out --lr"),
        (["--plot", "RUN", "--set", "lr=0"], USAGE, "--plot does not train; leave out --set"),
        (["--plot", "RUN", "--out", "curves"], USAGE, "it is a picture, such as curves.png"),
        (["--plot", "nowhere"], FAILED, "nowhere has no metrics.jsonl"),
        (["--over", "step", "--data", "x"], USAGE, "--over needs --plot"),
        ([], USAGE, "pass the training data with --data"),
    ],
)
def test_plot_errors(cli: Cli, tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    (tmp_path / FILE).write_text("".join(map(to_line, rows_of_a_run())))
    said = cli("train", *(str(tmp_path) if word == "RUN" else word for word in arguments))
    assert (said.code, said.out) == (code, "")
    assert message in said.err


def test_a_run_before_its_first_row(tmp_path: Path) -> None:
    (tmp_path / FILE).touch()
    with pytest.raises(ValueError, match="no rows of training yet"):
        read_runs([str(tmp_path)])


def test_summary() -> None:
    rows = [
        {"step": 1, "loss": 2.0},
        {"step": 5, "text_to_image": [2, 5, 9], "image_to_text": [2, 6, 12]},
        {"step": 9, "text_to_image": [3, 5, 9], "image_to_text": [0, 6, 12]},
    ]
    assert {key: row["step"] for key, row in summary(rows).items()} == {"last": 1, "evaluation": 9, "best": 5}
    assert summary([]) == {"last": None, "evaluation": None, "best": None}
