"""Texts that PostgreSQL cannot hold: with NUL, or, as names of files may be, with bytes that are not UTF-8.

Each such byte is stored as one character of Unicode's last private area, so that patterns count it once, as Python
does. These characters themselves are stored as their bytes, four each.
"""

from __future__ import annotations

import re
from typing import Any

_FIRST = 0x10F700
_UNSTORABLE = re.compile(f"[\0\ud800-\udfff{chr(_FIRST)}-{chr(_FIRST + 255)}]")
_BYTE = re.compile(f"[{chr(_FIRST)}-{chr(_FIRST + 255)}]+")


def escaped(value: Any) -> Any:
    """A text as it is stored; any other value as it is. A surrogate that stands for no byte becomes a question mark."""
    return _UNSTORABLE.sub(_as_bytes, value) if isinstance(value, str) else value


def unescaped(value: Any) -> Any:
    """The text that `escaped` was given."""
    return _BYTE.sub(_as_text, value) if isinstance(value, str) and not value.isascii() else value


def _as_bytes(found: re.Match[str]) -> str:
    try:
        return "".join(chr(_FIRST + byte) for byte in found[0].encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return "?"


def _as_text(found: re.Match[str]) -> str:
    return bytes(ord(character) - _FIRST for character in found[0]).decode("utf-8", "surrogateescape")
