"""GET over http and https from untrusted hosts, with limits on size, time and rate. The address of each redirect is
checked, and the connection is made to that same address."""

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

TIMEOUT_S, ANSWER_S, WINDOW_S = 30.0, 60.0, 60.0  # for a read; until the headers; over which the rate is averaged
PUBLIC = "public"
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_REDIRECTS = {301, 302, 303, 307, 308}


@dataclass(frozen=True)
class FetchLimits:
    """Limits of a transfer: bytes in total, seconds in total with all tries and pauses, least bytes a second averaged
    over a minute (a slower try is aborted and counts as one without progress), and redirects."""

    max_bytes: int = 32 << 30
    deadline_s: float = 4 * 3600.0
    least_rate: float = 1024.0
    redirects: int = 5

    @classmethod
    def from_environment(cls) -> FetchLimits:
        """The defaults, overridden by DIPTYCH_FETCH_MAX_BYTES, DIPTYCH_FETCH_DEADLINE_S, DIPTYCH_FETCH_LEAST_RATE and
        DIPTYCH_FETCH_REDIRECTS. Raises ArgumentError for a value that is not a number."""
        given: dict[str, Any] = {}
        for name, usual in vars(cls()).items():
            variable = f"DIPTYCH_FETCH_{name.upper()}"
            if value := os.environ.get(variable):
                try:
                    given[name] = type(usual)(float(value))
                except (ValueError, OverflowError):
                    raise ArgumentError(f"{variable}={value!r:.60}; expected a number.") from None
        return cls(**given)


class Transfer:
    """A response: its `status`, its `headers`, and its content in blocks."""

    def __init__(
        self, response: http.client.HTTPResponse, limits: FetchLimits, deadline_s: float,
        is_cut: Callable[[], bool] = lambda: False,
    ):  # fmt: skip
        """`is_cut` returns whether this side cut the connection, which a reader cannot distinguish from the end."""
        self.status, self.headers = response.status, response.headers
        self._response, self._limits, self._deadline_s, self._is_cut = response, limits, deadline_s, is_cut

    @property
    def length(self) -> int | None:
        """The Content-Length; None if it is missing, contradictory or invalid."""
        lengths = {each.strip() for line in self.headers.get_all("Content-Length", []) for each in line.split(",")}
        number = lengths.pop() if len(lengths) == 1 else ""
        chunked = self.headers.get("Transfer-Encoding") is not None
        return int(number) if number.isascii() and number.isdigit() and len(number) < 20 and not chunked else None

    def blocks(self) -> Iterator[bytes]:
        """The content as it arrives. Raises FetchError past the deadline, TooSlowError below the least rate."""
        start, received = time.monotonic(), 0
        while block := self._response.read1(1 << 18):
            received += len(block)
            yield block
            now = time.monotonic()
            if now > self._deadline_s:
                raise _too_long(self._limits)
            if now - start > WINDOW_S:
                if received < self._limits.least_rate * (now - start):
                    raise TooSlowError(f"it was slower than {self._limits.least_rate:,.0f} bytes a second")
                start, received = now, 0
        if self._is_cut():
            raise _too_long(self._limits)


@contextlib.contextmanager
def opened(
    url: str, headers: Mapping[str, str], limits: FetchLimits, deadline_s: float, *, public_only: bool = False
) -> Iterator[Transfer]:
    """The response to a GET, after redirects; `deadline_s` is a time of `time.monotonic`.

    A redirect may lead only to http and https, and not to a private, loopback, link-local, multicast or unspecified
    address, unless the first address was of that kind; with `public_only` the first may not be either. A user and
    password in `url` are sent only to its own host.
    Raises FetchError for a refused redirect and past the deadline, HTTPError for a status other than success, and
    OSError, ValueError or HTTPException for other failures.
    """
    origin = address = _parts(url)
    kinds = {PUBLIC} if public_only else None
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
    raise FetchError(f"{shown(url)} redirected more than {limits.redirects} times.", "redirects")


