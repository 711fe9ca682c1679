"""Which addresses may be asked: names are resolved here, checked, and connected to as they were checked.

A list comes from a stranger, and its names may lead into the network of whoever downloads it: to a router, to a cloud's
metadata service, to a service of this machine. So a host must be public, unless its own network was allowed, or the
host is of the list's owner. A name that resolves to several addresses is asked only at those that pass. What was
checked is what is connected to, so that a name that resolves otherwise a moment later (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from diptych.collect.host_names import ascii_host
from diptych.errors import ArgumentError, FetchError
from diptych.untrusted.downloading import PUBLIC, kind_of

Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"
Lookup: TypeAlias = Callable[[str], Awaitable[Sequence[str]]]  # the IP addresses of a name

KEPT_S, FAILED_S = 300.0, 60.0  # how long an answer is kept, and how long that there was none
_LOOKUPS = 64  # at a time: a dead name server takes many seconds for each
_MOST_NAMES = 200_000
_MAX_URL = 8_192  # characters
_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_SAFE = "!#$%&'()*+,/:;=?@[]~"  # RFC 3986, sections 2.2 and 2.3, and % of what is encoded already
_PORTS = {"http": 80, "https": 443}


def normalised(url: str, within: str = "") -> str:
    """An http or https address in the one form by which it is known here: scheme and host in lower case, the host in
    ASCII, without fragment and usual port, other characters percent-encoded. `within` is the address that
    it is relative to, for a redirect. Raises FetchError for anything else, also with a user and password in it."""
    url = url.strip()
    try:
        parts = urlsplit(urljoin(within, url) if within else url)
        host, port, scheme = parts.hostname or "", parts.port, parts.scheme.lower()
        host = ascii_host(host)
    except ValueError as error:
        raise FetchError(f"{url:.300} is not an address ({error}).", "no address") from error
    if scheme not in _PORTS or not host or _CONTROL.search(host) or len(url) > _MAX_URL:
        raise FetchError(f"{url:.300} is not an http or https address.", "no address")
    if parts.username is not None or parts.password is not None:
        raise FetchError("an address with a user and password in it is not asked.", "no address")
    name = f"[{host}]" if ":" in host else host.rstrip(".")
    netloc = name if port in (None, _PORTS[scheme]) else f"{name}:{port}"
    path, query = (quote(each, safe=_SAFE, errors="replace") for each in (parts.path, parts.query))
    return urlunsplit((scheme, netloc, path or "/", query, ""))


def host_of(url: str) -> str:
    """The host of a normalised address, without its port."""
    return urlsplit(url).hostname or ""


def origin_of(url: str) -> str:
    """Scheme, host and port of a normalised address (RFC 6454)."""
    return url[: url.index("/", url.index("//") + 2)]


def path_of(url: str) -> str:
    """What follows the origin."""
    return url[len(origin_of(url)) :]


@dataclass(frozen=True)
class Reach:
    """What may be asked besides public addresses: `networks` that were allowed, and hosts that the list's owner
    `owned` says are theirs, wherever they are."""

    networks: tuple[Network, ...] = ()
    owned: frozenset[str] = frozenset()

    @classmethod
    def of(cls, networks: Sequence[str] = (), owned: Sequence[str] = ()) -> Reach:
        """Of texts: networks such as 10.0.0.0/8, and names of hosts. Raises ArgumentError."""
        try:
            allowed = tuple(ipaddress.ip_network(each) for each in networks)
        except ValueError as error:
            raise ArgumentError(f"{error}; wanted a network such as 10.0.0.0/8.", argument="networks") from error
        if odd := [each for each in owned if "/" in each or not each.strip()]:
            raise ArgumentError(f"{odd[0]!r:.80} is not a host; wanted a name such as example.org.", argument="owned")
        return cls(allowed, frozenset(each.strip().lower().rstrip(".") for each in owned))

    def owns(self, host: str) -> bool:
        """Whether the list's owner said that the host is theirs."""
        return host in self.owned

    def allows(self, address: str, *, is_owned: bool = False) -> bool:
        """Whether an IP address may be connected to."""
        if is_owned or kind_of(address) == PUBLIC:
            return True
        found = ipaddress.ip_address(address.partition("%")[0])
        return any(found.version == network.version and found in network for network in self.networks)


class Resolver:
    """Names to checked IP addresses, kept for a while."""

    def __init__(self, reach: Reach, lookup: Lookup | None = None):
        """`lookup` replaces the system's resolver."""
        self.reach = reach
        self._lookup = lookup or self._of_system
        self._threads = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="names")
        self._known: dict[str, tuple[float, Sequence[str]]] = {}
        self._asked: dict[str, asyncio.Future[Sequence[str]]] = {}

    async def checked(self, host: str, *, is_owned: bool | None = None) -> Sequence[str]:
        """The IP addresses of a host that may be connected to. `is_owned` None: as `reach` says of the host; False for
        a host that a stranger's redirect leads to. Raises FetchError if there are none."""
        found = await self._resolved(host)
        if not found:
            raise FetchError(f"{host} has no address.", "unknown host")
        owned = self.reach.owns(host) if is_owned is None else is_owned
        if allowed := [each for each in found if self.reach.allows(each, is_owned=owned)]:
            return allowed
        raise FetchError(
            f"{host} leads to a {kind_of(found[0])} address ({found[0]}); wanted a public one, or a network that was "
            "allowed.",
            "no public address",
        )

    def close(self) -> None:
        """Give the threads back; lookups that are under way end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _resolved(self, host: str) -> Sequence[str]:
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass
        until, known = self._known.get(host, (0.0, ()))
        if time.monotonic() < until:
            return known
        if host not in self._asked:  # one lookup for all who wait
            self._asked[host] = asyncio.ensure_future(self._looked_up(host))
        return await asyncio.shield(self._asked[host])

    async def _looked_up(self, host: str) -> Sequence[str]:
        found: Sequence[str] = ()
        try:
            found = await self._lookup(host)
        except (OSError, UnicodeError):
            pass
        finally:
            self._asked.pop(host, None)
        if len(self._known) >= _MOST_NAMES:
            self._known.clear()
        self._known[host] = (time.monotonic() + (KEPT_S if found else FAILED_S), found)
        return found

    async def _of_system(self, host: str) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _system_addresses, host)
        return list(dict.fromkeys(found))


def _system_addresses(host: str) -> list[str]:
    return [str(each[4][0]) for each in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
