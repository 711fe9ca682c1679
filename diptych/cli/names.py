"""Names of files on their way out: to other programs as they are, to people so that nothing in them does anything."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable

from diptych.display.escaping import CONTROLS, pattern

_NAMED = {7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r"}


def exact(names: Iterable[object]) -> bytes:
    """Each name's bytes as they are with a NUL behind them, which no name holds: for xargs -0."""
    return b"".join(os.fsencode(str(name)) + b"\0" for name in names)


def quoted(name: object) -> str:
    """A name as it is, where it holds no control character (on a terminal, nothing that is not seen either) and does
    not begin with a quotation mark; else as a word that bash and zsh read as the name, in the manner of
    `ls --quoting-style=shell-escape`."""
    text = str(name)
    terminal = sys.stdout.isatty()
    plain = text.isascii() and text.isprintable()
    if (plain or not pattern(terminal=terminal).search(text)) and not text.startswith(("'", '"')):
        return text
    word, at = "", 0
    for found in re.finditer(rf"(?:{pattern(terminal=terminal).pattern}|[\udc80-\udcff])+", text):
        word += _plain(text[at : found.start()], first=not at) + f"$'{''.join(map(_octal, _bytes(found[0])))}'"
        at = found.end()
    return word + _plain(text[at:], first=not at)


def escaped_json(text: str, *, terminal: bool = False) -> str:
    """JSON that does nothing in a terminal and holds no half characters: these come as \\udc80 to \\udfff. On a
    `terminal` nothing is in it that is not seen, either."""
    found = pattern(lines=True).pattern if terminal else rf"(?!\n)[{CONTROLS}\ud800-\udfff]"
    return re.sub(found, _json_escape, text)


def _plain(text: str, *, first: bool) -> str:
    return "'" + text.replace("'", "'\\''") + "'" if text or first else ""


def _bytes(text: str) -> bytes:
    """As the file system has it; half a character, which no name can hold, as its three bytes."""
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _octal(byte: int) -> str:
    return f"\\{_NAMED[byte]}" if byte in _NAMED else f"\\{byte:03o}"


def _json_escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    units = (code,) if code < 0x10000 else (0xD800 + ((code - 0x10000) >> 10), 0xDC00 + (code & 0x3FF))
    return "".join(f"\\u{unit:04x}" for unit in units)
