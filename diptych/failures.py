"""What is said of an input that cannot be used; the others go on without it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from diptych.errors import DiptychError, Words, worded


class TextError(DiptychError, ValueError):
    """A text that cannot be embedded: empty, too long, or no text."""


class Failure(NamedTuple):
    """What stands in a stream in place of a vector: a short countable `reason`, and the whole message. `words` is the
    message with the arguments that it names, where it names any."""

    reason: str
    message: str
    words: Words = ""

    @classmethod
    def of(cls, reason: str, words: Words) -> Failure:
        """A failure whose message names arguments."""
        return cls(reason, worded(words), words)


def bad_texts(texts: Sequence[object]) -> dict[int, Failure]:
    """What is wrong with those texts that cannot be embedded, by their places."""
    return {at: failure for at, text in enumerate(texts) if (failure := _bad_text(text, at))}


def _bad_text(text: object, at: int) -> Failure | None:
    if not isinstance(text, str):
        return Failure("no text", f"text {at} is a {type(text).__name__}; wanted a string.")
    if not text.strip():
        return Failure("empty", f"text {at} is empty; wanted at least a word.")
    try:
        text.encode()
    except UnicodeEncodeError:  # half a character: what Python makes of a command line's or file name's stray bytes
        return Failure("not Unicode", f"text {at} ({text[:40]!r}) holds bytes that are no text; wanted Unicode.")
    return None


def check_list(items: object, what: str) -> None:
    """One picture or text in place of a list of them is taken for a mistake, not for its letters, bytes or rows:
    raises TypeError."""
    is_pixels = isinstance(items, np.ndarray) and items.dtype.kind not in "OU" and items.ndim != 4
    is_one = isinstance(items, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(items, "read")
    if is_one or is_pixels or not isinstance(items, Iterable):
        shown = f": [{str(items)[:40]!r}]" if isinstance(items, (str, os.PathLike)) else ""
        raise TypeError(f"{what} came as one {type(items).__name__}; pass a list{shown}.")


def listed(items: Iterable[Any], what: str) -> list[Any]:
    """A list of them, checked by `check_list`."""
    check_list(items, what)
    return list(items)
