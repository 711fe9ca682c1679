"""GET over http and https from hosts that may be anyone's: limits on size, time and rate; and of redirects each hop's
address is checked, the very one that is connected to."""

from __future__ import annotations

import base64
import contextlib
import http.client
import ipaddress
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.error import HTTPError
from urllib.parse import SplitResult, unquote, urljoin, urlsplit, urlunsplit
from urllib.request import (
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    Request,
    build_opener,
    getproxies,
    proxy_bypass,
)

from diptych.errors import ArgumentError, FetchError, TooSlowError

TIMEOUT_S, ANSWER_S, WINDOW_S = 30.0, 60.0, 60.0  # of a read; until the headers are there; that a rate is taken over
PUBLIC = "public"
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_REDIRECTS = {301, 302, 303, 307, 308}


@dataclass(frozen=True)
class FetchLimits:
    """What a transfer may take: bytes in all, seconds in all with every try and pause, bytes a second on average of a
    minute (a try that stays below is broken off, and counts as one that brought nothing), and redirects."""

    max_bytes: int = 32 << 30
    deadline_s: float = 4 * 3600.0
    least_rate: float = 1024.0
    redirects: int = 5

    @classmethod
    def from_environment(cls) -> FetchLimits:
        """DIPTYCH_FETCH_MAX_BYTES, DIPTYCH_FETCH_DEADLINE_S, DIPTYCH_FETCH_LEAST_RATE and DIPTYCH_FETCH_REDIRECTS over
        the defaults. ArgumentError for what is no number."""
        given: dict[str, Any] = {}
        for name, usual in vars(cls()).items():
            variable = f"DIPTYCH_FETCH_{name.upper()}"
            if said := os.environ.get(variable):
                try:
                    given[name] = type(usual)(float(said))
                except (ValueError, OverflowError):
                    raise ArgumentError(f"{variable}={said!r:.60}; wanted a number.") from None
        return cls(**given)


class Transfer:
    """An answer: its `status`, its `headers`, and its content in blocks."""

    def __init__(
        self, response: http.client.HTTPResponse, limits: FetchLimits, deadline_s: float,
        is_cut: Callable[[], bool] = lambda: False,
    ):  # fmt: skip
        """`is_cut` says whether the connection was cut from this side: to a reader that looks like an end."""
        self.status, self.headers = response.status, response.headers
        self._response, self._limits, self._deadline_s, self._is_cut = response, limits, deadline_s, is_cut

    @property
    def length(self) -> int | None:
        """How many bytes the server says that follow; None where it does not, or says nonsense."""
        said = {each.strip() for line in self.headers.get_all("Content-Length", []) for each in line.split(",")}
        number = said.pop() if len(said) == 1 else ""
        chunked = self.headers.get("Transfer-Encoding") is not None
        return int(number) if number.isascii() and number.isdigit() and len(number) < 20 and not chunked else None

    def blocks(self) -> Iterator[bytes]:
        """The content as it comes. FetchError past the deadline, TooSlowError where it comes too slowly."""
        begun, brought = time.monotonic(), 0
        while block := self._response.read1(1 << 18):
            brought += len(block)
            yield block
            now = time.monotonic()
            if now > self._deadline_s:
                raise _too_long(self._limits)
            if now - begun > WINDOW_S:
                if brought < self._limits.least_rate * (now - begun):
                    raise TooSlowError(f"it came at less than {self._limits.least_rate:,.0f} bytes a second")
                begun, brought = now, 0
        if self._is_cut():
            raise _too_long(self._limits)


@contextlib.contextmanager
def opened(url: str, headers: Mapping[str, str], limits: FetchLimits, deadline_s: float) -> Iterator[Transfer]:
    """The answer to a GET, by way of redirects; `deadline_s` is a moment of `time.monotonic`.

    A redirect may lead to http and https alone, and to no private, loopback, link-local, multicast or unspecified
    address, unless the first address was one of that kind; a user and password in `url` go to its own host alone.
    Raises FetchError for such a redirect and past the deadline, HTTPError for a status that is none of success, and
    OSError, ValueError or HTTPException for all else.
    """
    origin = address = _parts(url)
    kinds: set[str] | None = None
    for _ in range(limits.redirects + 1):
        with _asked(address, {**headers, **_credentials(origin, address)}, kinds, deadline_s, limits) as (
            answer,
            guard,
        ):
            if not isinstance(answer, HTTPError):
                yield Transfer(answer, limits, deadline_s, lambda: guard.is_cut)
                return
            if answer.code not in _REDIRECTS or not (to := answer.headers.get("Location")):
                raise answer
        kinds = kinds or {PUBLIC, guard.kind}
        address = _redirected(address, to)
    raise FetchError(f"{shown(url)} led on more than {limits.redirects} times.", "redirects")


def shown(url: str) -> str:
    """An address as it may be printed: without a password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def kind_of(address: str) -> str:
    """What an IP address is for: PUBLIC, "private", "loopback", "link-local", "multicast" or "unspecified". One of
    version 6 that stands for one of version 4 is what that is."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and (inner := _version_4(found)):
        return kind_of(str(inner))
    for kind in ("unspecified", "loopback", "link_local", "multicast"):
        if getattr(found, f"is_{kind}"):
            return kind.replace("_", "-")
    return PUBLIC if found.is_global else "private"


def _version_4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address in _NAT64 or (0xFFFF < int(address) < 1 << 32):  # the latter are the "compatible" ones of old
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise FetchError(f"{url:.300} is no address ({error}).", "no address") from error
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise FetchError(f"{shown(url):.300} is no http or https address.", "no address")
    return parts


