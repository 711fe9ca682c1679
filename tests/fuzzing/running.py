"""One command line in this process, as at a terminal or into a pipe, and what it said."""

from __future__ import annotations

import io
import os
import sys
import tempfile
from typing import NamedTuple

from diptych.cli import run


class Said(NamedTuple):
    """An exit code, and what went to stdout and stderr, whoever wrote it."""

    code: int
    out: str
    err: str


class Stream(io.TextIOWrapper):
    """A stream that says whether it is a terminal."""

    is_terminal = False

    def isatty(self) -> bool:
        return self.is_terminal


class Screen:
    """This process's stdout and stderr, those of C libraries too, as files that can be read again."""

    def __init__(self) -> None:
        for number in (1, 2):
            with tempfile.TemporaryFile() as file:
                os.dup2(file.fileno(), number)
        sys.stdout, sys.stderr = (self._stream(number) for number in (1, 2))

    def _stream(self, number: int) -> Stream:
        raw = io.FileIO(number, "wb", closefd=False)
        return Stream(raw, encoding="utf-8", errors="surrogateescape", line_buffering=True)  # type: ignore[arg-type]

    def clear(self, *, is_terminal: bool) -> None:
        """Forget what was said; from now on it goes to a terminal, or does not."""
        for number, stream in ((1, sys.stdout), (2, sys.stderr)):
            stream.flush()
            os.ftruncate(number, 0)
            os.lseek(number, 0, os.SEEK_SET)
        Stream.is_terminal = is_terminal

    def said(self) -> tuple[str, str]:
        """What was said since."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        out, err = (_all_of(number) for number in (1, 2))
        return out, err


def _all_of(number: int) -> str:
    return os.pread(number, os.fstat(number).st_size, 0).decode("utf-8", "surrogateescape")


def ran(arguments: list[str]) -> Said:
    """One command line, where nobody looks."""
    out, err = io.StringIO(), io.StringIO()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, err
    try:
        return Said(run(arguments), out.getvalue(), err.getvalue())
    finally:
        sys.stdout, sys.stderr = before
