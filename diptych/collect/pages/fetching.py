"""Requests of a crawl, by Scrapy's downloader: nothing of Scrapy follows a redirect, tries again, keeps a cookie or
decides what may be asked for."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from scrapy import Request
from scrapy.exceptions import StopDownload
from scrapy.resolver import CachingThreadedResolver
from scrapy.settings import default_settings
from twisted.internet.error import DNSLookupError

from diptych.collect.permission.robots import MAX_BYTES as MAX_ROBOTS_BYTES
from diptych.untrusted.downloading import PUBLIC, kind_of

if TYPE_CHECKING:
    from scrapy.crawler import Crawler
    from scrapy.http import Headers
    from twisted.internet.defer import Deferred

_MOST_OF_RULES = 16 << 20  # bytes, also when a server packs them although it was asked not to
KINDS = "DIPTYCH_ADDRESS_KINDS"  # a setting: the kinds of addresses that may be connected to
PAGES = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.1"}
PICTURES = {"Accept": "image/*,*/*;q=0.1"}
RULES = {"Accept": "text/plain,application/json;q=0.9,*/*;q=0.1", "Accept-Encoding": "identity"}
_WANTED, _DEADLINE, _MOST = "diptych_wanted", "download_timeout", "download_maxsize"
_PAGE_TYPES = re.compile(
    r"\s*(?:text/html|application/xhtml\+xml|text/plain|application/octet-stream)?\s*(?:;|$)", re.I
)
_PICTURE_TYPES = re.compile(
    r"\s*(?:image/|application/octet-stream|binary/octet-stream|application/x-download|$)", re.I
)
NO_PAGE, NO_PICTURE, TOO_LARGE, TIMED_OUT = "not a page", "not a picture", "too large", "time-out"
NOT_FOUND, NOT_PUBLIC, CUT, NO_ANSWER = "no such host", "not public", "cut short", "no connection"


@dataclass(frozen=True)
class Answer:
    """What came: `status` 0 stands for no whole answer, and `reason` says why. Names of headers are in lower case, and
    several of one name are joined by commas."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    reason: str = ""


def settings(user_agent: str, kinds: Collection[str], requests: int) -> dict[str, Any]:
    """Scrapy's settings for a crawl: all that decides by itself is off."""
    resolver = "TWISTED_DNS_RESOLVER" if hasattr(default_settings, "TWISTED_DNS_RESOLVER") else "DNS_RESOLVER"
    return {
        resolver: PublicResolver, KINDS: [*kinds], "USER_AGENT": user_agent, "CONCURRENT_REQUESTS": requests,
        "CONCURRENT_REQUESTS_PER_DOMAIN": 1, "DOWNLOAD_DELAY": 0, "RANDOMIZE_DOWNLOAD_DELAY": False,
        "ROBOTSTXT_OBEY": False, "REDIRECT_ENABLED": False, "METAREFRESH_ENABLED": False, "RETRY_ENABLED": False,
        "COOKIES_ENABLED": False, "HTTPPROXY_ENABLED": False, "HTTPCACHE_ENABLED": False, "AUTOTHROTTLE_ENABLED": False,
        "TELNETCONSOLE_ENABLED": False, "LOGSTATS_INTERVAL": 0, "LOG_LEVEL": "CRITICAL", "LOG_ENABLED": False,
        "LOG_INSTALL_ROOT_HANDLER": False,
        "MEMUSAGE_ENABLED": False, "DOWNLOAD_FAIL_ON_DATALOSS": True, "DOWNLOAD_WARNSIZE": 0, "DNS_TIMEOUT": 20,
        "DEFAULT_REQUEST_HEADERS": {"Accept-Language": "*"}, "REFERER_ENABLED": False,
    }  # fmt: skip


def kinds_of(urls: Collection[str]) -> set[str]:
    """The kinds of addresses that a crawl from these may reach: public ones, and those of the start addresses
    themselves, as `diptych.untrusted.downloading` allows for redirects."""
    kinds = {PUBLIC}
    for url in urls:
        with contextlib.suppress(OSError, UnicodeError):
            for found in socket.getaddrinfo(urlsplit(url).hostname, 0, type=socket.SOCK_STREAM):
                kinds.add(kind_of(str(found[4][0])))
    return kinds


