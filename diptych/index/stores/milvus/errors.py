"""What pymilvus raises, in words: what came, what was wanted, what to do next; without passwords."""

from __future__ import annotations

from collections.abc import Iterator

from diptych.errors import DiptychError, IndexDirectoryError, StoreError, StoreLostError
from diptych.index.stores.uri import hidden

_LONGEST = 300  # characters of a server's message
_NOT_FOUND = (4, 100)  # codes of a collection that does not exist: former and present ones
_FULL = ("no space left", "disk quota", "disk full", "not enough disk", "memory quota", "quota exceeded")
_REFUSED = ("unauthenticated", "permission_denied", "auth check failure", "permission deny", "privilege")
_LOST = (
    "unavailable",
    "connection refused",
    "closed channel",
    "fail connecting",
    "server unavailable",
    "socket closed",
)
_SLOW = ("deadline_exceeded", "deadline exceeded", "timeout", "timed out")


def store_error(error: BaseException, name: str, secrets: frozenset[str], timeout_s: float) -> DiptychError:
    """The error to raise for one of pymilvus."""
    if isinstance(error, DiptychError):
        return error
    text = " ".join(_texts(error)).lower()
    said = hidden(_message(error), secrets)
    if getattr(error, "code", None) in _NOT_FOUND or "collection not found" in text or "can't find collection" in text:
        return IndexDirectoryError(f"{name} has no such collection; copy an index there first.")
    if any(one in text for one in _REFUSED):
        return StoreError(f"{name} refused the user name, password or token.", remedy="Correct them in the URI.")
    if any(one in text for one in _FULL):
        return StoreError(f"{name} has no room left: {said}.", remedy="Make room there, then start again.")
    if any(one in text for one in _SLOW):
        return StoreError(
            f"{name} did not answer within {timeout_s:g} s.", remedy="Try again, or look at what keeps it busy."
        )
    if any(one in text for one in _LOST):
        return StoreLostError(
            f"{name} does not answer: {said}.", remedy="Start the server, or correct the address, then try again."
        )
    return StoreError(f"{name} failed: {said}.", remedy="Its log says more.")


def _message(error: BaseException) -> str:
    """What an error says, on one line and not too long."""
    text = getattr(error, "message", None) or _details(error) or str(error) or type(error).__name__
    text = " ".join(str(text).split()).rstrip(".")
    return text if len(text) <= _LONGEST else text[:_LONGEST] + ".."


def _details(error: BaseException) -> str:
    return str(error.details() or "") if callable(getattr(error, "details", None)) else ""  # type: ignore[attr-defined]


def _texts(error: BaseException) -> Iterator[str]:
    """The words of an error and of what caused it. pymilvus raises errors from themselves, so causes run in circles."""
    seen = set[int]()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        code = getattr(one, "code", "")
        yield f"{type(one).__name__} {code() if callable(code) else code} {_details(one)} {one}"
        waiting += [one.__cause__, one.__context__]
