"""How often one host is asked: never faster than it wishes, slower while it is slow or says that it is too much."""

from __future__ import annotations

import math
import time
from email.utils import parsedate_to_datetime

USUAL_DELAY_S, MOST_DELAY_S = 1.0, 120.0
_TOO_MUCH = {429, 503}


class HostPace:
    """When the next request to one host may start. All times are of one clock, in seconds, such as `time.monotonic`.

    The pause follows the host's own time to answer, half way at each answer, so that about one request at a time is on
    its way, and stays between `delay_s` and `most_s` (the rule of Scrapy's AutoThrottle, with `concurrency` 1). It
    doubles after an answer that says "too much" (429, 503) and after none (status 0).
    """

    def __init__(self, delay_s: float = USUAL_DELAY_S, *, most_s: float = MOST_DELAY_S, concurrency: float = 1.0):
        self.delay_s = self._least_s = delay_s
        self._most_s, self._concurrency = max(most_s, delay_s), concurrency
        self._next_s = -math.inf

    def ask_for(self, delay_s: float | None) -> None:
        """Never pause less than this: the host's own Crawl-delay."""
        if delay_s is not None:
            self._least_s = max(self._least_s, delay_s)
            self._most_s = max(self._most_s, self._least_s)
            self.delay_s = max(self.delay_s, self._least_s)

    def wait_s(self, now_s: float) -> float:
        """Seconds until the next request may start; 0 if it may now."""
        return max(0.0, self._next_s - now_s)

    def begin(self, now_s: float) -> None:
        """A request starts."""
        self._next_s = max(self._next_s, now_s + self.delay_s)

    def end(self, now_s: float, took_s: float, status: int, retry_after: str = "") -> None:
        """A request ended after `took_s` with this status (0: no answer) and Retry-After header."""
        if status in _TOO_MUCH or status == 0:
            self.delay_s = min(self._most_s, max(self.delay_s * 2, took_s))
            self._next_s = max(self._next_s, now_s + max(self.delay_s, retry_after_s(retry_after) or 0.0))
            return
        followed = (self.delay_s + took_s / self._concurrency) / 2
        is_well = 200 <= status < 400
        if is_well or followed > self.delay_s:  # an error that comes quickly is no reason to hurry
            self.delay_s = min(self._most_s, max(self._least_s, followed))


def retry_after_s(value: str, *, now_s: float | None = None) -> float | None:
    """The seconds that a Retry-After header asks for: a number, or a date (RFC 9110, section 10.2.3), counted from
    `now_s` (seconds since 1970). None if it is neither."""
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        moment = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, moment - (time.time() if now_s is None else now_s))
