"""What a run tells the person who waits for it: two live lines on stderr, a table of evaluations, and the numbers for
later in metrics.jsonl (see rows.py) and for TensorBoard in OUT/tensorboard."""

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

from diptych.display.console import TextConsole, guarded
from diptych.display.escaping import harmless
from diptych.scoring.metrics import Retrieval
from diptych.storage.output_files import subfolder
from diptych.training.run.metrics_file import Row, append_rows, to_line

EACH_STEP, RECORD_EVERY = 50, 10  # so many steps have a row each, for the curves of short runs; then every tenth
WINDOW_S = 30.0  # what "now" means for a speed
PLAIN_EVERY_S = (10.0, 30.0, 600.0)  # where there is no terminal: until the first line, then between lines, at most
STARVED = 0.2  # share of waiting from which the data is worth a look
DOT = " · "
BLOCKS = "▁▂▃▄▅▆▇█"


class Step(NamedTuple):
    """What an optimizer step says of itself. `step` counts from 1, `progress` goes from 0 to 1, `norm` is that of the
    gradient before clipping, `waited_s` went by until the batch was there; `pictures` are those of all processes.
    `smoothed` is the loss over some twenty steps, for people; `chance` that of guessing, `places` that of the regions,
    None where they are not known.
    """

    step: int
    progress: float
    epoch: float
    loss: float
    smoothed: float
    lr: float
    scale: float
    norm: float
    waited_s: float
    pictures: int
    chance: float | None = None
    places: float | None = None