class PublicResolver(CachingThreadedResolver):
    """Resolves names to addresses of allowed kinds alone; the connection is made to what was checked."""

    kinds: Collection[str] = (PUBLIC,)

    @classmethod
    def from_crawler(cls, crawler: Crawler, reactor: Any) -> PublicResolver:
        made = super().from_crawler(crawler, reactor)
        made.kinds = frozenset(crawler.settings.getlist(KINDS))
        return made

    def getHostByName(self, name: str, timeout: Any = ()) -> Deferred[str]:
        # What is cached was not checked: each answer is
        return super().getHostByName(name, timeout).addCallback(self._checked)

    def _checked(self, address: str) -> str:
        if kind_of(address) not in self.kinds:
            raise NotPublicError(address)
        return address


class NotPublicError(DNSLookupError):
    """A name leads to an address that this crawl may not connect to."""


class Fetcher:
    """Asks for one address and gives what came, whatever that was."""

    def __init__(self, crawler: Crawler, deadline_s: float):
        from scrapy import signals

        self._crawler, self._deadline_s = crawler, deadline_s
        self._kinds = frozenset(crawler.settings.getlist(KINDS))
        crawler.signals.connect(self._on_headers, signals.headers_received)
        crawler.signals.connect(self._on_bytes, signals.bytes_received)

    async def get(self, url: str, wanted: dict[str, str], most_bytes: int) -> Answer:
        """The answer to a GET of a normalized address, within the deadline: redirects are answers as any other."""
        if self._is_forbidden_address(url):
            return Answer(0, reason=NOT_PUBLIC)
        kind = "page" if wanted is PAGES else "picture" if wanted is PICTURES else "rules"
        meta = {_WANTED: kind, _DEADLINE: self._deadline_s, _MOST: most_bytes or _MOST_OF_RULES}
        request = Request(url, headers=wanted, meta=meta, dont_filter=True)
        assert self._crawler.engine is not None
        try:
            response = await self._crawler.engine.download_async(request)
        except Exception as error:
            return Answer(0, reason=_reason(error))
        return Answer(response.status, _headers(response.headers), response.body, _flag(request))

    def _is_forbidden_address(self, url: str) -> bool:
        host = (urlsplit(url).hostname or "").strip("[]")
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return kind_of(host) not in self._kinds

    def _on_headers(self, headers: Headers, request: Request, **_: Any) -> None:
        """Leave the body of what is no page or picture where it is."""
        kind, found = request.meta.get(_WANTED), _headers(headers).get("content-type", "")
        if kind == "page" and not _PAGE_TYPES.match(found):
            request.meta["diptych_flag"] = NO_PAGE
        elif kind == "picture" and not _PICTURE_TYPES.match(found):
            request.meta["diptych_flag"] = NO_PICTURE
        else:
            return
        raise StopDownload(fail=False)

    def _on_bytes(self, data: bytes, request: Request, **_: Any) -> None:
        """Of a gigantic robots.txt the start counts (RFC 9309, section 2.5)."""
        if request.meta.get(_WANTED) == "rules":
            received = request.meta["diptych_bytes"] = request.meta.get("diptych_bytes", 0) + len(data)
            if received > 2 * MAX_ROBOTS_BYTES:
                raise StopDownload(fail=False)


def _flag(request: Request) -> str:
    return str(request.meta.get("diptych_flag", ""))


def _headers(headers: Headers) -> dict[str, str]:
    return {
        name.decode("latin-1").lower(): ",".join(value.decode("latin-1") for value in values)
        for name, values in headers.items()
    }


_REASONS = (
    ("NotPublicError", NOT_PUBLIC), ("DNSLookupError", NOT_FOUND), ("CannotResolveHostError", NOT_FOUND),
    ("DownloadCancelledError", TOO_LARGE), ("DownloadTimeoutError", TIMED_OUT), ("TimeoutError", TIMED_OUT),
    ("ResponseDataLossError", CUT), ("ResponseFailed", CUT), ("DownloadFailedError", CUT),
)  # fmt: skip


def _reason(error: Exception) -> str:
    """By the names of the error and of what caused it: Scrapy wraps Twisted's errors since 2.14."""
    chain: list[BaseException | None] = [error, error.__cause__, error.__context__]
    names = {kind.__name__ for each in chain if each is not None for kind in type(each).__mro__}
    return next((reason for name, reason in _REASONS if name in names), NO_ANSWER)
