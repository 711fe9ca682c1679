"""Names of files in output: unchanged for other programs, escaped for people."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable

from diptych.display.escaping import CONTROLS, pattern

_NAMED = {7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r"}


def exact(names: Iterable[object]) -> bytes:
    """The bytes of each name and a NUL, which no name contains: for xargs -0."""
    return b"".join(os.fsencode(str(name)) + b"\0" for name in names)


def quoted(name: object) -> str:
    """A name unchanged, or as a word that bash and zsh read as the name, like `ls --quoting-style=shell-escape`. It is
    quoted if it contains control characters (on a terminal, any invisible character) or begins with a quotation
    mark."""
    text = str(name)
    terminal = sys.stdout.isatty()
    plain = text.isascii() and text.isprintable()
    if (plain or not pattern(terminal=terminal).search(text)) and not text.startswith(("'", '"')):
        return text
    word, end = "", 0
    for match in re.finditer(rf"(?:{pattern(terminal=terminal).pattern}|[\udc80-\udcff])+", text):
        word += _plain(text[end : match.start()], first=not end) + f"$'{''.join(map(_octal, _bytes(match[0])))}'"
        end = match.end()
    return word + _plain(text[end:], first=not end)


def escaped_json(text: str, *, terminal: bool = False) -> str:
    """JSON without control characters or surrogates, which become \\udc80 to \\udfff; for a `terminal` also without
    invisible characters."""
    unsafe = pattern(lines=True).pattern if terminal else rf"(?!\n)[{CONTROLS}\ud800-\udfff]"
    return re.sub(unsafe, _json_escape, text)


def _plain(text: str, *, first: bool) -> str:
    return "'" + text.replace("'", "'\\''") + "'" if text or first else ""


def _bytes(text: str) -> bytes:
    """The text as the file system stores it; a surrogate that no name can contain becomes three bytes."""
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _octal(byte: int) -> str:
    return f"\\{_NAMED[byte]}" if byte in _NAMED else f"\\{byte:03o}"


def _json_escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    units = (code,) if code < 0x10000 else (0xD800 + ((code - 0x10000) >> 10), 0xDC00 + (code & 0x3FF))
    return "".join(f"\\u{unit:04x}" for unit in units)
