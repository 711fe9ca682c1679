"""The display of a running training: live lines and a table of evaluations on stderr. Its numbers go to metrics.jsonl
(see `run.metrics_file`) and for TensorBoard to OUT/tensorboard."""

import contextlib
import math
import shutil
import time
from collections import deque
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from diptych.display.console import TextConsole, redirected_streams
from diptych.display.escaping import escape_control_characters
from diptych.scoring.metrics import Retrieval
from diptych.storage.output_files import subfolder
from diptych.training.run.metrics_file import MetricsRow, append_metrics, to_line

EACH_STEP, RECORD_EVERY = 50, 10  # a row for each of the first 50 steps, for curves of short runs; then every tenth
WINDOW_S = 30.0  # of the current throughput
PLAIN_EVERY_S = (10.0, 30.0, 600.0)  # without a terminal: before the first line; then the least and most between lines
MAX_WAIT_SHARE = 0.2  # of the time; above it the run advises more data workers
DOT = " · "
BLOCKS = "▁▂▃▄▅▆▇█"


class Step(NamedTuple):
    """The numbers of an optimizer step. `step` counts from 1, `progress` is 0 to 1, `norm` the gradient's before
    clipping, `data_wait_s` the time until the batch was ready, `pictures` the number over all processes. `smoothed` is
    the loss over some twenty steps, `chance` the loss at chance level, `region_loss` None without regions.
    """

    step: int
    progress: float
    epoch: float
    loss: float
    smoothed: float
    lr: float
    scale: float
    norm: float
    data_wait_s: float
    pictures: int
    chance: float | None = None
    region_loss: float | None = None


