"""One GET at a time, without redirects, under limits: HTTP/1.1 with aiohttp, HTTP/2 where an https host offers it.

The first request to an https host, which asks for its robots.txt, offers both (ALPN, RFC 7301) with httpcore2, the
connections below httpx2. A host that chose HTTP/2 is asked with it from then on, all requests over one connection;
others with aiohttp. For 25 KB over TLS on loopback aiohttp took 0.5 ms of a processor, httpcore2 1.4 with HTTP/1.1 and
2.7 with HTTP/2, which spares hosts connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import zlib
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import httpcore2
from aiohttp.abc import AbstractResolver, ResolveResult

from diptych.collect.addresses import host_of, origin_of
from diptych.collect.lists.addresses import Resolver
from diptych.collect.lists.room import Room
from diptych.errors import FetchError

CONNECT_S = 10.0
_KEPT_S = 10.0  # how long a connection without a request is kept
_SMALL = 64 << 10  # bytes of an answer that is read only so that its connection can be used again
_PEEK = 64 << 10  # bytes that aiohttp reads ahead of each connection; fewer cost more turns of the loop
_MOST_HTTP2 = 1_000  # hosts with HTTP/2 connections at a time
_MOST_KNOWN = 200_000  # hosts of which it is remembered whether they offer HTTP/2
_STREAMS = 4  # HTTP/1.1 connections to a host while it is not known to offer HTTP/2


class Undelivered(Exception):
    """No answer, or only a part of one: a short countable `reason`, and a `message`. `is_passing`: the next try may
    succeed; `is_of_host`: nothing came from the host at all."""

    def __init__(self, reason: str, message: str, *, is_passing: bool = False, is_of_host: bool = False):
        super().__init__(reason, message)
        self.reason, self.message, self.is_passing, self.is_of_host = reason, message, is_passing, is_of_host


class Answer(NamedTuple):
    """An answer: its status, its headers with names in lower case, and its body, for which room is held in
    `Transport.room`; empty for any status but 200 and for one that is `unwanted`, which says why. `version` is that
    of HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    version: str
    unwanted: str = ""


