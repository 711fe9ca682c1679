"""A path's pattern as a regular expression of PostgreSQL that matches the same composed paths.

`diptych.media.scanning.path_patterns.within` gives Python's. PostgreSQL's needs neither its possessive nor its lazy
repetition, because it never backtracks, and lacks its case-insensitive groups: these become classes of the characters
that Python takes as the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from diptych.media.scanning.path_patterns import within

_CLASS = r"(?:\(\?!/\))?\[\^?(?:\\.|[^\]\\])*\]"
_TOKEN = re.compile(rf"(?s)\(\?i:(?P<same>\\.|{_CLASS}|.)\)|(?P<set>{_CLASS})|(?P<other>\(\?!\)|\(\?[>:]|\*[+?]|\\.|.)")
_OTHERS = {"(?!)": "(?=a)b", "(?>": "(?:", "*+": "*", "*?": "*"}
_LAST = 0x10FFFF
_FEW_CASED = "".join(map(chr, range(65, 91))).lower() + "".join(map(chr, range(65, 91))) + "İıſK"
Ranges = list[tuple[int, int]]


def path_regex(pattern: str) -> str:
    """The regular expression of PostgreSQL for `within(pattern)`. Raises PatternError."""
    return f"^(?:{''.join(map(_translated, _TOKEN.finditer(within(pattern).pattern)))})$"


def _translated(found: re.Match[str]) -> str:
    if found["other"]:
        return _OTHERS.get(found["other"], found["other"])
    piece = found["set"] or found["same"]
    if found["same"] and len(piece) <= 2 and piece != ".":
        return _one_of(piece, _same(f"(?i:{piece})", piece[-1]))
    return _class(piece, ignores_case=bool(found["same"]))


def _one_of(piece: str, same: str) -> str:
    return f"[{''.join(map(_escaped, same))}]" if len(same) > 1 else piece


def _same(expression: str, letter: str) -> str:
    """The characters that a case-insensitive expression of one character matches."""
    cased = _FEW_CASED if letter.isascii() else _cased()
    return "".join(sorted({letter, *re.findall(expression, cased)}))


@lru_cache(maxsize=1)
def _cased() -> str:
    """All characters with a capital or a small form."""
    every = map(chr, range(_LAST + 1))
    return "".join(one for one in every if one.lower() != one or one.upper() != one)


def _class(piece: str, *, ignores_case: bool) -> str:
    """A class of characters; none matches a slash."""
    body = piece.removeprefix("(?!/)")[1:-1]
    inverted = body.startswith("^")
    ranges = [*_ranges(body[inverted:])]
    if ignores_case:
        matched = set(re.findall(f"(?i:{piece})", _cased()))
        ranges += [(ord(one), ord(one)) for one in _cased() if (one in matched) != inverted]
    if inverted:
        return f"[^{_listed([*ranges, (47, 47)])}]"
    return f"[{listed}]" if (listed := _listed([*_without_slash(ranges)])) else _OTHERS["(?!)"]


def _ranges(body: str) -> Iterator[tuple[int, int]]:
    """The ranges of characters in a class of Python's."""
    items = re.findall(r"(?s)\\.|.", body)
    at = 0
    while at < len(items):
        first = last = ord(items[at][-1])
        at += 1
        if items[at : at + 1] == ["-"] and at + 1 < len(items):
            last = ord(items[at + 1][-1])
            at += 2
        yield first, last


def _without_slash(ranges: Ranges) -> Iterator[tuple[int, int]]:
    for first, last in ranges:
        if first <= 47 <= last:
            yield from ((low, high) for low, high in ((first, 46), (48, last)) if low <= high)
        else:
            yield first, last


def _listed(ranges: Ranges) -> str:
    """Ranges as PostgreSQL writes them, joined where they touch."""
    joined: list[list[int]] = []
    for first, last in sorted((max(first, 1), last) for first, last in ranges if last):
        if joined and first <= joined[-1][1] + 1:
            joined[-1][1] = max(joined[-1][1], last)
        else:
            joined.append([first, last])
    return "".join(_escaped(chr(first)) + (f"-{_escaped(chr(last))}" if last > first else "") for first, last in joined)


def _escaped(character: str) -> str:
    """A character of a class; PostgreSQL knows letters and digits after a backslash as something else."""
    return character if character.isalnum() or not character.isascii() else f"\\{character}"
