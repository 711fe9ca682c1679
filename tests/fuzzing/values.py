"""Values that somebody else may have written, of every type, and changes to bytes and to JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

MARK = "unescaped"  # stands in whatever would do something in a terminal
DOING = (f"\x1b]0;{MARK}\x07", f"\x9b2J{MARK}", f"\u202e{MARK}\u2066", f"\x1b[2J\r{MARK}", f"a\x08\n{MARK}\x00b")
NUMBERS: tuple[Any, ...] = (
    0, -1, 1, 2, 7, 255, 2**31, -(2**31), 2**53 + 1, 2**63 - 1, -(2**63), 10**30, 10**400, 0.5, -0.0, 1e308, -1e308,
    5e-324, float("nan"), float("inf"), float("-inf"), True, False,
)  # fmt: skip
TEXTS = (
    "", " ", "0", "-1", "1e999", "NaN", "null", "a" * 100_000, "..", "../..", "../precious/notes.txt", "/dev/zero",
    "/dev/stdin", "//", "C:\\x", "~", "$HOME", "a\0b", "\ud800", "\u0130\ufb03\u1e9e", "0" * 5000, "[" * 100_000,
    '{"a":' * 20_000, "http://127.0.0.1:9/a.tar", "someone/model", "file:///etc/hostname", "*" * 40 + "b", "a{" * 50,
    "(a+)+$", "%s%n{0}{0.__class__}", "<script>", *DOING,
)  # fmt: skip


def outside(precious: str, choice: Random) -> str:
    """A path of a file outside, in one of the ways to say it."""
    return choice.choice((f"{precious}/notes.txt", f"{precious}/secret.png", "../precious/notes.txt", "../../precious"))


def number(choice: Random) -> Any:
    """A number, mostly one at an edge."""
    return choice.choice(NUMBERS) if choice.random() < 0.8 else choice.randrange(-(2**70), 2**70)


def text(choice: Random) -> str:
    """A text that means something to somebody."""
    return choice.choice(TEXTS)


def as_text(choice: Random) -> bytes:
    """The same as the bytes of a file; halves of characters as other programs write them."""
    return text(choice).encode("utf-8", "surrogatepass")


def deep(choice: Random) -> Any:
    """Lists or objects inside each other, as deep as Python's own writer goes."""
    value: Any = 1
    for _ in range(choice.choice((3, 50, 300))):
        value = [value] if choice.random() < 0.5 else {"a": value}
    return value


def anything(choice: Random) -> Any:
    """A value of any type that JSON has."""
    kind = choice.randrange(8)
    if kind < 2:
        return number(choice)
    if kind < 5:
        return text(choice)
    return choice.choice((None, [], {}, [None] * 1000, {"": {}}, [[1, 2], "a", {"b": None}], deep(choice)))


def damaged(content: bytes, choice: Random) -> bytes:
    """The bytes of a file with a few of them changed, cut, doubled, moved or replaced by noise.

    The number of draws depends on the length of the content, and a file's length can differ by a digit between runs. So
    they come from a generator of their own, and the changes after this one are the same in every run.
    """
    choice = Random(choice.random())
    way = choice.randrange(8)
    if way == 0 or not content:
        return b"" if choice.random() < 0.3 else choice.randbytes(choice.randrange(1, 2000))
    if way == 1:
        return content[: choice.randrange(len(content))]
    if way == 2:
        return content + choice.randbytes(choice.randrange(1, 600))
    if way == 3:
        start, end = sorted(choice.randrange(len(content) + 1) for _ in range(2))
        return content[:start] + content[start:end] * choice.choice((0, 2)) + content[end:]
    return _with_other_bytes(content, choice)


def _with_other_bytes(content: bytes, choice: Random) -> bytes:
    out = bytearray(content)
    first = choice.choice((0, 0, choice.randrange(len(out)), max(0, len(out) - 200)))
    for _ in range(choice.choice((1, 1, 2, 8, 40))):
        at = min(first + choice.randrange(choice.choice((16, 200, len(out)))), len(out) - 1)
        out[at] = choice.choice((choice.randrange(256), out[at] ^ 1 << choice.randrange(8), 0, 255))
    return bytes(out)


def json_with_changes(value: Any, choice: Random, *, most: int = 3) -> tuple[Any, list[str]]:
    """A copy of a value as JSON has it with a few of its parts changed, and what was changed."""
    value, told = json.loads(json.dumps(value)), []
    for _ in range(choice.randrange(1, most + 1)):
        places = list(_places(value))
        if not places:
            return anything(choice), ["all of it"]
        owner, key = choice.choice(places)
        told.append(_changed_at(owner, key, choice))
    return value, told


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (owner, key) inside; of long lists the first."""
    if isinstance(value, dict):
        inside: Any = list(value.items())
    else:
        inside = list(enumerate(value[:50])) if isinstance(value, list) else []
    for key, each in inside:
        yield value, key
        yield from _places(each)


def _changed_at(owner: Any, key: Any, choice: Random) -> str:
    """Change one part in place: what was done, in words."""
    before, way = owner[key], choice.randrange(7)
    if way == 0:
        del owner[key]
        return f"{key!r} is gone"
    if way == 1 and isinstance(owner, dict):
        new = text(choice)
        owner[new] = owner.pop(key)
        return f"{key!r} is called {new[:40]!r}"
    if way == 2 and isinstance(before, int | float):
        owner[key] = choice.choice((before + 1, before - 1, -before, before * 1000, before * 10**9, str(before)))
    elif way == 3:
        owner[key] = choice.choice(([before], {"a": before}, str(before), [before] * 1000))
    else:
        owner[key] = anything(choice)
    return f"{key!r} is {_shortly(owner[key])}"


def _shortly(value: Any) -> str:
    try:
        said = repr(value)
    except (RecursionError, ValueError):  # deep, or of more digits than Python spells out
        return "too much to say"
    return said if len(said) < 60 else f"{said[:50]}... ({len(said)} characters)"
