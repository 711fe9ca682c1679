"""What is said of an input that cannot be used; the others go on without it."""

from collections.abc import Sequence
from typing import NamedTuple


class TextError(ValueError):
    """A text that cannot be embedded: empty, too long, or no text."""


class Failure(NamedTuple):
    """What stands in a stream in place of a vector: a short countable `reason`, and the whole message."""

    reason: str
    message: str


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
