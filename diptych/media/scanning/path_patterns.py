"""Path patterns in the syntax of shells and .gitignore, both for excluding files and for filtering results.

A pattern with no slash, or with one at its end alone, matches a file or folder name at any depth (`*.gif`, `drafts`,
`drafts/`). Any other slash makes it a path from the indexed or searched folder (`2019/raw`, `/top.jpg`, `./*.jpg`).
A slash at the end restricts it to folders. `*` and `?` match anything but a slash and `**` matches anything, so
`a/**/b.jpg` matches at any depth below `a`; `[a-z]` matches one of these characters and `[!a-z]` one of the others. A
backslash before one of `*?[]\\` makes it literal: `img\\[1\\].jpg`.

Names are compared in composed form (NFC): é as one character equals e and an accent, as macOS stores it. The pattern's
suffix, from its last dot on, ignores case: `*.jpg` matches `A.JPG`, but `a*.jpg` does not.

An untrusted catalog may store patterns, so matching takes time at most proportional to the path's length times the
pattern's, and the number and length of patterns are limited.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from diptych.errors import PatternError

MOST, LONGEST, MOST_LETTERS = 1000, 1000, 50_000  # patterns, characters of one, characters of all
LONGEST_PATH = 8192  # characters; operating systems allow 4,096 or less
# Expressions are compiled when they are first used: most searches have no pattern, and compiling takes 3 ms
_TOKENS = r"(?s)\\[*?\[\]\\]|(?:(?<=/)|(?<!.))\*\*/|\*\*|\*|\?|\[[!^]?\]?[^\]/]*\]|."
_FOLDERS, _ANY, _SOME = "**/", "**", "*"
_BELOW = "(?:[^/]*+/)*?"  # any number of folders, lazily
_WILD = r"(?<!\\)[*?\[]"
_UP = r"(?s)(?:^|.*/)\.\.(?:/.*)?"
# Folders before any wildcard, without characters that NFC makes of others: the kelvin sign becomes K, two more likewise
_LITERAL = r"(?:\./)?+/*+((?:[^/*?\[\\K;`\x7f-\U0010ffff]+/)*[^/*?\[\\K;`\x7f-\U0010ffff]+)/."


class Patterns:
    """Several patterns compiled into one. Raises PatternError."""

    def __init__(self, patterns: Iterable[str]):
        wanted = list(filter(str.strip, patterns))
        check_size(wanted)
        self._expression = re.compile("|".join(map(_checked, wanted)) or r"(?!)", re.S)

    def match(self, path: str) -> bool:
        """Whether any of the patterns matches the path; a folder's path ends with a slash."""
        return self._expression.fullmatch(composed(path)) is not None


def check_size(patterns: Sequence[str]) -> None:
    """Raises PatternError if there are too many patterns or they are too long."""
    letters = sum(map(len, patterns))
    if len(patterns) > MOST or letters > MOST_LETTERS:
        raise PatternError(
            f"{len(patterns):,} patterns of {letters:,} characters are too many; the limit is {MOST:,} of "
            f"{MOST_LETTERS:,}. Name folders instead of files, or use * to match several names"
        )
    if long := next((pattern for pattern in patterns if len(pattern) > LONGEST), None):
        raise PatternError(f"{long[:20]!r}... has {len(long):,} characters; a pattern may have {LONGEST:,}")


