"""Which addresses may be asked: names are resolved here, checked, and connected to as they were checked.

A list comes from a stranger, and its names may lead into the network of whoever downloads it: to a router, to a cloud's
metadata service, to a service of this machine. So a host must be public, unless its own network was allowed, or the
host is of the list's owner. A name that resolves to several addresses is asked only at those that pass. What was
checked is what is connected to, so that a name that resolves otherwise a moment later (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urljoin, urlsplit

from diptych.collect.addresses import normalized
from diptych.errors import ArgumentError, FetchError
from diptych.untrusted.downloading import PUBLIC, kind_of

Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"
Lookup: TypeAlias = Callable[[str], Awaitable[Sequence[str]]]  # the IP addresses of a name

KEPT_S, FAILED_S = 300.0, 60.0  # how long an answer is kept, and how long that there was none
_LOOKUPS = 64  # at a time: a dead name server takes many seconds for each
_MOST_NAMES = 200_000


def listed(url: str, within: str = "") -> str:
    """An address of a list, or of a redirect `within` another, normalized. Raises FetchError for anything else than
    http and https, also with a user and password in it."""
    found = normalized(url, within, is_page=False)
    if found is None:
        raise FetchError(f"{url:.300} is not an http or https address.", "no address")
    if "@" in url and urlsplit(urljoin(within, url.strip())).username is not None:
        raise FetchError("an address with a user and password in it is not asked.", "no address")
    return found


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
        self._allowed: dict[tuple[str, bool], bool] = {}  # whether an IP address is, by whether its host is owned
        self._asked: dict[str, asyncio.Future[Sequence[str]]] = {}

    async def checked(self, host: str, *, is_owned: bool | None = None) -> Sequence[str]:
        """The IP addresses of a host that may be connected to. `is_owned` None: as `reach` says of the host; False for
        a host that a stranger's redirect leads to. Raises FetchError if there are none."""
        found = await self._resolved(host)
        if not found:
            raise FetchError(f"{host} has no address.", "unknown host")
        owned = self.reach.owns(host) if is_owned is None else is_owned
        if allowed := [each for each in found if self._allows(each, owned)]:
            return allowed
        raise FetchError(
            f"{host} leads to a {kind_of(found[0])} address ({found[0]}); wanted a public one, or a network that was "
            "allowed.",
            "no public address",
        )

    def close(self) -> None:
        """Give the threads back; lookups that are under way end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _allows(self, address: str, is_owned: bool) -> bool:
        allowed = self._allowed.get((address, is_owned))
        if allowed is None:
            if len(self._allowed) >= _MOST_NAMES:
                self._allowed.clear()
            allowed = self._allowed[address, is_owned] = self.reach.allows(address, is_owned=is_owned)
        return allowed

    async def _resolved(self, host: str) -> Sequence[str]:
        until, known = self._known.get(host, (0.0, ()))
        if time.monotonic() < until:
            return known
        try:
            return self._keep(host, [str(ipaddress.ip_address(host))], math.inf)
        except ValueError:
            pass
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
        return self._keep(host, found, KEPT_S if found else FAILED_S)

    def _keep(self, host: str, found: Sequence[str], seconds: float) -> Sequence[str]:
        if len(self._known) >= _MOST_NAMES:
            self._known.clear()
        self._known[host] = (time.monotonic() + seconds, found)
        return found

    async def _of_system(self, host: str) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _system_addresses, host)
        return list(dict.fromkeys(found))


def _system_addresses(host: str) -> list[str]:
    return [str(each[4][0]) for each in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