class Monitor:
    """Live lines (a plain one now and then where there is no terminal), and a row of numbers per report."""

    def __init__(self, folder: Path, *, quiet: bool = False, writes: bool = True):
        """Of several processes only one `writes`; the others keep silent."""
        quiet = quiet or not writes
        self.console = TextConsole(stderr=True, quiet=quiet)
        self._folder, self._writes, self._resumed_step = folder, writes, None
        self._rows: TextIO | None = None
        self._board: Any = None
        self._is_live = self.console.is_terminal and not self.console.is_dumb_terminal and not quiet
        self._start_s = self._since_s = self._said_s = time.monotonic()
        self._elapsed_before_s, self._plain_every_s = 0.0, PLAIN_EVERY_S[0]
        self._first: tuple[float, float] | None = None  # the first step's time and progress, where the pace starts
        self._last: Step | None = None
        self._losses: list[float] = []  # since the last row
        self._curve: list[float] = []  # one loss a row
        self._recent = Recent()
        self._recalls: list[Retrieval] = []
        self._evaluated_step: int | None = None
        self._has_header = self._has_warned = False
        self._guard = contextlib.ExitStack()
        self._live = Live(console=self.console, transient=True, get_renderable=self._shown, redirect_stdout=False)

    def __enter__(self) -> "Monitor":
        if self._is_live:
            self._live.start()
            self._guard.enter_context(guarded())
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._guard.close()
        self._live.stop()
        if kind and self._last:
            self.say(self._plain())  # the live lines go; where it stood should stay
        for file in (self._rows, self._board):
            if file:
                with contextlib.suppress(OSError):  # a full disk was told of already
                    file.close()

    def say(self, *lines: str) -> None:
        """Lines that stay, each of them one whatever is in it."""
        for line in lines:
            self.console.print(harmless(line, terminal=self.console.is_terminal), soft_wrap=True)

    def resume(self, step: int) -> None:
        """Go on with the numbers of an interrupted run; those after `step` will come again and are dropped. Called
        before the first of them."""
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
        """Seconds of training, those before an interruption included."""
        return self._elapsed_before_s + time.monotonic() - self._start_s

    def step(self, step: Step) -> None:
        """Count a step in, show where the run stands, and keep its numbers now and then."""
        now = time.monotonic()
        if self._first:
            self._recent.add(now - self._since_s, step.pictures, step.waited_s)
        else:  # it warms up, and compiles: no measure of the others
            self._first = (now, step.progress)
        self._losses.append(step.loss)
        self._since_s, self._last = now, step
        if step.step <= EACH_STEP or step.step % RECORD_EVERY == 0:
            self._report(step)
        if not self._is_live and now - self._said_s > self._plain_every_s:
            _, least_s, most_s = PLAIN_EVERY_S
            self._said_s, self._plain_every_s = now, min(most_s, max(least_s, (now - self._start_s) / 20))
            self.say(self._plain())

    def _report(self, step: Step) -> None:
        loss = sum(self._losses) / len(self._losses)
        self._losses.clear()
        self._curve.append(loss)
        self.record(
            step=step.step, epoch=round(step.epoch, 4), elapsed_s=round(self.elapsed_s, 1), loss=loss,
            chance=step.chance, places=step.places, lr=step.lr, scale=step.scale, gradient_norm=step.norm,
            pictures_per_s=self._recent.pictures_per_s, waiting=self._recent.waiting,
        )  # fmt: skip
        if self._recent.waiting > STARVED and len(self._recent.steps) >= 20 and not self._has_warned:
            self._has_warned = True
            self.say(f"{self._recent.waiting:.0%} of the time goes by waiting for data: raise threads or workers.")

    def finish(self) -> None:
        """Keep the numbers of the last steps, where they are not a whole row."""
        if self._losses and self._last:
            self._report(self._last)

    def evaluated(self, result: Retrieval, *, step: int, epoch: float) -> None:
        """A line of the table of evaluations, and its row."""
        if not self._has_header:
            self._has_header = True
            self.say(f"    time  epoch     step    loss{'text to picture':>19}{'picture to text':>19}  R@1/5/10")
        is_best = bool(self._recalls) and all(_total(result) > _total(earlier) for earlier in self._recalls)
        is_known = step == self._evaluated_step  # a finished run that is resumed measures its end once more
        if not is_known:
            self._recalls.append(result)
        recalls = "".join(" " + "".join(f"{value:6.1f}" for value in way) for way in result)
        loss = f"{self._last.smoothed:.3f}" if self._last else "–"
        best = "  best" if is_best else ""
        self.say(f"{duration(self.elapsed_s):>8} {epoch:6.1f} {step:8,} {loss:>7}{recalls}{best}")
        if not is_known:
            self.record(step=step, epoch=round(epoch, 4), elapsed_s=round(self.elapsed_s, 1), **result._asdict())
        self._since_s = time.monotonic()  # the time of an evaluation is no step's

    def record(self, **row: Any) -> None:
        """One row of metrics.jsonl, its numbers also for TensorBoard."""
        if not self._writes:
            return
        self._open()
        assert self._rows
        try:
            self._rows.write(to_line(row))
            self._rows.flush()
            for tag, value in scalars(row).items():
                self._board.add_scalar(tag, value, row["step"])
            self._board.flush()  # a killed run's last numbers are what one looks for
        except OSError as error:  # a full disk: the numbers are not worth the run
            self._writes = False
            self.say(f"{self._folder}: {error.strerror}; the run goes on without writing its numbers.")

    def _open(self) -> list[Row]:
        """Open the files unless they are; the rows that they hold already."""
        if self._rows or not self._writes:
            return []
        self._rows, kept = append_rows(self._folder, self._resumed_step)
        self._board = _board(self._folder / "tensorboard", self._resumed_step)
        return kept

    def _left_s(self, last: Step) -> float:
        assert self._first
        first_s, first_progress = self._first
        return remaining_s(self._since_s - first_s, last.progress - first_progress, 1 - last.progress)

    def _quality(self, last: Step) -> list[str]:
        """How well it learns, in words."""
        chance = f" (chance {last.chance:.2f})" if last.chance else ""
        recall = [f"R@10 {' / '.join(f'{way[2]:.1f}' for way in self._recalls[-1])}"] if self._recalls else []
        return [f"loss {last.smoothed:.3f}{chance}", *recall]

    def _speed(self, last: Step) -> list[str]:
        """How fast it goes, and with what."""
        recent = self._recent
        pace = [f"{recent.pictures_per_s:,.0f} pictures/s", f"waiting for data {recent.waiting:.0%}"]
        return [*(pace if recent.steps else []), f"temperature 1/{last.scale:.1f}", f"lr {last.lr:.2g}"]

    def _plain(self) -> str:
        """All of it in one line."""
        assert self._last
        last = self._last
        where = [f"{last.progress:4.0%}", f"step {last.step:,}", f"epoch {last.epoch:.1f}"]
        left = [f"{duration(left_s)} left"] if math.isfinite(left_s := self._left_s(last)) else []
        return DOT.join([*where, *self._quality(last), *self._speed(last), *left])

    def _shown(self) -> Group | Text:
        """The live lines: how far, how well, how fast."""
        if (last := self._last) is None:
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
        good = Text.assemble((loss, "bold"), (f" {sparkline(self._curve)} ", "cyan"), *recall)
        fast = Text(DOT.join(self._speed(last)), style="yellow" if self._recent.waiting > STARVED else "dim")
        for line in (good, fast):
            line.no_wrap, line.overflow = True, "ellipsis"
        return Group(bar, good, fast)


