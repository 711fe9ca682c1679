"""Patterns of paths, as a shell and a .gitignore have them: one language for what is left out and what is looked for.

A pattern without a slash, but at its end, is the name of a file or of a folder at any depth (`*.gif`, `drafts`,
`drafts/`). One with a slash is a path from the folder that is indexed or searched (`2019/raw`, `/top.jpg`, `./*.jpg`).
A slash at the end means folders alone. `*` and `?` stand for anything but a slash, `**` for anything, so that
`a/**/b.jpg` is at any depth below `a`; `[a-z]` is one of these and `[!a-z]` one of the others. A backslash before one
of `*?[]\\` makes it a plain letter: `img\\[1\\].jpg`.

Names are compared as they read: an é of one letter is that of two (e and an accent, as macOS writes them). The ending
of the pattern, from its last dot on, is of any case: `*.jpg` is `A.JPG` too, and `a*.jpg` is not.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from diptych.errors import DiptychError

_TOKENS = re.compile(r"\\[*?\[\]\\]|\*\*/|\*\*|\*|\?|\[[!^]?\]?[^\]/]*\]|.", re.S)
_MEANS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
_WILD = re.compile(r"(?<!\\)[*?\[]")
_UP = re.compile(r"(?:^|.*/)\.\.(?:/.*)?", re.S)
# Folders in front of any wildcard, in letters that no other sign is composed to: the kelvin's is to K, two others so
_LITERAL = re.compile(r"(?:\./)?+/*+((?:[^/*?\[\\K;`\x7f-\U0010ffff]+/)*[^/*?\[\\K;`\x7f-\U0010ffff]+)/.")


class PatternError(DiptychError, ValueError):
    """A pattern that is none, such as [z-a]."""


class Patterns:
    """Several patterns as one question. Raises PatternError."""

    def __init__(self, patterns: Iterable[str]):
        self._expression = re.compile("|".join(map(_checked, filter(str.strip, patterns))) or r"(?!)", re.S)

    def match(self, path: str) -> bool:
        """Whether one of the patterns is this path's; a folder's path ends with a slash."""
        return self._expression.fullmatch(composed(path)) is not None


def composed(text: str) -> str:
    """The text with each letter and its accents made one, as far as Unicode has that one."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def within(pattern: str) -> re.Pattern[str]:
    """An expression for the whole paths, composed, of the files that a pattern means: those that it names, and all that
    is in a folder that it names without a wildcard in its last part. Raises PatternError."""
    if _UP.fullmatch(pattern):
        raise PatternError(f"{pattern!r} leads out of the folder. Wanted a path in it, such as drafts/ or 2019/*.jpg")
    name = pattern.rstrip("/")
    has_folder = name != pattern or not _WILD.search(name.rpartition("/")[2])
    below = f"|{_checked(name + '/')}.*" if has_folder else ""
    return re.compile(("(?!)" if name != pattern else _checked(pattern)) + below, re.S)


def literal_folder(pattern: str) -> str:
    """A folder that holds all files that a pattern means, letter for letter; "" where none can be told."""
    found = _LITERAL.match(_tidy(pattern))
    return found[1] if found else ""


def inside(folder: str) -> tuple[str, list[Any]]:
    """SQL for the `files` in a folder, at any depth, and its parameters; for all of them where `folder` is ""."""
    if not folder:
        return "1", []
    values: list[Any] = [os.fsencode(f"{folder}/"), os.fsencode(f"{folder}0")]  # "0" is the letter after "/"
    return "files.path >= CAST(? AS TEXT) AND files.path < CAST(? AS TEXT)", values


def fits(path: bytes, start: int, pattern: bytes) -> bool:
    """Whether a file's path, without its first `start` bytes, is one that `within` the pattern means: for SQL."""
    text = path[start:].decode("utf-8", "surrogateescape")
    return _held(pattern).fullmatch(text if text.isascii() else composed(text)) is not None


@lru_cache(maxsize=8)
def _held(pattern: bytes) -> re.Pattern[str]:
    return within(os.fsdecode(pattern))


def _checked(pattern: str) -> str:
    expression = _expression(composed(pattern))
    try:
        re.compile(expression)
    except re.error as error:
        raise PatternError(f"{pattern!r} is no pattern: {error.msg}. Wanted one such as *.gif or a[0-9]/") from None
    return expression


def _expression(pattern: str) -> str:
    """For one pattern: a regular expression of paths, a folder's with a slash at its end."""
    name = _tidy(pattern).rstrip("/")
    anywhere = "" if "/" in name else "(?:.*/)?"
    pieces = _TOKENS.findall(re.sub(r"(?<![^/])(\*\*/)+", "**/", name.removeprefix("./").lstrip("/")))
    dot = len(pieces) - 1 - pieces[::-1].index(".") if "." in pieces else len(pieces)
    if "/" in "".join(pieces[dot:]):
        dot = len(pieces)
    stem, ending = ("".join(map(_piece, some)) for some in (pieces[:dot], pieces[dot:]))
    is_name = dot > 0 and ending  # .jpg is the whole name of a hidden file
    return anywhere + (f"{stem}(?i:{ending})" if is_name else stem + ending) + ("/" if pattern[-1:] == "/" else "/?")


def _tidy(pattern: str) -> str:
    """a//b and a/./b are a/b."""
    return re.sub(r"(?<=/)(?:\.?/)+", "", pattern)


def _piece(token: str) -> str:
    if token[0] == "\\" and len(token) == 2:
        return re.escape(token[1])
    if len(token) > 2 and token[0] == "[":
        inverted = token[1] in "!^"
        inside = re.sub(r"[\\\[\]^&~|]", r"\\\g<0>", token[1 + inverted : -1])
        return f"[^/{inside}]" if inverted else f"(?!/)[{inside}]"
    return _MEANS.get(token) or re.escape(token)
