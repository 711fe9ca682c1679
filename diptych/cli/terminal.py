"""Everything that a command writes: results on stdout, the rest on stderr, lines that fit the terminal and are escaped,
small pictures, and progress bars with rate and time left."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TextIO

from diptych.cli.names import exact, quoted
from diptych.display.escaping import escape_control_characters, unwrapped

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from diptych.display.console import TextConsole

_TEXT_WIDTH = 54  # cells beside a bar for its title, counts, rate and time
_above: TextConsole | None = None  # prints above the bars while they are drawn
_drawn: Progress | None = None


def print_status(text: str) -> None:
    """A line on stderr about the work; at a terminal folded to its width."""
    if _above is not None:
        width = shutil.get_terminal_size().columns
        _above.print(folded(escape_control_characters(text), width), soft_wrap=True)
    else:
        _write(_line(text, sys.stderr), sys.stderr)


def print_result(text: str, *, fold: bool = True) -> None:
    """A line of results on stdout; at a terminal folded to its width, unless it is part of a table (`fold=False`)."""
    _write(_line(text, sys.stdout, fold=fold), sys.stdout)


def write_paths(names: Iterable[object], *, nul: bool = False) -> None:
    """One name per line, `quoted`; with `nul` each name's own bytes and a NUL. A terminal always gets lines, because no
    program reads them there."""
    if nul and not sys.stdout.isatty():
        sys.stdout.flush()
        sys.stdout.buffer.write(exact(names))
        sys.stdout.flush()
        return
    for name in names:
        print_result(quoted(name), fold=False)


def print_json_text(text: str) -> None:
    """JSON on stdout; `escaped_json` has escaped it in JSON's own way."""
    _write(text + "\n", sys.stdout)


def ask(question: str) -> str:
    """Ask on stderr and read the answer from stdin, in lower case; the end of stdin answers "no"."""
    _write(_line(question, sys.stderr, end=" "), sys.stderr)
    answer = sys.stdin.readline()
    return answer.strip().lower() if answer else "no"


def draw(sequences: str) -> None:
    """Control sequences of our own on stdout, for pictures and colours. The caller has escaped the texts in them."""
    _write(sequences, unwrapped(sys.stdout))


def print_error(text: str) -> None:
    """An error on stderr, in as many lines as it needs."""
    _write(escape_control_characters(text, lines=True, terminal=sys.stderr.isatty()) + "\n", sys.stderr)


def _line(text: str, stream: TextIO, *, fold: bool = True, end: str = "\n") -> str:
    terminal = stream.isatty()
    text = escape_control_characters(text, terminal=terminal)
    return (folded(text, shutil.get_terminal_size().columns) if fold and terminal else text) + end


def _write(text: str, stream: TextIO) -> None:
    """Only this function writes to a terminal."""
    stream.write(text)
    stream.flush()


def folded(text: str, width: int, indent: int = 4) -> str:
    """Each line broken where it is wider than `width` cells, after a space or a slash if possible. The rest of a line
    is indented by `indent` more than its start."""
    return "\n".join(_fold(line, width, indent) for line in text.split("\n"))


def _fold(line: str, width: int, indent: int) -> str:
    own_indent = len(line) - len(line.lstrip(" "))
    hanging = own_indent + indent
    rows = []
    while cells(line) > width > hanging + 8:
        end = _length_that_fits(line, width)
        least = (hanging if rows else own_indent) + 1
        nearest = max(line.rfind(mark, least, end) for mark in (" ", "/"))
        end = nearest + 1 if nearest >= max(least, end // 2) else end
        rows.append(line[:end].rstrip(" "))
        line = " " * hanging + line[end:].lstrip(" ")
    return "\n".join([*rows, line])


def _length_that_fits(text: str, width: int) -> int:
    """The number of leading characters that are no wider than `width` cells together."""
    used = 0
    for index, character in enumerate(text):
        used += cells(character)
        if used > width:
            return index
    return len(text)


def cells(text: str) -> int:
    """The width of a text in cells: two for an East Asian wide character, none for a combining mark."""
    return sum(
        0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr with rate and time left, removed at the end. Nothing is drawn if stderr is not a terminal."""
    with _bars() as bars:
        yield _advance(bars, bars.add_task(escape_control_characters(title), total=None, count="", rate=""))


@contextmanager
def stages(*titles: str) -> Iterator[list[Callable[[int, int], None]]]:
    """A bar for each stage, one at a time. Nothing is imported or shown before the first stage starts."""
    with ExitStack() as stack:
        bars: Progress | None = None

        def stage(title: str) -> Callable[[int, int], None]:
            advance: Callable[[int, int], None] | None = None

            def report(done: int, total: int) -> None:
                nonlocal advance, bars
                if advance is None:
                    bars = bars or stack.enter_context(_bars())
                    for task in bars.tasks:
                        bars.update(task.id, visible=False)
                    advance = _advance(
                        bars, bars.add_task(escape_control_characters(title), total=total, count="", rate="")
                    )
                advance(done, total)

            return report

        yield [stage(title) for title in titles]


@contextmanager
def bars_paused() -> Iterator[None]:
    """No bar is drawn within it, so that others can write to the terminal."""
    global _above
    bars, above = _drawn, _above
    if bars is None:
        yield
        return
    _above = None
    bars.stop()
    try:
        yield
    finally:
        bars.start()
        _above = above


@contextmanager
def _bars() -> Iterator[Progress]:
    """Bars that fit the terminal. Lines of `print_status` appear above them."""
    global _above, _drawn
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from diptych.display.console import TextConsole, redirected_streams

    console = TextConsole(stderr=True)
    bar = BarColumn(max(8, min(40, console.width - _TEXT_WIDTH)))
    texts = ("{task.description}", "{task.fields[count]}", "{task.fields[rate]}")
    title, count, rate = (TextColumn(text, markup=False) for text in texts)
    columns = (title, bar, count, rate, TimeRemainingColumn())
    bars = Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal,
        redirect_stdout=sys.stdout.isatty(),  # otherwise output for a file or pipe would appear above the bar
    )  # fmt: skip
    before = _above, _drawn
    with bars, redirected_streams():
        _above, _drawn = (console, bars) if console.is_terminal else (None, None)
        try:
            yield bars
        finally:
            _above, _drawn = before


def _advance(bars: Progress, task: TaskID) -> Callable[[int, int], None]:
    def advance(done: int, total: int) -> None:
        speed = bars.tasks[task].speed
        count = f"{done:,}/{total:,}" if total else ""
        bars.update(task, completed=done, total=total or None, count=count, rate=f"{speed:,.0f}/s" if speed else "")

    return advance
