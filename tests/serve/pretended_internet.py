"""An internet that is made up, on this machine: a host that counts as a public one, and names that lead to it.

`python -m tests.serve.pretended_internet serve ...` is `diptych serve ...` on such an internet. It asks nobody else:
other names have no address, and other public addresses are not connected to.
"""

import io
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from typing import Any
from unittest.mock import patch
from urllib.parse import unquote_to_bytes

from PIL import Image

from diptych.untrusted import downloading

PUBLIC_HOST = "127.0.0.77"  # on Linux all of 127.0.0.0/8 is this machine
STEADY, CHANGING, BOTH = "steady.example", "changing.example", "both.example"
METADATA = "169.254.169.254"


class PublicHost:
    """Answers on PUBLIC_HOST: a picture, and below /to/ a redirect to the address that follows."""

    def __init__(self, port: int):
        self._server = ThreadingHTTPServer((PUBLIC_HOST, port), _Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/to/"):
            where = unquote_to_bytes(self.path.removeprefix("/to/")).decode("latin-1")
            self.send_response(302)
            self.send_header("Location", where.partition("\r")[0].partition("\n")[0])
            self.end_headers()
            return
        Image.new("RGB", (20, 20), "red").save(file := io.BytesIO(), "PNG")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(file.getvalue())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def pretended() -> Iterator[None]:
    """Within it, downloads of this process take PUBLIC_HOST for a public address, and names lead as they are made up:
    CHANGING to it and to this machine or its network in turns, BOTH to both at once."""
    kind_of, getaddrinfo = downloading.kind_of, socket.getaddrinfo
    changing = cycle([PUBLIC_HOST, "127.0.0.1", PUBLIC_HOST, METADATA])

    def kind(address: str) -> str:
        if address == PUBLIC_HOST:
            return downloading.PUBLIC
        found = kind_of(address)
        return "elsewhere" if found == downloading.PUBLIC else found

    def resolved(host: Any, port: Any, *rest: Any, **more: Any) -> list[Any]:
        named = {STEADY: [PUBLIC_HOST], CHANGING: [next(changing)], BOTH: ["127.0.0.1", PUBLIC_HOST]}
        if host in named:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (where, int(port))) for where in named[host]]
        if isinstance(host, str) and host.rstrip(".").lower().endswith(".example"):
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return getaddrinfo(host, port, *rest, **more)

    with patch.object(downloading, "kind_of", kind), patch.object(socket, "getaddrinfo", resolved):
        yield


if __name__ == "__main__":
    from diptych.__main__ import main

    with pretended():
        main()
