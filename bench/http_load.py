"""A light client: many connections to one server from one thread, each sending its next request when its last is
answered. A server that says that it closes a connection after an answer gets another one for the next request."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from urllib.parse import SplitResult, urlsplit

_END, _CLOSE = b"\r\n\r\n", b"\r\nconnection: close\r\n"


@dataclass
class Load:
    """What came back: the seconds of each answer, the time that it took altogether, and that of the client's
    processor."""

    seconds: float
    client_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    failures: list[bytes] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies_s) / self.seconds


def post(address: str, path: str, body: bytes) -> bytes:
    """A POST of JSON, as bytes to send."""
    head = f"POST {path} HTTP/1.1\r\nHost: {urlsplit(address).netloc}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def get(address: str, path: str) -> bytes:
    """A GET, as bytes to send."""
    return f"GET {path} HTTP/1.1\r\nHost: {urlsplit(address).netloc}\r\n\r\n".encode()


def drive(address: str, requests: Iterator[bytes] | Sequence[bytes], *, connections: int, seconds: float) -> Load:
    """Send the requests, over and over, for so long. Answers that come later do not count. Raises RuntimeError for any
    that is not 200."""
    load = asyncio.run(_drive(address, cycle(requests), connections, seconds))
    if load.failures:
        raise RuntimeError(f"{len(load.failures)} failures, the first: {load.failures[0][:500]!r}")
    return load


async def _drive(address: str, requests: Iterator[bytes], connections: int, seconds: float) -> Load:
    where, load = urlsplit(address), Load(seconds)
    cpu, until = time.process_time(), time.perf_counter() + seconds
    work = [asyncio.create_task(_ask(where, requests, load, until)) for _ in range(connections)]
    await asyncio.sleep(until - time.perf_counter())
    load.client_s = time.process_time() - cpu
    for task in work:
        task.cancel()
    for ended in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended
    return load


async def _ask(where: SplitResult, requests: Iterator[bytes], load: Load, until: float) -> None:
    """One connection after another."""
    loop = asyncio.get_running_loop()
    while time.perf_counter() < until:
        begun = partial(_Connection, requests, load, until)
        transport, one = await loop.create_connection(begun, where.hostname or "", where.port or 80)
        try:
            await one.ended
        finally:
            transport.abort()


class _Connection(asyncio.Protocol):
    """An answer that is not 200, or is cut off, is a failure."""

    def __init__(self, requests: Iterator[bytes], load: Load, until: float):
        self._requests, self._load, self._until = requests, load, until
        self._received, self._wanted = bytearray(), 0
        self._sent = time.perf_counter()  # its first answer takes also as long as it takes to connect
        self.ended = asyncio.get_running_loop().create_future()  # the server has closed it, or said that it does

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._write()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._wanted and (end := self._received.find(_END)) >= 0:
            self._wanted = end + len(_END) + content_length(bytes(self._received[:end]))
        if self._wanted and len(self._received) >= self._wanted:
            self._answered(time.perf_counter())

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            if time.perf_counter() < self._until:
                self._load.failures.append(b"the connection was closed")
            self.ended.set_result(None)

    def _write(self) -> None:
        self._transport.write(next(self._requests))  # type: ignore[attr-defined]

    def _answered(self, now: float) -> None:
        if now > self._until:
            return
        if self._received.startswith(b"HTTP/1.1 200"):
            self._load.latencies_s.append(now - self._sent)
        else:
            self._load.failures.append(bytes(self._received))
        if _CLOSE in bytes(self._received.partition(_END)[0]).lower() + _END:
            self.ended.set_result(None)
            return
        self._received.clear()
        self._wanted, self._sent = 0, now
        self._write()


def content_length(head: bytes) -> int:
    """The length of the body that follows."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    raise RuntimeError(f"an answer has no Content-Length: {head[:200]!r}")
