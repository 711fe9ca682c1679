"""Patterns of paths, as a shell and a .gitignore have them: one language for what is left out and what is looked for.

A pattern without a slash, but at its end, is the name of a file or of a folder at any depth (`*.gif`, `drafts`,
`drafts/`). One with a slash is a path from the folder that is indexed or searched (`2019/raw`, `/top.jpg`, `./*.jpg`).
A slash at the end means folders alone. `*` and `?` stand for anything but a slash, `**` for anything, so that
`a/**/b.jpg` is at any depth below `a`; `[a-z]` is one of these and `[!a-z]` one of the others. A backslash before one
of `*?[]\\` makes it a plain letter: `img\\[1\\].jpg`.

Names are compared as they read: an é of one letter is that of two (e and an accent, as macOS writes them). The ending
of the pattern, from its last dot on, is of any case: `*.jpg` is `A.JPG` too, and `a*.jpg` is not.

A catalog, which may be anyone's, remembers patterns: the time that a match takes grows with the path's length times the
pattern's and no faster, and their number and length have limits.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from diptych.errors import PatternError

MOST, LONGEST, MOST_LETTERS = 1000, 1000, 50_000  # patterns, the letters of one, and of all
LONGEST_PATH = 8192  # characters; systems have 4,096 and less
_TOKENS = re.compile(r"\\[*?\[\]\\]|(?:(?<=/)|(?<!.))\*\*/|\*\*|\*|\?|\[[!^]?\]?[^\]/]*\]|.", re.S)
_FOLDERS, _ANY, _SOME = "**/", "**", "*"
_BELOW = "(?:[^/]*+/)*?"  # any number of folders, as few as do
_WILD = re.compile(r"(?<!\\)[*?\[]")
_UP = re.compile(r"(?:^|.*/)\.\.(?:/.*)?", re.S)
# Folders in front of any wildcard, in letters that no other sign is composed to: the kelvin's is to K, two others so
_LITERAL = re.compile(r"(?:\./)?+/*+((?:[^/*?\[\\K;`\x7f-\U0010ffff]+/)*[^/*?\[\\K;`\x7f-\U0010ffff]+)/.")


class Patterns:
    """Several patterns as one question. Raises PatternError."""

    def __init__(self, patterns: Iterable[str]):
        wanted = list(filter(str.strip, patterns))
        check_size(wanted)
        self._expression = re.compile("|".join(map(_checked, wanted)) or r"(?!)", re.S)

    def match(self, path: str) -> bool:
        """Whether one of the patterns is this path's; a folder's path ends with a slash."""
        return self._expression.fullmatch(composed(path)) is not None


def check_size(patterns: Sequence[str]) -> None:
    """Raises PatternError where there are more patterns, or longer ones, than are looked for."""
    letters = sum(map(len, patterns))
    if len(patterns) > MOST or letters > MOST_LETTERS:
        raise PatternError(
            f"{len(patterns):,} patterns of {letters:,} letters came; at most {MOST:,} of {MOST_LETTERS:,} are looked "
            "for. Name folders instead of files, or use * for what names have in common"
        )
    if long := next((pattern for pattern in patterns if len(pattern) > LONGEST), None):
        raise PatternError(f"{long[:20]!r}... has {len(long):,} letters; a pattern may have {LONGEST:,}")


def composed(text: str) -> str:
    """The text with each letter and its accents made one, as far as Unicode has that one."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def within(pattern: str) -> re.Pattern[str]:
    """An expression for the whole paths, composed, of the files that a pattern means: those that it names, and all that
    is in a folder that it names without a wildcard in its last part. Raises PatternError."""
    check_size([pattern])
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
    return (
        len(text) <= LONGEST_PATH and _held(pattern).fullmatch(text if text.isascii() else composed(text)) is not None
    )


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
    """For one pattern: a regular expression of paths, a folder's with a slash at its end.

    It never comes back to a part that has fitted. Between two `**` the first position that fits is as good as any later
    one, and so is the first for what stands between two `*` there, which no slash lies between.
    """
    name = _tidy(pattern).rstrip("/")
    pieces = _TOKENS.findall(re.sub(r"(?<![^/])(\*\*/)+", _FOLDERS, name.removeprefix("./").lstrip("/")))
    dot = len(pieces) - 1 - pieces[::-1].index(".") if "." in pieces else len(pieces)
    if "/" in "".join(pieces[dot:]) or not dot:  # .jpg is the whole name of a hidden file
        dot = len(pieces)
    fixed = [piece if piece in (_FOLDERS, _ANY, _SOME) else _fixed(piece) for piece in pieces]
    fixed[dot:] = [piece if piece in (_ANY, _SOME) else f"(?i:{piece})" for piece in fixed[dot:]]
    *first, last = _groups(fixed if "/" in name else [_FOLDERS, *fixed])
    before = "".join(f"(?>{_group(*group, is_last=False)})" for group in first)
    return before + _group(*last, is_last=True) + ("/" if pattern[-1:] == "/" else "/?")


def _groups(pieces: Iterable[str]) -> list[tuple[str, list[str]]]:
    """What stands between `**`: what leads to it, and its parts, between which there is a `*`."""
    groups: list[tuple[str, list[str]]] = [("", [""])]
    for piece in pieces:
        lead, parts = groups[-1]
        if piece in (_FOLDERS, _ANY):
            if parts == [""]:  # two wildcards, of which the wider counts
                groups.pop()
                piece = max(piece, lead, key=("", _FOLDERS, _ANY).index)
            elif piece == _ANY and not parts[-1]:
                parts.pop()
            groups.append((piece, [""]))
        elif piece != _SOME:
            parts[-1] += piece
        elif parts[-1] or (len(parts) == 1 and lead != _ANY):
            parts.append("")
    return groups


def _group(lead: str, parts: list[str], *, is_last: bool) -> str:
    """Each part where it first fits, but for the last of all, behind which the path ends."""
    expression = _BELOW if lead else ""
    for at, part in enumerate(parts):
        gap = "[^/]*" if at or lead == _ANY else ""
        if is_last and at == len(parts) - 1:
            return expression + (".*" if lead == _ANY and parts == [""] else gap + part)
        expression += f"(?>{gap}?{part})" if gap else part
    return expression


def _tidy(pattern: str) -> str:
    """a//b and a/./b are a/b."""
    return re.sub(r"(?<=/)(?:\.?/)+", "", pattern)


def _fixed(token: str) -> str:
    """What stands for one letter."""
    if token[0] == "\\" and len(token) == 2:
        return re.escape(token[1])
    if len(token) > 2 and token[0] == "[":
        inverted = token[1] in "!^"
        inside = re.sub(r"[\\\[\]^&~|]", r"\\\g<0>", token[1 + inverted : -1])
        return f"[^/{inside}]" if inverted else f"(?!/)[{inside}]"
    return "[^/]" if token == "?" else re.escape(token)