def shown(url: str) -> str:
    """The address without user and password, for messages."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def kind_of(address: str) -> str:
    """The kind of an IP address: PUBLIC, "private", "loopback", "link-local", "multicast" or "unspecified". An IPv6
    address that embeds an IPv4 address is of the latter's kind."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and (inner := _version_4(found)):
        return kind_of(str(inner))
    for kind in ("unspecified", "loopback", "link_local", "multicast"):
        if getattr(found, f"is_{kind}"):
            return kind.replace("_", "-")
    return PUBLIC if found.is_global else "private"


def _version_4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address in _NAT64 or (0xFFFF < int(address) < 1 << 32):  # the latter: deprecated "compatible" addresses
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise FetchError(f"{url:.300} is not an address ({error}).", "no address") from error
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise FetchError(f"{shown(url):.300} is not an http or https address.", "no address")
    return parts


def _redirected(here: SplitResult, to: str) -> SplitResult:
    try:
        parts = _parts(urljoin(urlunsplit(here), to.strip()))
    except ValueError as error:
        raise FetchError(f"it leads to {to!r:.300}, which is not an address ({error}).", "no address") from error
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="")  # a redirect's password is not used


def _credentials(origin: SplitResult, address: SplitResult) -> dict[str, str]:
    """The header for the user and password in `origin`, if the address has the same host, port and scheme."""
    same = (origin.scheme, origin.hostname, origin.port) == (address.scheme, address.hostname, address.port)
    if not same or origin.username is None:
        return {}
    credentials = f"{unquote(origin.username)}:{unquote(origin.password or '')}"
    return {"Authorization": f"Basic {base64.b64encode(credentials.encode()).decode()}"}


@contextlib.contextmanager
def _asked(
    address: SplitResult, headers: Mapping[str, str], kinds: set[str] | None, deadline_s: float, limits: FetchLimits
) -> Iterator[tuple[Any, "_Guard"]]:
    """The response, or the HTTPError of a redirect or refusal, and the guard of its connection."""
    guard = _Guard(kinds, deadline_s)
    proxied = address.scheme.lower() in getproxies() and not proxy_bypass(address.netloc.rpartition("@")[2])
    if proxied:  # the user's proxy may have any address; the requested host is checked by name
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
            if guard.is_cut:  # during the headers: http.client accepts partial ones
                raise ConnectionError
            yield answer, guard
    except (OSError, http.client.HTTPException) as error:
        if isinstance(refused := getattr(error, "reason", None), FetchError):  # in a URLError
            raise refused from error
        if isinstance(error, FetchError | HTTPError) or not guard.is_cut:
            raise
        if time.monotonic() >= deadline_s:
            raise _too_long(limits) from error
        raise TimeoutError(f"there was no response within {ANSWER_S:.0f} s") from error
    finally:
        guard.close()


def _too_long(limits: FetchLimits) -> FetchError:
    return FetchError(f"it took longer than {limits.deadline_s:,.0f} s.", "deadline")


class _Guard:
    """Connects only to addresses of the allowed `kinds` (None: all), and cuts a connection that takes too long: a
    server may send single bytes without end."""

    def __init__(self, kinds: set[str] | None, deadline_s: float):
        self._kinds, self._deadline_s = kinds, deadline_s
        self._twin: socket.socket | None = None
        self.kind, self.is_cut, self._is_named = PUBLIC, False, False

    def check_name(self, host: str) -> None:
        """Check a host that a proxy connects to. Raises FetchError if its name resolves to no allowed address here."""
        self._is_named = True
        with contextlib.suppress(socket.gaierror):  # a proxy may resolve names that this machine cannot
            self.kind = self._allowed(host, 0)[0][1]

    def connect(self, address: tuple[str, int], timeout: float, source_address: object = None) -> socket.socket:
        """As `socket.create_connection`. Raises FetchError if no address of the host is allowed."""
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
        """Cut the connection if the block is not done in time."""
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
        """Close the guard's handle of the connection."""
        if self._twin is not None:
            self._twin.close()


def _connection(kind: Any, guard: _Guard, *arguments: Any, **options: Any) -> Any:
    made = kind(*arguments, **options)
    made._create_connection = guard.connect  # http.client connects with it, also for a tunnel through a proxy
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
    """Follows no redirect, so that each is checked."""

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> None:
        """Leave the redirect to become an HTTPError."""

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302  # type: ignore[assignment]