def composed(text: str) -> str:
    """The text in Unicode's composed form, NFC."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def within(pattern: str) -> re.Pattern[str]:
    """A regular expression for the full, composed paths of the files that a pattern selects: those that it matches, and
    all files in a folder that it names without a wildcard in its last part. Raises PatternError."""
    check_size([pattern])
    if re.fullmatch(_UP, pattern):
        raise PatternError(f"{pattern!r} leads out of the folder. Give a path in it, such as drafts/ or 2019/*.jpg")
    name = pattern.rstrip("/")
    has_folder = name != pattern or not re.search(_WILD, name.rpartition("/")[2])
    below = f"|{_checked(name + '/')}.*" if has_folder else ""
    return re.compile(("(?!)" if name != pattern else _checked(pattern)) + below, re.S)


def literal_folder(pattern: str) -> str:
    """A folder that contains every file that a pattern selects, by its exact path; "" if the pattern gives none."""
    found = re.match(_LITERAL, _tidy(pattern))
    return found[1] if found else ""


def inside(folder: str) -> tuple[str, list[Any]]:
    """SQL for the `files` in a folder, at any depth, and its parameters; for all files if `folder` is ""."""
    if not folder:
        return "1", []
    values: list[Any] = [os.fsencode(f"{folder}/"), os.fsencode(f"{folder}0")]  # "0" is the character after "/"
    return "files.path >= CAST(? AS TEXT) AND files.path < CAST(? AS TEXT)", values


def fits(path: bytes, start: int, pattern: bytes) -> bool:
    """Whether a file's path, without its first `start` bytes, matches `within(pattern)`. An SQL function."""
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
        raise PatternError(f"{pattern!r} is no pattern: {error.msg}. Write one such as *.gif or a[0-9]/") from None
    return expression


def _expression(pattern: str) -> str:
    """A regular expression for one pattern; a folder's path ends with a slash.

    It never backtracks into a matched part. Between two `**`, the first match is as good as any later one, and so is
    the first match of a part between two `*` with no slash between them.
    """
    name = _tidy(pattern).rstrip("/")
    pieces = re.findall(_TOKENS, re.sub(r"(?<![^/])(\*\*/)+", _FOLDERS, name.removeprefix("./").lstrip("/")))
    dot = len(pieces) - 1 - pieces[::-1].index(".") if "." in pieces else len(pieces)
    if "/" in "".join(pieces[dot:]) or not dot:  # .jpg is the whole name of a hidden file
        dot = len(pieces)
    fixed = [piece if piece in (_FOLDERS, _ANY, _SOME) else _fixed(piece) for piece in pieces]
    fixed[dot:] = [piece if piece in (_ANY, _SOME) else f"(?i:{piece})" for piece in fixed[dot:]]
    *first, last = _groups(fixed if "/" in name else [_FOLDERS, *fixed])
    before = "".join(f"(?>{_group(*group, is_last=False)})" for group in first)
    return before + _group(*last, is_last=True) + ("/" if pattern[-1:] == "/" else "/?")


def _groups(pieces: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Splits the pieces at `**`: for each group its leading wildcard and its parts, which a `*` separates."""
    groups: list[tuple[str, list[str]]] = [("", [""])]
    for piece in pieces:
        lead, parts = groups[-1]
        if piece in (_FOLDERS, _ANY):
            if parts == [""]:  # of two adjacent wildcards, the wider one wins
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
    """Matches each part at its first position, except for the pattern's last part, which ends the path."""
    expression = _BELOW if lead else ""
    for at, part in enumerate(parts):
        gap = "[^/]*" if at or lead == _ANY else ""
        if is_last and at == len(parts) - 1:
            return expression + (".*" if lead == _ANY and parts == [""] else gap + part)
        expression += f"(?>{gap}?{part})" if gap else part
    return expression


def _tidy(pattern: str) -> str:
    """Turns a//b and a/./b into a/b."""
    return re.sub(r"(?<=/)(?:\.?/)+", "", pattern)


def _fixed(token: str) -> str:
    """The regular expression of a token that matches one character."""
    if token[0] == "\\" and len(token) == 2:
        return re.escape(token[1])
    if len(token) > 2 and token[0] == "[":
        inverted = token[1] in "!^"
        inside = re.sub(r"[\\\[\]^&~|]", r"\\\g<0>", token[1 + inverted : -1])
        return f"[^/{inside}]" if inverted else f"(?!/)[{inside}]"
    return "[^/]" if token == "?" else re.escape(token)
