"""What a run tells the person who waits for it: a line on stderr, and metrics.jsonl for later."""

import json
import math
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn


class Monitor:
    """A progress bar (a plain line now and then where there is no terminal) and a row of numbers per report."""

    def __init__(self, folder: Path, *, quiet: bool = False, writes: bool = True, every_s: float = 30.0):
        """Of several processes only one `writes`; the others keep silent."""
        quiet = quiet or not writes
        self.console = Console(stderr=True, quiet=quiet)
        self._folder, self._writes = folder, writes
        self._rows: TextIO | None = None
        columns = (SpinnerColumn(), BarColumn(10), TextColumn("{task.fields[line]}"))
        self._bar = Progress(*columns, console=self.console, transient=True, disable=quiet or not sys.stderr.isatty())
        self._task = self._bar.add_task("training", total=1.0, line="")
        self._every_s, self._said_s, self._start_s = every_s, time.monotonic(), time.monotonic()

    def __enter__(self) -> "Monitor":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        if self._rows:
            self._rows.close()

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, highlight=False, soft_wrap=True, markup=False, emoji=False)

    def step(self, progress: float, line: str) -> None:
        """Show where the run stands; `progress` runs from 0 to 1."""
        now = time.monotonic()
        line = f"{duration(remaining_s(now - self._start_s, progress))} left · {line}"
        self._bar.update(self._task, completed=progress, line=line)
        if self._bar.disable and now - self._said_s > self._every_s:
            self._said_s = now
            self.say(f"{progress:4.0%} · {line}")

    def record(self, **row: Any) -> None:
        """One row of metrics.jsonl."""
        if not self._writes:
            return
        if self._rows is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._rows = (self._folder / "metrics.jsonl").open("w", encoding="utf-8")
        self._rows.write(json.dumps(row) + "\n")
        self._rows.flush()


def remaining_s(elapsed_s: float, progress: float) -> float:
    """Time left at the pace so far; infinite before the first step."""
    return elapsed_s * (1 - progress) / progress if progress > 0 else math.inf


def duration(seconds: float) -> str:
    """1:02:03, or 2:03; "?" where it is not known yet."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
