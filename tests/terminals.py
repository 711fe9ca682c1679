"""A pseudo-terminal for commands that run in this process."""

from __future__ import annotations

import contextlib
import io
import os
import re
import struct
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator

from diptych.display.escaping import escape_streams

COLUMNS = 100
# Of Unicode's format characters those that are drawn, and the joiners, which have a use between some letters.
DRAWN = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD, *range(0x13430, 0x13460)}
JOINERS = {0x200C, 0x200D}
OURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r?\n|\r")  # colours, movements of the cursor, ends of lines


def written_to_terminal(call: Callable[[], object]) -> str:
    """All that `call` writes to stdout and stderr, which are a terminal meanwhile, as the program sets them up."""
    import fcntl
    import termios

    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    said = bytearray()
    reader = threading.Thread(target=_read, args=(master, said))
    reader.start()
    try:
        with open(slave, "w", encoding="utf-8", errors="surrogateescape") as terminal, _streams(terminal):
            escape_streams()
            call()
    finally:
        reader.join()
        os.close(master)
    return said.decode("utf-8", "surrogateescape")


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


def strange(said: str) -> list[str]:
    """What is in it that does something in a terminal, or is not seen there, and that no program of ours writes."""
    return [letter for letter in OURS.sub("", said) if is_strange(letter)]


def is_strange(letter: str) -> bool:
    """Whether it is a control or format character, an end of a line or half a character, by Unicode's categories."""
    return unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") and ord(letter) not in DRAWN | JOINERS


def _read(master: int, said: bytearray) -> None:
    with contextlib.suppress(OSError):  # how Linux says that the terminal is closed
        while some := os.read(master, 65536):
            said += some


@contextlib.contextmanager
def _streams(terminal: object) -> Iterator[None]:
    before = sys.stdin, sys.stdout, sys.stderr
    environment = dict(os.environ)
    os.environ |= {"TERM": "xterm", "COLUMNS": str(COLUMNS)}
    try:
        with open(os.devnull) as nothing:
            sys.stdin, sys.stdout, sys.stderr = nothing, terminal, terminal  # type: ignore[assignment]
            yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = before
        os.environ.clear()
        os.environ.update(environment)
