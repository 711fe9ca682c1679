"""What a run says and keeps: lines, rows that survive a kill, TensorBoard's files, and the curves."""

import io
import json
import math
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from tensorboardX.proto.event_pb2 import Event

from diptych.display.console import TextConsole
from diptych.scoring.metrics import Recall, Retrieval
from diptych.training.diagnostics import monitor
from diptych.training.diagnostics.monitor import Monitor, Step, Throughput, duration, remaining_s, scalars, sparkline
from diptych.training.run.metrics_file import FILE, append_metrics, read_metrics, to_line

RESULT = Retrieval(Recall(1.0, 5.0, 10.0), Recall(2.0, 6.0, 12.0))
BETTER = Retrieval(Recall(2.0, 5.0, 10.0), Recall(2.0, 6.0, 12.0))


def step(number: int, of: int = 100, **changes) -> Step:
    loss = changes.get("loss", 4.0 - number / of)
    plain = {"loss": loss, "smoothed": loss, "lr": 1e-3, "scale": 14.3, "norm": 1.5, "data_wait_s": 0.0, "pictures": 32}
    return Step(number, number / of, number / 10, **{**plain, "chance": 3.47, **changes})


def keep_numbers(folder: Path, numbers: range, *, resumed_step: int | None = None, **changes) -> None:
    with Monitor(folder, quiet=True) as kept:
        if resumed_step is not None:
            kept.resume(resumed_step)
        for number in numbers:
            kept.step(step(number, **changes))


# What a person sees


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monitor's clock, in its one element."""
    now = [0.0]
    monkeypatch.setattr(monitor.time, "monotonic", lambda: now[0])
    return now


def test_plain_lines_where_there_is_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], now: list[float]
) -> None:
    """One soon, then one every half minute, none before the first step's time is known."""
    with Monitor(tmp_path) as shown:
        for number in range(1, 81):
            now[0] += 1
            shown.step(step(number, data_wait_s=0.25))
    lines = capsys.readouterr().err.splitlines()
    hint = lines.pop(1)
    assert hint == "25% of the time is spent waiting for data: raise threads or workers."  # once
    assert lines[0] == (
        " 11% · step 11 · epoch 1.1 · loss 3.890 (chance 3.47) · 32 pictures/s · waiting for data 25% · "
        "temperature 1/14.3 · lr 0.001 · 1:29 left"
    )
    assert [line[:4] for line in lines] == [" 11%", " 42%", " 73%"]


def test_lines_become_rarer_in_a_long_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], now: list[float]) -> None:
    with Monitor(tmp_path) as shown:
        for number in range(1, 8641):
            now[0] += 10
            shown.step(step(number, 8640))
    assert 150 < len(capsys.readouterr().err.splitlines()) < 250  # in a day


@pytest.mark.parametrize("width", [60, 80, 120])
def test_live_lines_fit_the_terminal(tmp_path: Path, width: int) -> None:
    shown = Monitor(tmp_path, quiet=True)
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    console.print(shown._live_lines())
    for number in range(1, 41):
        shown.step(step(number, scale=100.0, lr=1.3e-5))
    shown.evaluated(RESULT, step=40, epoch=4.0)
    console.print(shown._live_lines())
    first, *lines = console.file.getvalue().splitlines()
    assert first.startswith("waiting for the first step")
    assert len(lines) == 3
    assert max(map(len, lines)) <= width
    assert re.search(r"40%  epoch 4.0 · step 40  \S+ left", lines[0])
    assert re.fullmatch(r"loss 3.\d+ \(chance 3.47\) █[▁-█]+ R@10 10.0 / 12.0", lines[1].rstrip())
    assert "pictures/s · waiting for data 0%" in lines[2]
    assert width < 80 or lines[2].rstrip().endswith("temperature 1/100.0 · lr 1.3e-05")


