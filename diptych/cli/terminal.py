"""What a person at a terminal sees beside the results: lines that fit, and bars with rate and time left."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import click

from diptych.cli.names import harmless

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

_BESIDE = 54  # cells that a bar leaves for its title, counts, rate and time
_above: Console | None = None  # where lines go while bars are drawn


def say(text: str) -> None:
    """A line for the person, on stderr; at a terminal folded to its width."""
    text = harmless(text)
    if sys.stderr.isatty():
        text = folded(text, shutil.get_terminal_size().columns)
    if _above is not None:
        _above.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)
    else:
        click.echo(text, err=True)


def tell(text: str) -> None:
    """A line of results, on stdout; at a terminal folded to its width."""
    text = harmless(text)
    click.echo(folded(text, shutil.get_terminal_size().columns) if sys.stdout.isatty() else text)


def folded(text: str, width: int, indent: int = 4) -> str:
    """Each line broken where it is wider than `width` cells: behind a space or a slash, else anywhere; what follows is
    indented by `indent` more than the line."""
    return "\n".join(_fold(line, width, indent) for line in text.split("\n"))


def _fold(line: str, width: int, indent: int) -> str:
    begun = len(line) - len(line.lstrip(" ")) + indent
    rows = []
    while cells(line) > width > begun + 8:
        at = _fits(line, width)
        least = begun + 1 if rows else len(line) - len(line.lstrip(" ")) + 1
        nearest = max((line.rfind(mark, least, at) for mark in (" ", "/")), default=-1)
        at = nearest + 1 if nearest >= max(least, at // 2) else at
        rows.append(line[:at].rstrip(" "))
        line = " " * begun + line[at:].lstrip(" ")
    return "\n".join([*rows, line])


def _fits(text: str, width: int) -> int:
    """How many of the first letters are no wider than `width` cells."""
    taken = 0
    for at, letter in enumerate(text):
        taken += cells(letter)
        if taken > width:
            return at
    return len(text)


def cells(text: str) -> int:
    """How many cells a text takes: East Asian wide letters two, marks that sit on a letter none."""
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text
    )


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr with rate and time left, gone when done; silent where stderr is no terminal."""
    with _bars() as bars:
        yield _advance(bars, bars.add_task(title, total=None, count="", rate=""))


@contextmanager
def stages(*titles: str) -> Iterator[list[Callable[[int, int], None]]]:
    """A bar for each stage of a work, one at a time; nothing is imported or shown before the first has begun."""
    with ExitStack() as stack:
        bars: Progress | None = None

        def stage(title: str) -> Callable[[int, int], None]:
            advance: Callable[[int, int], None] | None = None

            def begun(done: int, total: int) -> None:
                nonlocal advance, bars
                if advance is None:
                    bars = bars or stack.enter_context(_bars())
                    for task in bars.tasks:
                        bars.update(task.id, visible=False)
                    advance = _advance(bars, bars.add_task(title, total=total, count="", rate=""))
                advance(done, total)

            return begun

        yield [stage(title) for title in titles]


@contextmanager
def _bars() -> Iterator[Progress]:
    """Bars that fit the terminal; what is said meanwhile stands above them."""
    global _above
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    bar = BarColumn(max(8, min(40, console.width - _BESIDE)))
    count, rate = TextColumn("{task.fields[count]}"), TextColumn("{task.fields[rate]}")
    columns = (TextColumn("{task.description}"), bar, count, rate, TimeRemainingColumn())
    bars = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    before = _above
    with bars:
        _above = console if console.is_terminal else None
        try:
            yield bars
        finally:
            _above = before


def _advance(bars: Progress, task: TaskID) -> Callable[[int, int], None]:
    def advance(done: int, total: int) -> None:
        speed = bars.tasks[task].speed
        count = f"{done:,}/{total:,}" if total else ""
        bars.update(task, completed=done, total=total or None, count=count, rate=f"{speed:,.0f}/s" if speed else "")

    return advance
