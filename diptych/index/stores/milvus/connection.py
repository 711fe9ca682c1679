"""A connection to Milvus: opened at its first use, bound in time, opened again if it was lost, silent in logs."""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from diptych.errors import IndexBusyError, IndexDirectoryError, StoreError, StoreLostError
from diptych.extras import require
from diptych.index.stores.milvus import lite
from diptych.index.stores.milvus.address import MilvusAddress
from diptych.index.stores.milvus.errors import store_error

if TYPE_CHECKING:
    from pymilvus import MilvusClient

    from diptych.index.stores.uri import StoreURI

T = TypeVar("T")
_LOGGERS = ("pymilvus", "pymilvus.milvus_client", "pymilvus.bulk_writer")  # those with handlers of their own
_TEMPLATES, _INFIX, _HALF = (2, 5), (2, 4), (2, 4)  # the versions of servers that have them
_MOST_ROWS = 16_384  # that a server finds at once
# pymilvus asks an idle server every ten seconds whether it is there, for which Milvus Lite ends the connection
_NO_PINGS = {"grpc.keepalive_time_ms": (1 << 31) - 1, "grpc.keepalive_permit_without_calls": 0}

_quiet = threading.local()
_importing = threading.Lock()


class Connection:
    """One client of the Milvus that a URI names. Threads may share it. No call takes longer than `timeout_s`, except
    where its caller says so. Raises StoreError and its kinds; IndexDirectoryError where there is no such file, unless
    it is to be made."""

    def __init__(self, uri: StoreURI, timeout_s: float):
        require("milvus://", "pymilvus")
        self.address = MilvusAddress.of(uri)
        self.name, self.timeout_s = str(uri), timeout_s
        self._secrets = uri.secrets | ({self.address.token} - {""})
        self.epoch = 0  # counts how often it was closed or lost: the server may be another one then
        self._guard = threading.RLock()
        self._client: MilvusClient | None = None
        self._lite: lite.LiteServer | None = None
        self._version: tuple[int, ...] | None = None

    # --- what this Milvus can do

    @property
    def is_lite(self) -> bool:
        """Whether it is Milvus Lite, which needs no index and knows no limit to the rows that it finds."""
        return bool(self.address.file)

    @property
    def version(self) -> tuple[int, ...]:
        """Of the server, such as (2, 3, 5)."""
        if self._version is None:
            self._version = tuple(map(int, re.findall(r"\d+", self.call("get_server_version"))[:3]))
        return self._version

    @property
    def has_templates(self) -> bool:
        """Whether it takes expressions and their values apart."""
        return not self.is_lite and self.version >= _TEMPLATES

    @property
    def has_infix(self) -> bool:
        """Whether it finds a text inside another."""
        return self.is_lite or self.version >= _INFIX

    @property
    def has_half(self) -> bool:
        """Whether it has vectors of float16, and indexes of them."""
        return not self.is_lite and self.version >= _HALF

    @property
    def most_rows(self) -> int:
        """The most rows that one search or query finds."""
        return 1 << 62 if self.is_lite else _MOST_ROWS

    # --- results that hold until something changes

    def kept(self, key: object) -> Any:
        """A result that still holds; None if none is known. Only of Milvus Lite, which no other process can change."""
        return self._lite.kept(key) if self._lite else None

    def keep(self, key: object, result: Any) -> None:
        """Remember a result for `kept`."""
        if self._lite:
            self._lite.keep(key, result)

    def forget(self) -> None:
        """Something has changed."""
        if self._lite:
            self._lite.forget()

    # --- calls

    def call(
        self,
        method: str,
        *args: Any,
        make: bool = False,
        again: bool = True,
        timeout_s: float | None = None,
        **more: Any,
    ) -> Any:
        """Call a method of pymilvus's client. If the connection is lost and `again`, once more. `make` makes the file
        of Milvus Lite if there is none."""

        def work(client: MilvusClient, left_s: float) -> Any:
            return getattr(client, method)(*args, timeout=left_s, **more)

        return self.run(work, make=make, again=again, timeout_s=timeout_s)

    def run(
        self,
        work: Callable[[MilvusClient, float], T],
        *,
        make: bool = False,
        again: bool = True,
        timeout_s: float | None = None,
    ) -> T:
        """The result of some work with the client, which gets the seconds that are left; otherwise as `call`."""
        limit = timeout_s or self.timeout_s
        deadline = time.monotonic() + limit
        for attempt in range(2):
            try:
                with _silently(), self._turn(make, deadline) as client:
                    return work(client, max(deadline - time.monotonic(), 0.01))
            except Exception as error:
                failure = store_error(error, self.name, self._secrets, limit)
                if not isinstance(failure, StoreLostError):
                    raise failure from None
                self._drop()
                if attempt or not again or time.monotonic() >= deadline:
                    raise failure from None
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close it; the next call opens it again."""
        with self._guard:
            self._drop()
            server, self._lite = self._lite, None
        if server:
            del server.on_stop[id(self)]
            lite.release(server)

    @contextmanager
    def _turn(self, make: bool, deadline: float) -> Iterator[MilvusClient]:
        with self._guard:
            client = self._client or self._opened(make, deadline)
            turn = self._lite.turn if self._lite else None
        if turn is None:
            yield client
            return
        if not turn.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise IndexBusyError(f"another thread keeps {self.name} busy. Try again when it has finished.")
        try:
            yield client
        finally:
            turn.release()

    def _drop(self) -> None:
        with self._guard:
            client, self._client = self._client, None
            self.epoch += 1
        if client is not None:
            with _silently():
                client.close()

    def _opened(self, make: bool, deadline: float) -> MilvusClient:
        milvus_client = _imported()
        more: dict[str, Any]
        if self.is_lite:
            if self._lite is None:
                self._lite = lite.acquire(self.address.file, make=make)
            if self._lite is None:
                raise IndexDirectoryError(f"{self.name}: there is no such file; copy an index there first.")
            self._lite.on_stop[id(self)] = self._drop
            uri, more = self._lite.uri, {"grpc_options": _NO_PINGS}
        else:
            uri, more = self._checked_uri(deadline), self._credentials()
        left_s = max(deadline - time.monotonic(), 0.01)
        self._client = milvus_client(uri, timeout=left_s, dedicated=True, **more)
        return self._client

    def _credentials(self) -> dict[str, Any]:
        return {"token": self.address.token, "db_name": self.address.database}

    def _checked_uri(self, deadline: float) -> str:
        """The URI for pymilvus, without a password. Where nothing listens, pymilvus would wait for its whole time."""
        address = self.address
        try:
            socket.create_connection((address.host, address.port), max(deadline - time.monotonic(), 0.01)).close()
        except OSError as error:
            raise StoreError(
                f"{self.name}: nothing answers at {address} ({error.strerror or error}).",
                remedy="Start the server, or correct the address.",
            ) from None
        host = f"[{address.host}]" if ":" in address.host else address.host
        return f"{'https' if address.secure else 'http'}://{host}:{address.port}"


class _SilentFilter(logging.Filter):
    """Leaves out what is logged while this module calls pymilvus: it is raised as an error, without passwords."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(_quiet, "depth", 0)


@contextmanager
def _silently() -> Iterator[None]:
    _quiet.depth = getattr(_quiet, "depth", 0) + 1
    try:
        yield
    finally:
        _quiet.depth -= 1


def _imported() -> type[MilvusClient]:
    """pymilvus's client. Its import would read a file .env of any folder above it into this process's environment, and
    adds handlers that print each failed call. gRPC itself would print that a connection ends."""
    with _importing:
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        before = os.environ.get("PYTHON_DOTENV_DISABLED")
        os.environ["PYTHON_DOTENV_DISABLED"] = "1"
        try:
            from pymilvus import MilvusClient
        finally:
            if before is None:
                del os.environ["PYTHON_DOTENV_DISABLED"]
            else:
                os.environ["PYTHON_DOTENV_DISABLED"] = before
        for handler in (handler for name in _LOGGERS for handler in logging.getLogger(name).handlers):
            if not any(isinstance(one, _SilentFilter) for one in handler.filters):
                handler.addFilter(_SilentFilter())
    return MilvusClient
