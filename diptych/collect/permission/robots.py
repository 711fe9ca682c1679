"""robots.txt (RFC 9309), with the directives that it lacks: Crawl-delay and Request-rate."""

from __future__ import annotations

import codecs
import math

from protego import Protego

from diptych.collect.permission.agent import PRODUCT

MAX_BYTES = 500 * 1024  # the least that a crawler has to read (RFC 9309, section 2.5); the rest is left out
MAX_REDIRECTS = 5  # RFC 9309, section 2.3.1.2
ROBOTS, UNREACHABLE, CLOSED = "robots.txt", "robots.txt unreachable", "robots.txt refused"
_BYTE_ORDER_MARKS = ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


class RobotsRules:
    """What one host's robots.txt permits. `refuses_all` is the reason if nothing may be asked of the host, else
    None."""

    def __init__(self, text: str = "", refuses_all: str | None = None):
        self.refuses_all = refuses_all
        self._rules = Protego.parse(text)

    @classmethod
    def parse(cls, body: bytes, status: int) -> RobotsRules:
        """The rules in an answer to a request for robots.txt, after redirects; `status` 0 stands for no answer.

        A host without the file (4xx) permits everything; one that cannot answer (429, 5xx, none) permits nothing now
        (RFC 9309, sections 2.3.1.3 and 2.3.1.4). One that shows its rules to nobody (401, 403) permits nothing either,
        which is stricter than the RFC: it says that strangers are not welcome. A byte-order mark is removed, because
        with it the first User-agent is none.
        """
        if status in (401, 403):
            return cls(refuses_all=CLOSED)
        if not 200 <= status < 300 and (not 400 <= status < 500 or status == 429):
            return cls(refuses_all=UNREACHABLE)
        return cls(_text(body)) if status < 300 else cls()

    def allows(self, url: str) -> bool:
        """Whether this host's `url` may be requested."""
        return self.refuses_all is None and self._rules.can_fetch(url, PRODUCT)

    @property
    def delay_s(self) -> float | None:
        """Least seconds between the starts of two requests, if the host asks for any."""
        delays = [self._rules.crawl_delay(PRODUCT) or 0.0]
        if rate := self._rules.request_rate(PRODUCT):
            delays.append(rate.seconds / max(1, rate.requests))
        delay = max(delays)
        return delay if delay > 0 and math.isfinite(delay) else None


def _text(body: bytes) -> str:
    if len(body) > MAX_BYTES:
        body = body[:MAX_BYTES].rpartition(b"\n")[0]  # half a rule is none
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if body.startswith(mark)), "utf-8")
    return body.decode(encoding, "replace").replace("\ufeff", "").replace("\0", "")