class Monitor:
    """Live lines (without a terminal, a plain line now and then), and rows of numbers."""

    def __init__(self, folder: Path, *, quiet: bool = False, writes: bool = True):
        """`writes` is False in all processes but one; these neither write nor print."""
        quiet = quiet or not writes
        self.console = TextConsole(stderr=True, quiet=quiet)
        self._folder, self._writes, self._resumed_step = folder, writes, None
        self._metrics: TextIO | None = None
        self._board: Any = None
        self._is_live = self.console.is_terminal and not self.console.is_dumb_terminal and not quiet
        self._start_s = self._since_s = self._logged_s = time.monotonic()
        self._elapsed_before_s, self._plain_every_s = 0.0, PLAIN_EVERY_S[0]
        self._first: tuple[float, float] | None = (
            None  # time and progress of the first step, from which the pace counts
        )
        self._last: Step | None = None
        self._prepared: tuple[str, float, float] | None = None  # what, the share that is done, when it began
        self._losses: list[float] = []  # since the last row of metrics
        self._curve: list[float] = []  # the loss of each row
        self._throughput = Throughput()
        self._recalls: list[Retrieval] = []
        self._evaluated_step: int | None = None
        self._has_header = self._has_warned = False
        self._guard = contextlib.ExitStack()
        self._live = Live(console=self.console, transient=True, get_renderable=self._live_lines, redirect_stdout=False)

    def __enter__(self) -> "Monitor":
        if self._is_live:
            self._live.start()
            self._guard.enter_context(redirected_streams())
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._guard.close()
        self._live.stop()
        if kind and self._last:
            self.log(self._plain())  # the live lines disappear; the last state stays
        for file in (self._metrics, self._board):
            if file:
                with contextlib.suppress(OSError):  # a full disk was logged before
                    file.close()

    def log(self, *lines: str) -> None:
        """Print permanent lines. Control characters and newlines in a line are escaped."""
        for line in lines:
            self.console.print(escape_control_characters(line, terminal=self.console.is_terminal), soft_wrap=True)

    def resume(self, step: int) -> None:
        """Continue the metrics of an interrupted run and drop those after `step`. Call it before the first step."""
        self._resumed_step = step
        for row in self._open():
            self._elapsed_before_s = row.get("elapsed_s") or self._elapsed_before_s
            if row.get("loss") is not None:
                self._curve.append(row["loss"])
            if "text_to_image" in row:
                self._recalls.append(Retrieval(row["text_to_image"], row["image_to_text"]))
                self._evaluated_step = row["step"]

    @property
    def elapsed_s(self) -> float:
        """Seconds of training, also before interruptions."""
        return self._elapsed_before_s + time.monotonic() - self._start_s

    def prepare(self, what: str, done: int, total: int) -> None:
        """Show how much of the work before the first step is done, `done` of `total` equal parts, and the time left."""
        now_s, before = time.monotonic(), self._prepared
        begun_s = before[2] if before and before[0] == what else now_s
        self._prepared = (what, done / max(1, total), begun_s)
        is_due = now_s - self._logged_s > self._plain_every_s and done < total
        if not self._is_live and is_due:
            self._logged_s = now_s
            self._plain_every_s = min(PLAIN_EVERY_S[2], max(PLAIN_EVERY_S[1], (now_s - self._start_s) / 20))
            self.log(DOT.join([f"{done / total:4.0%}", f"{what}: {done:,} of {total:,}", *self._preparation_left()]))

    def _preparation_left(self) -> list[str]:
        assert self._prepared
        _, share, begun_s = self._prepared
        left_s = remaining_s(time.monotonic() - begun_s, share, 1 - share)
        return [f"{duration(left_s)} left"] if math.isfinite(left_s) else []

    def step(self, step: Step) -> None:
        """Record a step: update the live lines, and write a row of metrics if one is due."""
        now = time.monotonic()
        if self._first:
            self._throughput.add(now - self._since_s, step.pictures, step.data_wait_s)
        else:  # not counted: it includes warm-up and compilation
            self._first = (now, step.progress)
        self._losses.append(step.loss)
        self._since_s, self._last = now, step
        if step.step <= EACH_STEP or step.step % RECORD_EVERY == 0:
            self._report(step)
        if not self._is_live and now - self._logged_s > self._plain_every_s:
            _, min_s, max_s = PLAIN_EVERY_S
            self._logged_s, self._plain_every_s = now, min(max_s, max(min_s, (now - self._start_s) / 20))
            self.log(self._plain())

    def _report(self, step: Step) -> None:
        loss = sum(self._losses) / len(self._losses)
        self._losses.clear()
        self._curve.append(loss)
        self.record(
            step=step.step, epoch=round(step.epoch, 4), elapsed_s=round(self.elapsed_s, 1), loss=loss,
            chance=step.chance, **{"places": step.region_loss}, lr=step.lr, scale=step.scale, gradient_norm=step.norm,
            pictures_per_s=self._throughput.pictures_per_s, waiting=self._throughput.waiting,
        )  # fmt: skip
        if self._throughput.waiting > MAX_WAIT_SHARE and len(self._throughput.steps) >= 20 and not self._has_warned:
            self._has_warned = True
            self.log(f"{self._throughput.waiting:.0%} of the time is spent waiting for data: raise threads or workers.")

    def finish(self) -> None:
        """Write a row for the last steps, if they are not in one yet."""
        if self._losses and self._last:
            self._report(self._last)

    def evaluated(self, result: Retrieval, *, step: int, epoch: float) -> None:
        """Log a line of the table of evaluations, and write a row of metrics."""
        if not self._has_header:
            self._has_header = True
            self.log(f"    time  epoch     step    loss{'text to picture':>19}{'picture to text':>19}  R@1/5/10")
        is_best = bool(self._recalls) and all(_total(result) > _total(earlier) for earlier in self._recalls)
        is_known = step == self._evaluated_step  # a finished run that is resumed evaluates its last step again
        if not is_known:
            self._recalls.append(result)
        recalls = "".join(" " + "".join(f"{value:6.1f}" for value in way) for way in result)
        loss = f"{self._last.smoothed:.3f}" if self._last else "–"
        best = "  best" if is_best else ""
        self.log(f"{duration(self.elapsed_s):>8} {epoch:6.1f} {step:8,} {loss:>7}{recalls}{best}")
        if not is_known:
            self.record(step=step, epoch=round(epoch, 4), elapsed_s=round(self.elapsed_s, 1), **result._asdict())
        self._since_s = time.monotonic()  # evaluation does not count as time of a step

    def record(self, **row: Any) -> None:
        """Write one row to metrics.jsonl and TensorBoard."""
        if not self._writes:
            return
        self._open()
        assert self._metrics
        try:
            self._metrics.write(to_line(row))
            self._metrics.flush()
            for tag, value in scalars(row).items():
                self._board.add_scalar(tag, value, row["step"])
            self._board.flush()  # the last numbers of a killed run matter
        except OSError as error:  # a full disk must not end the run
            self._writes = False
            self.log(f"{self._folder}: {error.strerror}; the run continues without writing metrics.")

    def _open(self) -> list[MetricsRow]:
        """Open the files, if they are not open; returns the rows that they contain."""
        if self._metrics or not self._writes:
            return []
        self._metrics, kept = append_metrics(self._folder, self._resumed_step)
        self._board = _board(self._folder / "tensorboard", self._resumed_step)
        return kept

    def _left_s(self, last: Step) -> float:
        assert self._first
        first_s, first_progress = self._first
        return remaining_s(self._since_s - first_s, last.progress - first_progress, 1 - last.progress)

    def _quality(self, last: Step) -> list[str]:
        """Loss and recall, as text."""
        chance = f" (chance {last.chance:.2f})" if last.chance else ""
        recall = [f"R@10 {' / '.join(f'{way[2]:.1f}' for way in self._recalls[-1])}"] if self._recalls else []
        return [f"loss {last.smoothed:.3f}{chance}", *recall]

    def _speed(self, last: Step) -> list[str]:
        """Throughput, temperature and learning rate, as text."""
        recent = self._throughput
        pace = [f"{recent.pictures_per_s:,.0f} pictures/s", f"waiting for data {recent.waiting:.0%}"]
        return [*(pace if recent.steps else []), f"temperature 1/{last.scale:.1f}", f"lr {last.lr:.2g}"]

    def _plain(self) -> str:
        """Everything in one line."""
        assert self._last
        last = self._last
        position = [f"{last.progress:4.0%}", f"step {last.step:,}", f"epoch {last.epoch:.1f}"]
        remaining = [f"{duration(left_s)} left"] if math.isfinite(left_s := self._left_s(last)) else []
        return DOT.join([*position, *self._quality(last), *self._speed(last), *remaining])

    def _live_lines(self) -> Group | Text:
        """A progress bar, then loss and recall, then throughput."""
        if (last := self._last) is None and self._prepared and self._prepared[1] < 1:
            bar = Table.grid(expand=True, padding=(0, 2, 0, 0))
            bar.add_column(ratio=1)
            what, share, _ = self._prepared
            left = Text(" ".join(self._preparation_left()), style="bold")
            bar.add_row(ProgressBar(total=1.0, completed=share), Text(f"{share:.0%}", style="bold"), what, left)
            return Group(bar)
        if last is None:
            return Text(f"waiting for the first step · {duration(time.monotonic() - self._start_s)}", style="dim")
        bar = Table.grid(expand=True, padding=(0, 2, 0, 0))
        bar.add_column(ratio=1)
        bar.add_row(
            ProgressBar(total=1.0, completed=last.progress),
            Text(f"{last.progress:.0%}", style="bold"),
            f"epoch {last.epoch:.1f} · step {last.step:,}",
            Text(f"{duration(self._left_s(last))} left", style="bold"),
        )
        loss, *recall = self._quality(last)
        quality = Text.assemble((loss, "bold"), (f" {sparkline(self._curve)} ", "cyan"), *recall)
        speed = Text(
            DOT.join(self._speed(last)), style="yellow" if self._throughput.waiting > MAX_WAIT_SHARE else "dim"
        )
        for line in (quality, speed):
            line.no_wrap, line.overflow = True, "ellipsis"
        return Group(bar, quality, speed)


