"""Runs a service with uvicorn until it is told to stop."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import ipaddress
import logging
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import uvicorn

from diptych.errors import ArgumentError, Setting
from diptych.serve.app import create_app
from diptych.serve.service import Service
from diptych.serve.web.connections import Connection

_BACKLOG = 2048
_LAST_CALL_S = 0.5
# Of glibc's malloc.h: the number of heaps, and the size from which memory is taken and given back by itself.
_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3


class _Server(uvicorn.Server):
    """Ends streams of events when it is told to stop, because it waits for all answers that are under way."""

    def __init__(self, config: uvicorn.Config, service: Service):
        super().__init__(config)
        self._service = service

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle SIGTERM and Ctrl-C while it runs. uvicorn would raise them again in the end, when all is done."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer, once nobody can connect any more, what clients have sent by then on connections that they keep:
        uvicorn would close those at once, with what is on its way in them."""
        for server in self.servers:
            server.close()
        await asyncio.sleep(_LAST_CALL_S)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:  # asked again: what is under way is cut, and uvicorn would log a traceback of that
            logging.getLogger("uvicorn.error").disabled = True
        self._service.stopping.set()
        super().handle_exit(sig, frame)


def serve(service: Service, on_start: Callable[[str], None], *, sock: socket.socket,
          certificate: tuple[str, str] | None = None, proxies: str = "") -> None:  # fmt: skip
    """Answer on `sock`, which is `bound`, until SIGTERM or Ctrl-C; what is under way is finished first. `on_start` gets
    the address. `certificate` are the paths of a chain and its key; forwarded headers are believed from `proxies` alone
    (addresses with commas)."""
    settings = service.settings
    scheme = "https" if certificate else "http"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    for name in ("uvicorn.error", "python_multipart.multipart"):  # they warn of what is no request, not saying of whom
        logging.getLogger(name).setLevel(logging.ERROR)
    on_start(f"{scheme}://{host}:{sock.getsockname()[1]}{settings.root_path}/")
    server = server_of(service, certificate=certificate, proxies=proxies)
    try:
        asyncio.run(server.serve(sockets=[sock]))
    finally:
        sock.close()


def spare_memory() -> None:
    """Have the threads that begin from now on share two heaps, and blocks of 4 MB and more go back to the system: glibc
    would give each thread its own heap and raise that limit to 32 MB, which is a hundred megabytes in a server.
    Elsewhere it does nothing."""
    with suppress(OSError, AttributeError, TypeError):  # TypeError: Windows
        library = ctypes.CDLL(None)
        library.mallopt(_M_ARENA_MAX, 2)
        library.mallopt(_M_MMAP_THRESHOLD, 4 << 20)


def server_of(service: Service, *, certificate: tuple[str, str] | None = None, proxies: str = "") -> uvicorn.Server:
    """uvicorn's server of this service; see `serve`. It ends in order once its `should_exit` is True."""
    settings = service.settings
    chain, key = certificate or (None, None)
    config = uvicorn.Config(
        create_app(service), log_config=None, access_log=False, server_header=False, date_header=True,
        proxy_headers=bool(proxies), forwarded_allow_ips=proxies or None, root_path=settings.root_path,
        timeout_keep_alive=30, timeout_graceful_shutdown=int(settings.deadline_s) + 1,
        h11_max_incomplete_event_size=65536, ssl_certfile=chain, ssl_keyfile=key, backlog=_BACKLOG,
        lifespan="on", http=Connection, ws="none",
    )  # fmt: skip
    return _Server(config, service)


def check_certificate(chain: str, key: str) -> None:
    """Raises ArgumentError where these files are not a certificate and its key."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, key, password="")  # asks nobody
    except OSError as error:
        raise ArgumentError(
            [Setting("certificate", chain), f" and its key cannot be used ({error.strerror})."],
            remedy="Wanted two PEM files: the certificate with those of its issuers, and its private key without a "
            "password.",
            argument="certificate",
        ) from error


def check_proxies(proxies: Iterable[str]) -> None:
    """Raises ArgumentError where one of these is no address or network: a connection comes from an address."""
    for proxy in proxies:
        try:
            ipaddress.ip_network(proxy)
        except ValueError as error:
            raise ArgumentError(
                [Setting("proxy", proxy), " is no address that a proxy may have."],
                remedy="Wanted its address as this machine sees it, such as 127.0.0.1, ::1 or 10.1.2.3, or a network "
                "such as 172.17.0.0/16.",
                argument="proxy",
            ) from error


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises ArgumentError where the port is taken, or the address is not this
    machine's."""
    try:
        return _listening(host, port)
    except OSError as error:
        raise _refusal(host, port, error) from error


def _refusal(host: str, port: int, error: OSError) -> ArgumentError:
    if error.errno == errno.EADDRINUSE:
        return ArgumentError(
            [Setting("port", port), f" is taken: another program, perhaps a server like this one, listens on {host}."],
            remedy=["Choose another one; ", Setting("port", 0), " takes any that is free."],
            argument="port",
        )
    if error.errno == errno.EACCES:
        return ArgumentError(
            [Setting("port", port), " is one that this user may not listen on."],
            remedy="Choose one from 1024 on.",
            argument="port",
        )
    return ArgumentError(
        [Setting("host", host), f" is no address of this machine ({error.strerror})."],
        remedy="Give 127.0.0.1 for this machine alone, 0.0.0.0 for all of its addresses, or one of them.",
        argument="host",
    )


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it, each answer comes 40 ms late
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
