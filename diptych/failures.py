"""What is said of an input that cannot be used; the others go on without it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np

from diptych.errors import ArgumentTypeError, MessageParts, format_message

if TYPE_CHECKING:
    from jaxtyping import Float


Key = TypeVar("Key")


class Failure(NamedTuple):
    """What stands in a stream in place of a vector: a short countable `reason`, and the whole message. `words` is the
    message with the arguments that it names, where it names any."""

    reason: str
    message: str
    words: MessageParts = ""

    @classmethod
    def of(cls, reason: str, words: MessageParts) -> Failure:
        """A failure whose message names arguments."""
        return cls(reason, format_message(words), words)


class EmbeddingResult(NamedTuple, Generic[Key]):
    """The vectors of the inputs that could be read, with their keys, in order; and why each other could not be read."""

    keys: list[Key]
    vectors: Float[np.ndarray, "inputs dim"]
    failures: dict[Key, Failure]


def invalid_texts(texts: Sequence[object]) -> dict[int, Failure]:
    """What is wrong with those texts that cannot be embedded, by their places."""
    return {at: failure for at, text in enumerate(texts) if (failure := _bad_text(text, at))}


def _bad_text(text: object, at: int) -> Failure | None:
    if isinstance(text, str) and not text.strip():
        return Failure("empty", f"text {at} is empty; wanted at least a word.")
    return no_text(text, at)


def no_text(text: object, at: int) -> Failure | None:
    """What is wrong with it where it is no text; an empty one is."""
    if not isinstance(text, str):
        return Failure("no text", f"text {at} is a {type(text).__name__}; wanted a string.")
    try:
        text.encode()
    except UnicodeEncodeError:  # half a character: what Python makes of a command line's or file name's stray bytes
        return Failure("not Unicode", f"text {at} ({text[:40]!r}) holds bytes that are no text; wanted Unicode.")
    return None


def listed(items: object, what: str) -> list[Any]:
    """Pictures or texts as a list: one of them is a list of one, and neither its letters, bytes nor rows are taken for
    several. Raises ArgumentTypeError for what is neither."""
    return [items] if is_one(items) else list(several(items, what))


def several(items: object, what: str) -> Iterable[Any]:
    """`listed` for what may be long: nothing is gathered."""
    if isinstance(items, np.ndarray) and items.ndim == 0 and items.dtype.kind in "OUS":
        return [items.item()]
    if is_one(items):
        return [items]
    if not isinstance(items, Iterable) or getattr(items, "ndim", 1) == 0:  # an array without axes iterates over nothing
        raise ArgumentTypeError(f"{what} came as {type(items).__name__}; pass one, or a list of them.", argument=what)
    return items


def is_one(items: object) -> bool:
    """Whether this is one picture or text: a string, path, bytes, open file, PIL picture, or an array or tensor with
    fewer than four axes whose elements are numbers."""
    if isinstance(items, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(items, "read"):
        return True
    if isinstance(items, np.ndarray) and items.dtype.kind in "OUS":
        return False
    axes = getattr(items, "ndim", None)  # arrays, and tensors without importing what they are of
    return (isinstance(axes, int) and 1 < axes < 4) or hasattr(items, "getbands")
