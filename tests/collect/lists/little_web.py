"""Hosts of a little web on loopback: what each address answers, and a log of what was asked."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from diptych.scenes.scene import Scenes

RULES = ("/robots.txt", "/.well-known/tdmrep.json")


@dataclass
class Page:
    """What an address answers. With `drip_s` the body comes byte by byte with such pauses; `hang` never answers;
    `cut` closes after half of the body."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    drip_s: float = 0.0
    wait_s: float = 0.0
    hang: bool = False
    cut: bool = False


def picture(seed: int = 0, size_px: int = 96) -> bytes:
    """A drawn picture, as JPEG."""
    file = io.BytesIO()
    next(iter(Scenes(1, seed=seed, size_px=size_px))).image.save(file, "JPEG")
    return file.getvalue()


class LittleWeb:
    """One server for all hosts on one port of 127.0.0.0/8. `pages` are by host and path, or by path for all hosts; a
    function makes a page of how often it was asked before. `log` has (time, host, path, agent) of each request."""

    def __init__(self) -> None:
        self.pages: dict[str, Page | Callable[[int], Page]] = {}
        self.log: list[tuple[float, str, str, str]] = []
        self.addresses: set[str] = set()  # of this machine that were connected to
        self.asked = threading.Condition()
        self._socket = socket.create_server(("0.0.0.0", 0), backlog=512)
        self.port = self._socket.getsockname()[1]
        self.ending = threading.Event()
        self._connections: set[socket.socket] = set()

    def url(self, host: str, path: str) -> str:
        """An address of this web."""
        return f"http://{host}:{self.port}{path}"

    def paths(self, host: str = "") -> list[str]:
        """The paths that were asked for, of one host or all, in order, without those of rules."""
        with self.asked:
            return self._asked(host)

    def _asked(self, host: str = "") -> list[str]:
        return [path for _, name, path, _ in self.log if host in ("", name) and path not in RULES]

    def wait_for(self, number: int) -> None:
        """Wait until so many addresses were asked for, without rules."""
        with self.asked:
            assert self.asked.wait_for(lambda: len(self._asked()) >= number, 200)

    def serve(self) -> None:
        """Accept connections until the socket is closed."""
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._connections.add(connection)
            self.addresses.add(connection.getsockname()[0])
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def close(self) -> None:
        """End all."""
        self.ending.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for connection in list(self._connections):
            connection.close()

    def _talk(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as lines:
                while self._answer(connection, lines):
                    pass
        except (OSError, ValueError):
            pass
        finally:
            self._connections.discard(connection)

    def _answer(self, connection: socket.socket, lines: io.BufferedReader) -> bool:
        request = lines.readline().split()
        if len(request) < 3:
            return False
        headers = {}
        while line := lines.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        host, path = headers["host"].rpartition(":")[0], request[1].decode()
        with self.asked:
            before = sum((name, asked) == (host, path) for _, name, asked, _ in self.log)
            self.log.append((time.monotonic(), host, path, headers.get("user-agent", "")))
            self.asked.notify_all()
        page = self.pages.get(f"{host}{path}") or self.pages.get(path) or Page(b"not here", 404)
        page = page if isinstance(page, Page) else page(before)
        return self._send(connection, page)

    def _send(self, connection: socket.socket, page: Page) -> bool:
        if page.hang or page.wait_s:
            self.ending.wait(page.wait_s or None)
        head = {"Content-Length": str(len(page.body)), **page.headers}
        lines = [f"HTTP/1.1 {page.status} X", *(f"{name}: {value}" for name, value in head.items()), "", ""]
        connection.sendall("\r\n".join(lines).encode("latin-1"))
        if page.cut:
            connection.sendall(page.body[: len(page.body) // 2])
            return False
        if not page.drip_s:
            connection.sendall(page.body)
            return True
        for at in range(len(page.body)):
            if self.ending.wait(page.drip_s):
                return False
            connection.sendall(page.body[at : at + 1])
        return True


@contextmanager
def little_web() -> Iterator[LittleWeb]:
    """A web that answers within the block."""
    web = LittleWeb()
    threading.Thread(target=web.serve, daemon=True).start()
    try:
        yield web
    finally:
        web.close()
