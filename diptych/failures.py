"""Inputs that cannot be used. They are left out with a reason, and the other inputs are processed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np

from diptych.deprecation import RenamedAttribute, renamed_arguments
from diptych.errors import ArgumentTypeError, MessageParts, format_message

if TYPE_CHECKING:
    from jaxtyping import Float


Key = TypeVar("Key")


class Failure(NamedTuple):
    """The cause of a left-out input: a short countable `reason` and the complete `message`. `message_parts` is the
    message with references to arguments, or "" if it has none."""

    reason: str
    message: str
    message_parts: MessageParts = ""

    words = RenamedAttribute("words", "message_parts")

    @classmethod
    @renamed_arguments(words="message_parts")
    def of(cls, reason: str, message_parts: MessageParts) -> Failure:
        """A failure whose message refers to arguments."""
        return cls(reason, format_message(message_parts), message_parts)


Failure.__new__ = renamed_arguments(words="message_parts")(Failure.__new__)  # type: ignore[method-assign]


class EmbeddingResult(NamedTuple, Generic[Key]):
    """The keys and vectors of the readable inputs, in order, and the failures of the others."""

    keys: list[Key]
    vectors: Float[np.ndarray, "inputs dim"]
    failures: dict[Key, Failure]


def invalid_texts(texts: Sequence[object]) -> dict[int, Failure]:
    """The failures of the texts that cannot be embedded, by index."""
    return {index: failure for index, text in enumerate(texts) if (failure := _bad_text(text, index))}


def _bad_text(text: object, index: int) -> Failure | None:
    if isinstance(text, str) and not text.strip():
        return Failure("empty", f"text {index} is empty; expected at least one word.")
    return no_text(text, index)


def no_text(text: object, index: int) -> Failure | None:
    """The failure of an input that is not a text, or None. An empty string is a text."""
    if not isinstance(text, str):
        return Failure("no text", f"text {index} is a {type(text).__name__}; expected a string.")
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, as from stray bytes in a command line or file name
        return Failure("not Unicode", f"text {index} ({text[:40]!r}) contains invalid bytes; expected Unicode.")
    return None


def listed(items: object, argument: str) -> list[Any]:
    """Pictures or texts as a list. A single one becomes a list of one; its characters, bytes or rows are not items.
    Raises ArgumentTypeError for anything else."""
    return [items] if is_one(items) else list(several(items, argument))


def several(items: object, argument: str) -> Iterable[Any]:
    """`listed` for long iterables, which are not turned into a list."""
    if isinstance(items, np.ndarray) and items.ndim == 0 and items.dtype.kind in "OUS":
        return [items.item()]
    if is_one(items):
        return [items]
    if not isinstance(items, Iterable) or getattr(items, "ndim", 1) == 0:  # an array without axes cannot be iterated
        raise ArgumentTypeError(f"{argument} is a {type(items).__name__}; pass one item or a list.", argument=argument)
    return items


def is_one(items: object) -> bool:
    """Whether this is a single picture or text: a string, path, bytes, open file, PIL picture, or an array or tensor of
    numbers with fewer than four axes."""
    if isinstance(items, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(items, "read"):
        return True
    if isinstance(items, np.ndarray) and items.dtype.kind in "OUS":
        return False
    axes = getattr(items, "ndim", None)  # arrays, and tensors without importing torch
    return (isinstance(axes, int) and 1 < axes < 4) or hasattr(items, "getbands")
