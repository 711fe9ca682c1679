"""What a server is started with."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass

from diptych.errors import ArgumentError, Setting

MEGABYTE = 2**20
THUMBNAIL_WIDTHS = (160, 240, 320, 480, 640, 1280, 2560)  # pixels of the longer side; others are rounded up


@dataclass(frozen=True)
class ServeSettings:
    """Where the server listens, whom it answers, and its limits. Raises ArgumentError where it would listen to other
    machines without a token, and for a `cors` that no browser would send.

    `cors` are the origins of other sites whose pages may ask, `hosts` further names of this machine in a URL. Sizes are
    bytes. `queue_texts` and `queue_pictures` wait for the model at most; more get 429. `generator` is the folder of
    what draws pictures, by default the bundled one.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    originals: bool = False
    allow_urls: bool = False
    cors: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    root_path: str = ""
    max_body_bytes: int = 64 * MEGABYTE
    max_texts: int = 1024
    max_pictures: int = 64
    deadline_s: float = 30.0
    queue_texts: int = 4096
    queue_pictures: int = 256
    thumbnail_cache_bytes: int = 2048 * MEGABYTE
    processes: int | None = None
    access_log: bool = False
    generator: str | None = None

    def __post_init__(self) -> None:
        if self.token is not None and len(self.token) < 8:
            raise ArgumentError([Setting("token"), " is shorter than 8 characters."], argument="token")
        if not self.is_loopback and self.token is None:
            raise ArgumentError(
                [Setting("host", self.host), " lets other machines ask, so a token is needed."],
                remedy=["Give one with ", Setting("token", "WORDS"), ", or listen on 127.0.0.1."],
                argument="token",
            )
        for origin in self.cors:
            if not re.fullmatch(r"https?://[^/\s]+", origin):
                raise ArgumentError(
                    [Setting("cors", origin), " is no origin, such as https://a.example or http://a.example:8080."],
                    argument="cors",
                )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can ask."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def answers_to(self, name: str) -> bool:
        """Whether the server may be called by this name, the Host of a request without its port. Another site's name
        that resolves to this machine (DNS rebinding) is none of its names."""
        name = name.lower().rstrip(".")
        if name in ("localhost", "127.0.0.1", "[::1]", *(host.lower() for host in self.hosts)):
            return True
        if self.is_loopback:
            return name == self.host.lower()
        return name == self.host.lower() or name in _own_names() or _is_address(name)


def _own_names() -> set[str]:
    own = socket.gethostname().lower()
    return {own, f"{own.partition('.')[0]}.local"}


def _is_address(name: str) -> bool:
    """Whether this is an address as a URL has it; none can be made to resolve to another one."""
    try:
        ipaddress.ip_address(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
    except ValueError:
        return False
    return True
