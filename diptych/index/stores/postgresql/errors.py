"""What PostgreSQL and its client say, as errors of this library that show no password."""

from __future__ import annotations

import psycopg

from diptych.errors import IndexBusyError, IndexDirectoryError, SearchIndexError, StoreError, StoreLostError
from diptych.index.stores.uri import hidden

_LONGEST = 300  # characters of a server's message
# SQLSTATE -> what to do
_REMEDIES = {
    "42501": "Ask the owner of the database for the permission, or name another user in the address.",
    "53100": "The server's disk is full. Nothing of this step was stored; make room there and start again.",
    "53200": "The server is out of memory. Try again, or lower its maintenance_work_mem.",
    "53300": "The server has too many connections. Close some, or raise its max_connections.",
    "25006": "The server is read-only, such as a standby; name the one that takes writes.",
    "57P01": "The server was shut down, or an administrator ended the connection. Try again when it is up.",
    "57P02": "The server crashed and starts again. Try again when it is up.",
    "57P03": "The server is starting or stopping. Try again when it is up.",
    "22000": "The table's vectors have another number of dimensions than the index says; was it changed by hand?",
    "42704": "Is pgvector still in the database? An administrator may run: CREATE EXTENSION vector;",
    "42703": "Diptych did not make the tables of that name, or not this version; name another index after the #.",
}  # fmt: skip
CONFLICTS = frozenset(("40001", "40P01", "23505"))  # what ends well if it is done again
_BUSY = CONFLICTS | {"55P03"}
_MISSING = frozenset(("42P01", "3F000"))
_REFUSED = "Check the user, the password (or PGPASSWORD) and the database in the address."
_UNREACHABLE = "Is the server up, and does the address name its host and port?"
_ANSWERED = ("FATAL", "password")  # psycopg gives no SQLSTATE here, and the server may speak any language


def store_error(error: psycopg.Error, name: str, secrets: frozenset[str], *, connecting: bool) -> SearchIndexError:
    """The error of this library for one of psycopg's. `name` is the address without secrets; `secrets` become stars in
    what the server says."""
    state, said = error.sqlstate, _said(error, secrets)
    if state in _MISSING:
        return no_index(name)
    if state in _BUSY:
        return IndexBusyError(f"{name} was changed by another process at the same time ({said}). Try again.")
    if connecting:
        is_answered = any(word in said for word in _ANSWERED)
        if is_answered:
            return StoreError(f"{name} refused the connection: {said}.", remedy=_REFUSED)
        return StoreLostError(f"{name} cannot be reached: {said}.", remedy=_UNREACHABLE)
    if state is None:
        return StoreLostError(
            f"the connection to {name} was lost: {said}.",
            remedy="Nothing is half-written. Try again when the server is up.",
        )
    return StoreError(f"{name} failed: {said} (SQLSTATE {state}).", remedy=_REMEDIES.get(state, ""))


def no_index(name: str) -> IndexDirectoryError:
    """The error for a store that nobody has made yet."""
    return IndexDirectoryError(f"{name} has no index yet.", remedy="Copy one there, or check the name after the #.")


def too_slow(name: str, seconds: float) -> StoreError:
    """The error for an answer that did not come within the time limit."""
    return StoreError(
        f"{name} gave no answer within {seconds:g} seconds.",
        remedy="Is the server busy or its table large without an index of vectors? Its `prepare` builds one.",
    )


def _said(error: psycopg.Error, secrets: frozenset[str]) -> str:
    """The server's message in one line, without secrets."""
    text = error.diag.message_primary or str(error) or type(error).__name__
    lines = dict.fromkeys(line.strip().removeprefix("connection failed: ") for line in text.splitlines())
    return hidden(" ".join(" ".join(lines).split()), secrets)[:_LONGEST].rstrip(".")
