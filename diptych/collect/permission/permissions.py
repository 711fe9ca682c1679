"""What all hosts permit, as far as it is known, and what is to be fetched to know it."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from diptych.collect.addresses import PORTS
from diptych.collect.permission.reservations import TDM, TDM_PATH, TdmRules
from diptych.collect.permission.robots import ROBOTS, RobotsRules

KEPT_S = 24 * 3600.0  # RFC 9309, section 2.4
MAX_ORIGINS = 100_000


def origin_of(url: str) -> str:
    """Scheme, host and port: what one robots.txt speaks for. Raises ValueError for no address of http or https."""
    parts = urlsplit(url)
    scheme, host = parts.scheme.lower(), parts.hostname
    if scheme not in PORTS or not host:
        raise ValueError(f"{url:.200} is not an http or https address.")
    port = parts.port
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}" + (f":{port}" if port not in (None, PORTS[scheme]) else "")


@dataclass
class _Origin:
    robots: RobotsRules | None = None
    tdm: TdmRules | None = None
    learnt_s: float = 0.0


class Permissions:
    """The rules of each host, by origin. Before a request to `url`: while `missing(url)` names an address, fetch it and
    `learn` what came; then ask `refusal(url)`. The rules of a host are kept for a day.

    `own_hosts` are host names whose owner runs this: they need no permission of themselves.
    """

    def __init__(self, *, own_hosts: Collection[str] = (), clock: Callable[[], float] = time.monotonic):
        self._own, self._clock = {host.lower() for host in own_hosts}, clock
        self._origins: OrderedDict[str, _Origin] = OrderedDict()
        self._latest = ("", "")  # an address and its origin: it is asked about several times in a row

    def missing(self, url: str) -> str | None:
        """The address that has to be fetched before `url` may be asked for: the host's robots.txt, then its tdmrep.json
        if robots.txt permits both; None if all is known. Raises ValueError for no http(s) address."""
        start = self._origin_of(url)
        if self._is_own(start):
            return None
        known = self._known(start)
        if known.robots is None:
            return f"{start}/robots.txt"
        file = start + TDM_PATH
        return file if known.tdm is None and known.robots.allows(url) and known.robots.allows(file) else None

    def learn(self, address: str, body: bytes, status: int) -> None:
        """Note the answer to a request for an address that `missing` named, after its redirects; `status` 0 stands for
        no answer."""
        known = self._known(origin_of(address))
        if urlsplit(address).path == TDM_PATH:
            known.tdm = TdmRules.parse(body) if 200 <= status < 300 else TdmRules()
        else:
            known.robots, known.learnt_s = RobotsRules.parse(body, status), self._clock()

    def refusal(self, url: str) -> str | None:
        """The reason for which `url` may not be requested, or None. Raises LookupError if `missing(url)` names
        something."""
        start = self._origin_of(url)
        if self._is_own(start):
            return None
        if address := self.missing(url):
            raise LookupError(f"{address} has to be fetched first.")
        known = self._known(start)
        assert known.robots is not None
        if not known.robots.allows(url):
            return known.robots.refuses_all or ROBOTS
        return TDM if known.tdm is not None and known.tdm.refuses(_path(url)) else None

    def delay_s(self, url: str) -> float | None:
        """The pause that the host of `url` asks for, in seconds; None if it asks for none, or is not known yet."""
        robots = self._known(origin_of(url)).robots
        return None if robots is None or self._is_own(origin_of(url)) else robots.delay_s

    def _origin_of(self, url: str) -> str:
        if self._latest[0] != url:
            self._latest = url, origin_of(url)
        return self._latest[1]

    def _is_own(self, origin: str) -> bool:
        return bool(self._own) and (urlsplit(origin).hostname or "") in self._own

    def _known(self, origin: str) -> _Origin:
        known = self._origins.get(origin)
        if known is None or (known.robots is not None and self._clock() - known.learnt_s > KEPT_S):
            known = self._origins[origin] = _Origin()
        self._origins.move_to_end(origin)
        while len(self._origins) > MAX_ORIGINS:
            self._origins.popitem(last=False)
        return known


def _path(url: str) -> str:
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
