"""Opens the store at an address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diptych.extras import require
from diptych.index.stores.uri import StoreURI

if TYPE_CHECKING:
    from diptych.index.stores.store import Store

TIMEOUT_S = 30.0  # for a connection, and for an answer


def open_store(uri: str, *, timeout_s: float = TIMEOUT_S) -> Store:
    """The store at an address (see `diptych.index.stores.uri`). Nothing is read or written before it is needed.

    `timeout_s` bounds the wait for a connection and for one answer. Raises ArgumentError for an address that is none,
    and MissingExtraError where the library for it is not installed.
    """
    parsed = StoreURI.parse(uri)
    if parsed.scheme == "postgresql":
        require("an index in PostgreSQL", "psycopg")
        from diptych.index.stores.postgresql.store import PostgreSQLStore

        return PostgreSQLStore(parsed, timeout_s=timeout_s)
    require("an index in Milvus", "pymilvus")
    from diptych.index.stores.milvus.store import MilvusStore

    return MilvusStore(parsed, timeout_s=timeout_s)