class Throughput:
    """Throughput over the last half minute, or the last five steps if they are slow."""

    def __init__(self) -> None:
        self.steps: deque[tuple[float, int, float]] = deque()
        self._seconds, self._pictures, self._wait_s = 0.0, 0, 0.0

    def add(self, seconds: float, pictures: int, wait_s: float) -> None:
        """Add a step and drop old ones."""
        self._count((seconds, pictures, wait_s), 1)
        self.steps.append((seconds, pictures, wait_s))
        while len(self.steps) > 5 and self._seconds - self.steps[0][0] > WINDOW_S:
            self._count(self.steps.popleft(), -1)

    def _count(self, step: tuple[float, int, float], sign: int) -> None:
        self._seconds += sign * step[0]
        self._pictures += sign * step[1]
        self._wait_s += sign * step[2]

    @property
    def pictures_per_s(self) -> float:
        """NaN before any step."""
        return self._pictures / max(self._seconds, 1e-9) if self.steps else math.nan

    @property
    def waiting(self) -> float:
        """Share of the time spent waiting for batches, 0 to 1."""
        return min(1.0, max(0.0, self._wait_s / max(self._seconds, 1e-9))) if self.steps else math.nan


def _board(folder: Path, resumed_step: int | None) -> Any:
    """A writer of TensorBoard's files, which does not need TensorBoard. A resumed run opens another file, which makes
    TensorBoard drop the interrupted run's numbers after that step."""
    from tensorboardX import SummaryWriter  # not at the top: it takes half a second

    if resumed_step is None:
        shutil.rmtree(folder, ignore_errors=True)  # of a run without a checkpoint
    subfolder(folder)
    purge_step = None if resumed_step is None else resumed_step + 1
    suffix = f".{len(list(folder.glob('*')))}"  # a run may be resumed twice within one second
    return SummaryWriter(str(folder), purge_step=purge_step, filename_suffix=suffix)


def scalars(row: MetricsRow) -> dict[str, float]:
    """A row's finite numbers by TensorBoard tag, one tag each for recall at 1, 5 and 10."""
    flat = {
        (f"recall/{key}_at_{k}" if k else f"training/{key}"): value
        for key, values in row.items()
        for k, value in (zip((1, 5, 10), values, strict=False) if isinstance(values, list | tuple) else [(0, values)])
        if key not in ("step", "elapsed_s")
    }
    return {tag: value for tag, value in flat.items() if isinstance(value, int | float) and abs(value) < 1e38}


def sparkline(values: list[float], width: int = 16) -> str:
    """The finite `values` as a line of block characters, the latest last."""
    values = [value for value in values if math.isfinite(value)]
    if len(values) < 2:
        return ""
    count = min(width, len(values))
    edges = [round(i * len(values) / count) for i in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    return "".join(BLOCKS[round((mean - low) / ((high - low) or 1) * (len(BLOCKS) - 1))] for mean in means)


def remaining_s(elapsed_s: float, done: float, remaining: float) -> float:
    """The time for the share `remaining` of a run at the pace of the share `done`; infinite before the first step."""
    return elapsed_s * remaining / done if done > 0 else math.inf


def duration(seconds: float) -> str:
    """1:02:03 or 2:03; "?" if it is unknown."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def _total(result: Retrieval) -> float:
    """The sum of all six recalls, which compares models better than any one."""
    return sum(map(sum, result))