def test_a_terminal_gets_live_lines_and_a_file_gets_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (True, False):
        file = io.StringIO()
        with monkeypatch.context() as patch:
            patch.setattr(monitor, "TextConsole", lambda file=file, is_one=terminal, **_: TextConsole(
                file=file, force_terminal=is_one, width=100, color_system=None))  # fmt: skip
            with Monitor(tmp_path / str(terminal)) as shown:
                for number in range(1, 12):
                    shown.step(step(number))
                shown._live.refresh()
                shown.log("[bold] :smile: said as it is")
        assert "[bold] :smile: said as it is" in file.getvalue()
        assert ("step 11" in file.getvalue()) == terminal


def test_a_table_of_evaluations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Monitor(tmp_path) as shown:
        shown.step(step(1))
        for number, result in ((1000, RESULT), (2000, BETTER), (3000, RESULT)):
            shown.evaluated(result, step=number, epoch=number / 100)
    header, *lines = capsys.readouterr().err.splitlines()
    assert " ".join(header.split()) == "time epoch step loss text to picture picture to text R@1/5/10"
    assert " ".join(lines[1].split()) == "0:00 20.0 2,000 3.990 2.0 5.0 10.0 2.0 6.0 12.0 best"
    assert ["best" in line for line in lines] == [False, True, False]
    assert len({len(line.removesuffix("  best")) for line in (header.removesuffix("  R@1/5/10"), *lines)}) == 1
    assert len(header) <= 80