class Transport:
    """Asks hosts, under the name `agent`. Use as an asynchronous context manager."""

    def __init__(
        self, resolver: Resolver, room: Room, agent: str, *, connect_s: float = CONNECT_S,
        tls: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    ):  # fmt: skip
        """`tls` makes what checks the certificates of hosts."""
        self.room, self._resolver, self._connect_s, self._new_tls = room, resolver, connect_s, tls
        # No compression: pictures are compressed, and an answer could unpack to any size
        self._headers = {"User-Agent": agent, "Accept": "image/*,*/*;q=0.1", "Accept-Encoding": "identity"}
        self._offers: dict[str, bool] = {}  # origin -> whether it chose HTTP/2
        self._pools: dict[str, httpcore2.AsyncConnectionPool] = {}
        self._tls: ssl.SSLContext | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Transport:
        tls = self._new_tls()
        tls.set_alpn_protocols(["http/1.1"])
        connector = aiohttp.TCPConnector(
            ssl=tls, limit=0, resolver=_Checked(self._resolver), use_dns_cache=False, keepalive_timeout=_KEPT_S
        )
        self._session = aiohttp.ClientSession(
            connector=connector, headers=self._headers, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False,
            read_bufsize=_PEEK, timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_s),
        )  # fmt: skip
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
        for pool in self._pools.values():
            with contextlib.suppress(Exception):
                await pool.aclose()

    async def get(
        self, url: str, *, max_bytes: int, seconds: float, is_last: bool = False, is_owned: bool | None = None
    ) -> Answer:
        """The answer to a GET of a normalised address, within so many seconds. `is_last`: no other request to this host
        follows. `is_owned` False: a stranger's redirect leads there. Raises Undelivered."""
        try:
            async with asyncio.timeout(seconds):
                await self._resolver.checked(host_of(url), is_owned=is_owned)
                if not url.startswith("https:") or self._offers.get(origin_of(url)) is False:
                    return await self._by_aiohttp(url, max_bytes, is_last)
                return await self._by_httpcore(url, max_bytes)
        except FetchError as error:
            raise Undelivered(error.reason, str(error), is_of_host=True) from error
        except TimeoutError as error:
            message = f"there was no whole answer within {seconds:.0f} s"
            raise Undelivered("time-out", message, is_of_host=True) from error
        except (ssl.SSLError, aiohttp.ClientSSLError) as error:
            raise Undelivered("TLS", f"the connection is not safe: {error!s:.200}", is_of_host=True) from error
        except (aiohttp.ClientConnectorError, httpcore2.ConnectError) as error:
            raise _unconnected(error) from error
        except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, ConnectionError,
                httpcore2.NetworkError, httpcore2.RemoteProtocolError) as error:  # fmt: skip
            raise Undelivered("cut", f"the answer ended early: {error!s:.200}", is_passing=True) from error
        except (aiohttp.ClientError, httpcore2.ProtocolError, OSError, ValueError) as error:
            raise Undelivered("no HTTP", f"the answer is no HTTP: {type(error).__name__} {error!s:.200}") from error

    async def forget(self, origin: str) -> None:
        """Close what is kept for a host of which nothing more is wanted."""
        if pool := self._pools.pop(origin, None):
            with contextlib.suppress(Exception):
                await pool.aclose()

    async def _by_aiohttp(self, url: str, max_bytes: int, is_last: bool) -> Answer:
        assert self._session is not None
        headers = {"Connection": "close"} if is_last else {}
        address = _encoded(url)
        async with self._session.get(address, headers=headers, allow_redirects=False) as answer:
            found = _joined((name.lower(), value) for name, value in answer.headers.items())
            body, unwanted = await self._body(answer.status, found, answer.content.iter_any(), max_bytes)
            if body is None:
                answer.close()
            return Answer(answer.status, found, body or b"", "HTTP/1.1", unwanted)

    async def _by_httpcore(self, url: str, max_bytes: int) -> Answer:
        origin = origin_of(url)
        pool = self._pools.get(origin) or await self._new_pool(origin)
        wait = dict.fromkeys(("connect", "pool"), self._connect_s)
        headers = {"Host": urlsplit(url).netloc, **self._headers}
        request = httpcore2.Request("GET", url, headers=list(headers.items()), extensions={"timeout": wait})
        try:
            answer = await pool.handle_async_request(request)
        except httpcore2.TimeoutException as error:
            raise TimeoutError from error
        try:
            found = _joined((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in answer.headers)
            version = answer.extensions.get("http_version", b"").decode("latin-1")
            if len(self._offers) >= _MOST_KNOWN:
                self._offers.clear()
            self._offers[origin] = version == "HTTP/2"
            assert isinstance(answer.stream, AsyncIterable)
            body, unwanted = await self._body(answer.status, found, answer.stream, max_bytes)
            return Answer(answer.status, found, body or b"", version, unwanted)
        finally:
            with contextlib.suppress(httpcore2.NetworkError, httpcore2.ProtocolError):
                await answer.aclose()

    async def _body(
        self, status: int, headers: Mapping[str, str], blocks: AsyncIterable[bytes], max_bytes: int
    ) -> tuple[bytes | None, str]:
        """The body, for which room is held, and the reason if it is unwanted. The body is None if the connection still
        has some of it."""
        text = headers.get("content-length", "")
        length = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
        if status != 200:
            if length is None or length > _SMALL:
                return None, ""
            async for _ in blocks:
                pass
            return b"", ""
        body = await self.room.read(blocks, length, max_bytes)
        if body is None:
            return None, "too large"
        if length is not None and len(body) < length:
            self.room.release(len(body))
            raise Undelivered("cut", f"{len(body):,} of {length:,} bytes came", is_passing=True)
        packing = headers.get("content-encoding", "").strip().lower()
        if packing in ("", "identity"):
            return body, ""
        unpacked = _unpacked(body, max_bytes) if packing in ("gzip", "x-gzip", "deflate") else None
        self.room.release(len(body) - len(unpacked or b""))
        return unpacked or b"", "" if unpacked is not None else "unknown encoding"

    async def _new_pool(self, origin: str) -> httpcore2.AsyncConnectionPool:
        """A pool for one origin: httpcore looks through all connections of a pool at each request."""
        if self._tls is None:
            self._tls = self._new_tls()
        while len(self._pools) >= _MOST_HTTP2:
            await self.forget(next(iter(self._pools)))
        pool = self._pools[origin] = httpcore2.AsyncConnectionPool(
            ssl_context=self._tls, http1=True, http2=True, max_connections=_STREAMS, keepalive_expiry=_KEPT_S,
            network_backend=_CheckedBackend(self._resolver),
        )  # fmt: skip
        return pool


class _Checked(AbstractResolver):
    """aiohttp asks for names here, and connects to what it is given."""

    def __init__(self, resolver: Resolver):
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The checked addresses of a host."""
        return [
            ResolveResult(hostname=host, host=each, port=port, family=_family(each), proto=0, flags=0)
            for each in await self._resolver.checked(host)
        ]

    async def close(self) -> None:
        """Nothing is held."""


class _CheckedBackend(httpcore2.AsyncNetworkBackend):
    """httpcore connects here: to the checked addresses of a host, one after the other."""

    def __init__(self, resolver: Resolver):
        self._resolver = resolver
        self._system: Any = httpcore2.AnyIOBackend()  # its type says nothing of its methods

    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:  # fmt: skip
        """The first connection that is accepted."""
        failed: Exception | None = None
        for address in await self._resolver.checked(host):
            try:
                return await self._system.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failed = error
        raise failed or httpcore2.ConnectError(f"{host} has no address")

    async def sleep(self, seconds: float) -> None:
        """Wait before another try."""
        await asyncio.sleep(seconds)


def _family(address: str) -> int:
    return socket.AF_INET6 if ipaddress.ip_address(address.partition("%")[0]).version == 6 else socket.AF_INET


def _encoded(url: str) -> Any:
    from yarl import URL

    return URL(url, encoded=True)  # as it is: servers sign addresses


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Headers by name; several of one name are joined by commas (RFC 9110, section 5.3)."""
    found: dict[str, str] = {}
    for name, value in pairs:
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _unpacked(body: bytes, max_bytes: int) -> bytes | None:
    """The content of a compressed body; None if it is damaged or larger than `max_bytes`."""
    unpacker = zlib.decompressobj(wbits=47)  # zlib's and gzip's header
    try:
        found = unpacker.decompress(body, max_bytes)
    except zlib.error:
        return None
    return found if unpacker.eof else None


def _unconnected(error: Exception) -> Undelivered:
    if isinstance(found := getattr(error, "os_error", None), FetchError):
        return Undelivered(found.reason, str(found), is_of_host=True)
    return Undelivered("no connection", f"there is no connection: {error!s:.200}", is_of_host=True)