class Recent:
    """Speed over the last half minute (of slow steps, the last five)."""

    def __init__(self) -> None:
        self.steps: deque[tuple[float, int, float]] = deque()
        self._seconds, self._pictures, self._waited_s = 0.0, 0, 0.0

    def add(self, seconds: float, pictures: int, waited_s: float) -> None:
        """One more step; the oldest leave."""
        self._count((seconds, pictures, waited_s), 1)
        self.steps.append((seconds, pictures, waited_s))
        while len(self.steps) > 5 and self._seconds - self.steps[0][0] > WINDOW_S:
            self._count(self.steps.popleft(), -1)

    def _count(self, step: tuple[float, int, float], sign: int) -> None:
        self._seconds += sign * step[0]
        self._pictures += sign * step[1]
        self._waited_s += sign * step[2]

    @property
    def pictures_per_s(self) -> float:
        """NaN before any step."""
        return self._pictures / max(self._seconds, 1e-9) if self.steps else math.nan

    @property
    def waiting(self) -> float:
        """Share of the time that went by until batches were there, 0 to 1."""
        return min(1.0, max(0.0, self._waited_s / max(self._seconds, 1e-9))) if self.steps else math.nan


def _board(folder: Path, resumed_step: int | None) -> Any:
    """TensorBoard's files, by a library that does without TensorBoard. A run that goes on opens a further file, before
    which TensorBoard forgets what the interrupted one wrote after that step."""
    from tensorboardX import SummaryWriter  # not at the top: it takes half a second

    if resumed_step is None:
        shutil.rmtree(folder, ignore_errors=True)  # of a run that left nothing to go on from
    subfolder(folder)
    purged = None if resumed_step is None else resumed_step + 1
    suffix = f".{len(list(folder.glob('*')))}"  # two sittings may begin within one second
    return SummaryWriter(str(folder), purge_step=purged, filename_suffix=suffix)


def scalars(row: Row) -> dict[str, float]:
    """A row's finite numbers under TensorBoard's tags; recall at 1, 5 and 10 each under its own."""
    flat = {
        (f"recall/{key}_at_{k}" if k else f"training/{key}"): value
        for key, values in row.items()
        for k, value in (zip((1, 5, 10), values, strict=False) if isinstance(values, list | tuple) else [(0, values)])
        if key not in ("step", "elapsed_s")
    }
    return {tag: value for tag, value in flat.items() if isinstance(value, int | float) and abs(value) < 1e38}


def sparkline(values: list[float], width: int = 16) -> str:
    """The course of finite `values` in a few letters, the latest last."""
    values = [value for value in values if math.isfinite(value)]
    if len(values) < 2:
        return ""
    count = min(width, len(values))
    cuts = [round(i * len(values) / count) for i in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(cuts)]
    low, high = min(means), max(means)
    return "".join(BLOCKS[round((mean - low) / ((high - low) or 1) * (len(BLOCKS) - 1))] for mean in means)


def remaining_s(elapsed_s: float, done: float, left: float) -> float:
    """Time for the share `left` of a run at the pace of the share `done`; infinite before the first step."""
    return elapsed_s * left / done if done > 0 else math.inf


def duration(seconds: float) -> str:
    """1:02:03, or 2:03; "?" where it is not known yet."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def _total(result: Retrieval) -> float:
    """All six recalls together, which tells models apart better than any one."""
    return sum(map(sum, result))