def test_an_interrupted_run_says_where_it_stood(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> None:
        with Monitor(tmp_path) as shown:
            shown.step(step(7))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert "7% · step 7 · epoch 0.7 · loss 3.930 (chance 3.47)" in capsys.readouterr().err


def test_other_processes_are_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Monitor(tmp_path / "run", writes=False) as shown:
        shown.resume(0)
        shown.step(step(1))
        shown.evaluated(RESULT, step=1, epoch=1.0)
        shown.log("nothing")
    assert capsys.readouterr().err == ""
    assert not (tmp_path / "run").exists()


def test_speed_is_that_of_the_last_half_minute_without_evaluations() -> None:
    recent = Throughput()
    assert math.isnan(recent.pictures_per_s)
    for _ in range(100):
        recent.add(1.0, 10, 0.0)
    for _ in range(30):
        recent.add(1.0, 40, 0.5)
    assert recent.pictures_per_s == pytest.approx(40, rel=0.05)
    assert recent.waiting == pytest.approx(0.5, abs=0.02)
    for _ in range(5):
        recent.add(60.0, 60, 60.0)  # slow steps: the last five
    assert (recent.pictures_per_s, recent.waiting) == pytest.approx((1.0, 1.0))


def test_an_evaluation_is_no_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(monitor.time, "monotonic", lambda: now[0])
    shown = Monitor(tmp_path, quiet=True)
    for number in range(1, 41):
        now[0] += 1
        shown.step(step(number))
        if number % 4 == 0:
            now[0] += 100
            shown.evaluated(RESULT, step=number, epoch=number / 10)
    rows = [row for row in read_metrics(tmp_path) if "loss" in row]
    assert rows[-1]["pictures_per_s"] == pytest.approx(32)
    assert rows[-1]["elapsed_s"] == 940


def test_small_curve() -> None:
    assert sparkline([]) == sparkline([1.0]) == sparkline([math.nan, 1.0]) == ""
    assert sparkline([2.0, 1.0]) == "█▁"
    assert sparkline([1.0] * 9) == "▁" * 9
    assert sparkline([float(-i) for i in range(1600)]) == "██▇▇▆▆▅▅▄▄▃▃▂▂▁▁"


def test_time_left() -> None:
    assert duration(remaining_s(60, 0.25, 0.75)) == "3:00"
    assert duration(remaining_s(60, 0.25, 0.25)) == "1:00"  # resumed in the middle
    assert duration(remaining_s(5, 0.0, 1.0)) == "?"
    assert duration(3723) == "1:02:03"


def test_chance_of_both_losses() -> None:
    """Against the losses themselves, of a model that gives every pair the same score."""
    from diptych.training.objectives.contrastive import chance_loss, sigmoid_loss, softmax_loss

    image, text, scale = torch.ones(8, 1), torch.ones(24, 1), torch.tensor(1.0)
    pairs = torch.arange(24) // 3, torch.arange(24)
    assert chance_loss(8, 24) == pytest.approx(softmax_loss(image, text, scale, pairs=pairs).item())
    bias = torch.tensor(math.log(1 / 7) - 1)  # a logit whose sigmoid is 1/8
    assert chance_loss(8, 24, 24) == pytest.approx(sigmoid_loss(image, text, scale, bias, pairs=pairs).item())
    halves = torch.cartesian_prod(torch.arange(8), torch.arange(24)).T  # of two classes
    halves = tuple(halves[:, halves[0] % 2 == halves[1] % 2])
    assert chance_loss(8, 24, 96) == pytest.approx(sigmoid_loss(image, text, scale, -scale, pairs=halves).item())


# What is kept


def test_rows_are_the_means_between_reports(tmp_path: Path) -> None:
    """Each of the first steps has its own, so that a run of ten steps has a curve."""
    keep_numbers(tmp_path, range(1, 76))
    rows = read_metrics(tmp_path)
    assert [row["step"] for row in rows] == [*range(1, 51), 60, 70]
    assert [row["loss"] for row in rows[8:10] + rows[-2:]] == pytest.approx([3.91, 3.9, 3.445, 3.345])
    assert rows[0]["pictures_per_s"] is None  # the first step warms up
    assert set(rows[1]) == {
        "step", "epoch", "elapsed_s", "loss", "chance", "places", "lr", "scale", "gradient_norm", "pictures_per_s",
        "waiting",
    }  # fmt: skip


def test_the_last_steps_have_a_row_of_their_own(tmp_path: Path) -> None:
    with Monitor(tmp_path, quiet=True) as kept:
        for number in range(1, 63):
            kept.step(step(number))
        kept.finish()
        kept.finish()
    rows = read_metrics(tmp_path)
    assert [row["step"] for row in rows][-3:] == [50, 60, 62]
    assert rows[-1]["loss"] == pytest.approx((3.39 + 3.38) / 2)


def test_every_key_is_documented(tmp_path: Path) -> None:
    from diptych.training.run import metrics_file as rows

    keep_numbers(tmp_path, range(1, 11))
    for key in (*read_metrics(tmp_path)[-1], *Retrieval._fields):
        assert re.search(rf"\b{key}\b", rows.__doc__), key


def test_no_number_is_null(tmp_path: Path) -> None:
    keep_numbers(tmp_path, range(1, 11), loss=math.nan, norm=math.inf)
    for line in (tmp_path / FILE).read_text().splitlines():
        row = json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
        assert (row["loss"], row["gradient_norm"]) == (None, None)


def test_arrays_are_plain_numbers() -> None:
    row = {"a": np.float32(1.5), "b": torch.tensor([1.0, math.inf]), "c": (np.int64(3), {"d": math.nan}), "e": "é\n"}
    assert json.loads(to_line(row)) == {"a": 1.5, "b": [1.0, None], "c": [3, {"d": None}], "e": "é\n"}
    assert to_line(row).count("\n") == 1


def test_a_resumed_run_has_no_step_twice(tmp_path: Path) -> None:
    """Killed after step 57, whose last checkpoint was at 45: as one that was never killed."""
    keep_numbers(tmp_path / "a", range(1, 101))
    keep_numbers(tmp_path / "b", range(1, 58))
    with (tmp_path / "b" / FILE).open("a") as file:
        file.write('{"step": 60, "loss": 3.')  # torn
    keep_numbers(tmp_path / "b", range(46, 101), resumed_step=45)
    whole, resumed = (read_metrics(tmp_path / name) for name in "ab")
    assert [row["step"] for row in resumed] == [row["step"] for row in whole] == [*range(1, 51), *range(60, 101, 10)]
    times = [row["elapsed_s"] for row in resumed]
    assert times == sorted(times)


def test_a_resumed_run_knows_its_best_and_its_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"step": 10, "elapsed_s": 3600.0, "loss": 3.0}, {"step": 10, "elapsed_s": 3601.0, **BETTER._asdict()}]
    (tmp_path / FILE).write_text("".join(map(to_line, rows)))
    with Monitor(tmp_path) as shown:
        shown.resume(10)
        shown.step(step(11))
        shown.evaluated(RESULT, step=11, epoch=1.1)
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.split()[0] == "1:00:01"
    assert "best" not in line
    assert [row["step"] for row in read_metrics(tmp_path)] == [10, 10, 11, 11]