def _redirected(here: SplitResult, to: str) -> SplitResult:
    try:
        parts = _parts(urljoin(urlunsplit(here), to.strip()))
    except ValueError as error:
        raise FetchError(f"it leads to {to!r:.300}, which is no address ({error}).", "no address") from error
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="")  # whose password would that be?


def _credentials(origin: SplitResult, address: SplitResult) -> dict[str, str]:
    """The header for a user and password in `origin`, for an address of the same host, port and scheme."""
    same = (origin.scheme, origin.hostname, origin.port) == (address.scheme, address.hostname, address.port)
    if not same or origin.username is None:
        return {}
    words = f"{unquote(origin.username)}:{unquote(origin.password or '')}"
    return {"Authorization": f"Basic {base64.b64encode(words.encode()).decode()}"}


@contextlib.contextmanager
def _asked(
    address: SplitResult, headers: Mapping[str, str], kinds: set[str] | None, deadline_s: float, limits: FetchLimits
) -> Iterator[tuple[Any, "_Guard"]]:
    """The response, or the HTTPError of a redirect or refusal, and who connected."""
    guard = _Guard(kinds, deadline_s)
    proxied = address.scheme.lower() in getproxies() and not proxy_bypass(address.netloc.rpartition("@")[2])
    if proxied:  # the user's own: where that is is nobody's affair, and what it is asked for is looked at by its name
        guard.check_name(address.hostname or "")
    url = urlunsplit(address._replace(netloc=address.netloc.rpartition("@")[2], fragment=""))
    opener = build_opener(_Http(guard), _Https(guard), _Stay())
    try:
        with guard.within(ANSWER_S):
            try:
                answer: Any = opener.open(Request(url, headers=dict(headers)), timeout=TIMEOUT_S)
            except HTTPError as error:
                answer = error
        with answer, guard.within(deadline_s - time.monotonic()):
            if guard.is_cut:  # in the headers, of which http.client takes what came
                raise ConnectionError
            yield answer, guard
    except (OSError, http.client.HTTPException) as error:
        if isinstance(refused := getattr(error, "reason", None), FetchError):  # in a URLError
            raise refused from error
        if isinstance(error, FetchError | HTTPError) or not guard.is_cut:
            raise
        if time.monotonic() >= deadline_s:
            raise _too_long(limits) from error
        raise TimeoutError(f"there was no answer within {ANSWER_S:.0f} s") from error
    finally:
        guard.close()


def _too_long(limits: FetchLimits) -> FetchError:
    return FetchError(f"it took longer than {limits.deadline_s:,.0f} s.", "deadline")


class _Guard:
    """Connects to addresses of the `kinds` that are allowed (None: all), the first time too, and cuts a connection that
    is not done in time: a server may send a byte now and then without end."""

    def __init__(self, kinds: set[str] | None, deadline_s: float):
        self._kinds, self._deadline_s = kinds, deadline_s
        self._twin: socket.socket | None = None
        self.kind, self.is_cut, self._is_named = PUBLIC, False, False

    def check_name(self, host: str) -> None:
        """For a host that another connects to. FetchError where its name leads to no allowed address from here."""
        self._is_named = True
        with contextlib.suppress(socket.gaierror):  # a proxy may know names that are not known here
            self.kind = self._allowed(host, 0)[0][1]

    def connect(self, address: tuple[str, int], timeout: float, source_address: object = None) -> socket.socket:
        """As `socket.create_connection`. FetchError where no address of the host is allowed."""
        if self._is_named:
            sock = socket.create_connection(address, timeout)
            self._twin = sock.dup()
            return sock
        failed: OSError | None = None
        for (family, kind, protocol, _, where), self.kind in self._allowed(*address):  # noqa: B020
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(max(0.001, min(timeout, self._deadline_s - time.monotonic())))
                sock.connect(where)
                sock.settimeout(timeout)
                self._twin = sock.dup()
                return sock
            except OSError as error:
                failed = error
                sock.close()
        raise failed or OSError("the host has no address")

    def _allowed(self, host: str, port: int) -> list[tuple[Any, str]]:
        found = [(each, kind_of(str(each[4][0]))) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        allowed = [each for each in found if self._kinds is None or each[1] in self._kinds]
        if found and not allowed:
            raise FetchError(f"it leads to {host}, a {found[0][1]} address ({found[0][0][4][0]}).", "refused redirect")
        return allowed

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Cut the connection where the block is not done in time."""
        timer = threading.Timer(max(0.0, min(seconds, self._deadline_s - time.monotonic())), self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _cut(self) -> None:
        self.is_cut = True
        if self._twin is not None:
            with contextlib.suppress(OSError):
                self._twin.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the connection."""
        if self._twin is not None:
            self._twin.close()


def _connection(kind: Any, guard: _Guard, *arguments: Any, **options: Any) -> Any:
    made = kind(*arguments, **options)
    made._create_connection = guard.connect  # which http.client keeps for that, and for a tunnel through a proxy
    return made


class _Http(HTTPHandler):
    def __init__(self, guard: _Guard):
        super().__init__()
        self._guard = guard

    def do_open(self, http_class: Any, req: Request, **options: Any) -> Any:
        return super().do_open(partial(_connection, http_class, self._guard), req, **options)  # type: ignore[arg-type]


class _Https(HTTPSHandler):
    def __init__(self, guard: _Guard):
        super().__init__()
        self._guard = guard

    def do_open(self, http_class: Any, req: Request, **options: Any) -> Any:
        return super().do_open(partial(_connection, http_class, self._guard), req, **options)  # type: ignore[arg-type]


class _Stay(HTTPRedirectHandler):
    """Follows none: each is looked at."""

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> None:
        """A redirect, which becomes an HTTPError."""

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302  # type: ignore[assignment]
