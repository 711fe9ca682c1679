"""A connection that is opened when it is needed, waits for no answer longer than it may, and shows no password."""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict

from diptych.errors import ArgumentError
from diptych.index.stores.postgresql.errors import CONFLICTS, store_error, too_slow
from diptych.index.stores.uri import StoreURI

Result = TypeVar("Result")
Connection = psycopg.Connection[Any]
_TRIES = 4  # of a transaction that another one got in the way of
_GRACE_S = 1.0  # after which the client gives up on a server that does not end the statement itself
_EXTENSION = (
    "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = 'vector'"
)
_UNLIMITED = (
    "SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN ('statement_timeout', 'idle_session_timeout')"
)
_left_to_parents: list[Connection] = []  # closing one in a child process would end the parent's


class Database:
    """Runs transactions on one connection. Threads may share it: one waits for the other.

    Every transaction here can be repeated without harm. It is, once, where the connection was lost, and up to three
    times where another transaction was in its way.
    """

    def __init__(self, uri: StoreURI, timeout_s: float):
        self.name, self.timeout_s = str(uri), timeout_s
        password = os.environ.get("PGPASSWORD")
        self._secrets = uri.secrets | ({password} if password else frozenset())
        self._parameters = _parameters(uri, timeout_s)
        self._connection: Connection | None = None
        self._process, self._lock = os.getpid(), threading.RLock()
        log = logging.getLogger("psycopg")
        if not log.handlers:  # what it warns of is raised, too, and Python would print it
            log.addHandler(logging.NullHandler())

    def close(self) -> None:
        """Close the connection; the next transaction opens one."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is None:
                return
            if self._process == os.getpid():
                connection.close()
            else:
                _left_to_parents.append(connection)

    def run(self, work: Callable[[Connection], Result], *, limit_s: float | None = None) -> Result:
        """What `work` returns, in a transaction of its own. `limit_s` is the time for all of it, once no other thread
        uses the connection; by default `timeout_s`. Raises StoreError and the other errors of
        `diptych.index.stores.postgresql.errors`."""
        limit_s = limit_s or self.timeout_s
        with self._lock:
            end = time.monotonic() + limit_s
            for tried in range(1, _TRIES + 1):
                connecting, cut = True, threading.Event()
                try:
                    connection = self._opened()
                    connecting = False
                    with _ended_at(connection, end + _GRACE_S, cut), connection.transaction():
                        return work(connection)
                except psycopg.Error as error:
                    is_lost = connecting or connection.closed
                    if is_lost:
                        self.close()
                    if cut.is_set() or error.sqlstate == "57014" or isinstance(error, psycopg.errors.ConnectionTimeout):
                        raise too_slow(self.name, limit_s) from None
                    is_repeated = (tried == 1 and is_lost and not connecting) or error.sqlstate in CONFLICTS
                    if not is_repeated or tried == _TRIES or time.monotonic() > end:
                        raise store_error(error, self.name, self._secrets, connecting=connecting) from None
        raise AssertionError("the last try returns or raises")

    @contextmanager
    def apart(self) -> Iterator[Connection]:
        """Another connection, without a transaction and a time limit, for what takes long."""
        connecting = True
        try:
            with self._connected() as connection:
                connecting = False
                connection.execute(_UNLIMITED)
                yield connection
        except psycopg.Error as error:
            raise store_error(error, self.name, self._secrets, connecting=connecting) from None

    def _opened(self) -> Connection:
        if self._process != os.getpid():
            self.close()
            self._process = os.getpid()
        if self._connection is None:
            self._connection = self._connected()
        return self._connection

    def _connected(self) -> Connection:
        connection: Connection = psycopg.connect(**self._parameters, autocommit=True, prepare_threshold=None)
        try:
            connection.execute(
                "SELECT set_config('statement_timeout', %s, false)", [str(math.ceil(self.timeout_s * 1000))]
            )
            set_search_path(connection)
        except BaseException:
            connection.close()
            raise
        return connection


def set_search_path(connection: Connection) -> None:
    """Find pgvector's types and operators, and nothing else, by names without a schema."""
    found = connection.execute(_EXTENSION).fetchone()
    connection.execute(
        "SELECT set_config('search_path', quote_ident(%s), false)", [found[0] if found else "pg_catalog"]
    )


def _parameters(uri: StoreURI, timeout_s: float) -> dict[str, Any]:
    """Those of the address, over our own. libpq's message about a bad address may quote the password."""
    try:
        given = conninfo_to_dict(uri.address)
    except psycopg.Error:
        raise ArgumentError(
            f"{uri} is not an address that PostgreSQL's client understands; wanted "
            "postgresql://user:password@host:port/database, with % and two digits for special characters."
        ) from None
    seconds = max(2, math.ceil(timeout_s))
    ours = {
        "application_name": "diptych", "connect_timeout": seconds, "keepalives": 1, "keepalives_idle": seconds,
        "keepalives_interval": max(1, seconds // 3), "keepalives_count": 3, "tcp_user_timeout": seconds * 1000,
    }  # fmt: skip
    return {**ours, **given, "client_encoding": "UTF8"}


@contextmanager
def _ended_at(connection: Connection, end: float, cut: threading.Event) -> Iterator[None]:
    """Ends the connection at a time of the clock and notes that in `cut`: a frozen server keeps no time limit."""

    def end_it() -> None:
        cut.set()
        with suppress(OSError), socket.socket(fileno=os.dup(connection.pgconn.socket)) as shared:
            shared.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, end - time.monotonic()), end_it)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def check_timeout(timeout_s: float) -> None:
    """Raises ArgumentError unless it is a time that can be waited."""
    if not 0 < timeout_s < 1e6:
        raise ArgumentError(f"timeout_s is {timeout_s!r}; wanted seconds, more than 0.", argument="timeout_s")