@given(st.lists(st.integers(1, 200), max_size=20), st.integers(0, 200), st.integers(0, 40))
def test_what_is_kept_on_resume(steps: list[int], resumed: int, torn: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [to_line({"step": step, "loss": 1.0}) for step in sorted(steps)]
        (folder / FILE).write_text("".join(lines) + to_line({"step": 1, "loss": 0.123456})[: min(torn, 10)])
        file, kept = append_metrics(folder, resumed)
        file.close()
        assert [row["step"] for row in kept] == [step for step in sorted(steps) if step <= resumed]
        assert read_metrics(folder) == kept


def test_a_new_run_replaces_the_rows_of_an_old_one(tmp_path: Path) -> None:
    keep_numbers(tmp_path, range(1, 101))
    keep_numbers(tmp_path, range(1, 3))
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2]
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_what_is_no_file_of_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no metrics\.jsonl; wanted the folder of a training run"):
        read_metrics(tmp_path)
    (tmp_path / FILE).write_text('{"loss": 1}\n{"step": 2}\n')
    with pytest.raises(ValueError, match="line 1 is not a row of metrics"):
        read_metrics(tmp_path)


def test_a_full_disk_does_not_end_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(28, "No space left on device")

    with Monitor(tmp_path) as shown:
        shown.step(step(1))
        shown._metrics = Full()
        for number in range(2, 31):
            shown.step(step(number))
    said = capsys.readouterr().err
    assert said.count("No space left on device; the run continues without writing metrics") == 1


# TensorBoard


def events_in(folder: Path) -> list[Event]:
    """What TensorBoard's files freeze, in the order of their making: length, its checksum, event, its checksum."""
    found = []
    for path in sorted((folder / "tensorboard").iterdir(), key=lambda path: int(path.suffix[1:])):
        data = path.read_bytes()
        while len(data) >= 12 and len(data) >= 16 + (length := struct.unpack("<Q", data[:8])[0]):
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def test_tensorboard_forgets_what_comes_again(tmp_path: Path) -> None:
    """An interrupted run and the one that goes on: the second begins with a mark from where the first is void."""
    keep_numbers(tmp_path, range(1, 58))
    keep_numbers(tmp_path, range(46, 101), resumed_step=45)
    events = events_in(tmp_path)
    mark = next(number for number, event in enumerate(events) if event.HasField("session_log"))
    assert events[mark].step == 46
    losses = [[e.step for e in part if loss_of(e)] for part in (events[:mark], events[mark:])]
    assert losses == [[*range(1, 51)], [*range(46, 51), *range(60, 101, 10)]]


def loss_of(event: Event) -> list[float]:
    return [value.simple_value for value in event.summary.value if value.tag == "training/loss"]


def test_what_tensorboard_is_told(tmp_path: Path) -> None:
    keep_numbers(tmp_path, range(1, 11), norm=math.inf)
    with Monitor(tmp_path, quiet=True) as kept:
        kept.resume(10)
        kept.evaluated(RESULT, step=10, epoch=1.0)
    tags = {value.tag for event in events_in(tmp_path) for value in event.summary.value}
    assert {"training/lr", "training/loss", "recall/text_to_image_at_10"} <= tags
    assert "training/gradient_norm" not in tags  # no number, no point


def test_scalars_of_a_row() -> None:
    assert scalars({"step": 1, "elapsed_s": 2.0, "loss": 0.5, "lr": None, "x": 1e39, "note": "said"}) == {
        "training/loss": 0.5
    }
    assert scalars({"text_to_image": (1.0, 2.0, math.nan)}) == {
        "recall/text_to_image_at_1": 1.0, "recall/text_to_image_at_5": 2.0
    }  # fmt: skip
