"""Names of files on their way out: to other programs as they are, to people so that nothing in them does anything."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

import click

# Control characters, line and paragraph separators, and what turns the direction of writing around ("gpj.exe" reads
# "exe.jpg"). Of bytes that are no text, those that are control characters in older encodings.
_CONTROLS = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\udc80-\udc9f"
_CONTROL = re.compile(f"[{_CONTROLS}]")
_PROSE = re.compile(f"(?![\n\t])[{_CONTROLS}]")
_ESCAPED = re.compile(rf"[{_CONTROLS}\udc80-\udcff]+")
_NOT_IN_JSON = re.compile(rf"(?!\n)[{_CONTROLS}\ud800-\udfff]")
_NAMED = {7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r"}


def print_exact(names: Iterable[object]) -> None:
    """Each name's bytes as they are with a NUL behind them, which no name holds: for xargs -0."""
    for name in names:
        click.echo(os.fsencode(str(name)) + b"\0", nl=False)


def print_lines(names: Iterable[object]) -> None:
    """A name a line, `quoted`."""
    for name in names:
        click.echo(quoted(name))


def quoted(name: object) -> str:
    """A name as it is, where it holds no control character and does not begin with a quotation mark; else as a word
    that bash and zsh read as the name, in the manner of `ls --quoting-style=shell-escape`."""
    text = str(name)
    if not _CONTROL.search(text) and not text.startswith(("'", '"')):
        return text
    word, at = "", 0
    for found in _ESCAPED.finditer(text):
        word += _plain(text[at : found.start()], first=not at) + f"$'{''.join(map(_octal, os.fsencode(found[0])))}'"
        at = found.end()
    return word + _plain(text[at:], first=not at)


def harmless(text: str, *, lines: bool = True) -> str:
    """A text with escapes such as \\x1b where a character would do something in a terminal, but for the ends of its
    lines, if `lines`."""
    return (_PROSE if lines else _CONTROL).sub(_escape, text)


def escaped_json(text: str) -> str:
    """JSON that does nothing in a terminal and holds no half characters: these come as \\udc80 to \\udfff."""
    return _NOT_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _plain(text: str, *, first: bool) -> str:
    return "'" + text.replace("'", "'\\''") + "'" if text or first else ""


def _octal(byte: int) -> str:
    return f"\\{_NAMED[byte]}" if byte in _NAMED else f"\\{byte:03o}"


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
