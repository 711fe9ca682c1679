"""All that a command writes goes out here: results on stdout and the rest on stderr, lines that fit a terminal and do
nothing in it, small pictures, and bars with rate and time left."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TextIO

from diptych.cli.names import exact, quoted
from diptych.display.escaping import harmless, underlying

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from diptych.display.console import TextConsole

_BESIDE = 54  # cells that a bar leaves for its title, counts, rate and time
_above: TextConsole | None = None  # where lines go while bars are drawn


def say(text: str) -> None:
    """A line for the person, on stderr; at a terminal folded to its width."""
    if _above is not None:
        width = shutil.get_terminal_size().columns
        _above.print(folded(harmless(text), width), soft_wrap=True)
    else:
        _write(_line(text, sys.stderr), sys.stderr)


def tell(text: str, *, fold: bool = True) -> None:
    """A line of results, on stdout; at a terminal folded to its width, unless it lies in columns."""
    _write(_line(text, sys.stdout, fold=fold), sys.stdout)


def tell_names(names: Iterable[object], *, nul: bool = False) -> None:
    """A name a line, `quoted`; with `nul` each name's bytes as they are with a NUL behind them. On a terminal, where
    no program reads them, there are lines in any case."""
    if nul and not sys.stdout.isatty():
        sys.stdout.flush()
        sys.stdout.buffer.write(exact(names))
        sys.stdout.flush()
        return
    for name in names:
        tell(quoted(name), fold=False)


def tell_json(text: str) -> None:
    """JSON, made harmless in JSON's own way (`escaped_json`), on stdout."""
    _write(text + "\n", sys.stdout)


def ask(question: str) -> str:
    """What a person answers on stdin to a question on stderr, in small letters."""
    _write(_line(question, sys.stderr, end=" "), sys.stderr)
    return sys.stdin.readline().strip().lower()


def draw(sequences: str) -> None:
    """Our own sequences on stdout, such as pictures and their colours. The texts between them are harmless before."""
    _write(sequences, underlying(sys.stdout))


def complain(text: str) -> None:
    """Why a command came to nothing, on stderr, in as many lines as it needs."""
    _write(harmless(text, lines=True, terminal=sys.stderr.isatty()) + "\n", sys.stderr)


def _line(text: str, stream: TextIO, *, fold: bool = True, end: str = "\n") -> str:
    terminal = stream.isatty()
    text = harmless(text, terminal=terminal)
    return (folded(text, shutil.get_terminal_size().columns) if fold and terminal else text) + end


def _write(text: str, stream: TextIO) -> None:
    """The one place where this program writes to a terminal."""
    stream.write(text)
    stream.flush()


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
        yield _advance(bars, bars.add_task(harmless(title), total=None, count="", rate=""))


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
                    advance = _advance(bars, bars.add_task(harmless(title), total=total, count="", rate=""))
                advance(done, total)

            return begun

        yield [stage(title) for title in titles]


@contextmanager
def _bars() -> Iterator[Progress]:
    """Bars that fit the terminal; what is said meanwhile stands above them."""
    global _above
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from diptych.display.console import TextConsole, guarded

    console = TextConsole(stderr=True)
    bar = BarColumn(max(8, min(40, console.width - _BESIDE)))
    texts = ("{task.description}", "{task.fields[count]}", "{task.fields[rate]}")
    title, count, rate = (TextColumn(text, markup=False) for text in texts)
    columns = (title, bar, count, rate, TimeRemainingColumn())
    bars = Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal,
        redirect_stdout=sys.stdout.isatty(),  # what goes into a file or pipe would come out above the bar
    )  # fmt: skip
    before = _above
    with bars, guarded():
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
