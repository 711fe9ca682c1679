"""The deadline of the request that is being answered."""

from __future__ import annotations

import math
import re
import time
from contextvars import ContextVar

from diptych.serve.web.problems import RequestProblem

DEADLINE: ContextVar[float] = ContextVar("deadline", default=math.inf)  # of time.monotonic
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*(\d{1,6}(?:\.\d{1,3})?)", re.ASCII | re.IGNORECASE)


def deadline_of(prefer: str, longest_s: float) -> float:
    """The deadline by `Prefer: wait=5` (RFC 7240), at most `longest_s` from now."""
    wanted = _WAIT.search(prefer)
    return time.monotonic() + (min(float(wanted[1]), longest_s) if wanted else longest_s)


def remaining_s() -> float | None:
    """The seconds that are left; None without a deadline. Raises RequestProblem if none are."""
    left = DEADLINE.get() - time.monotonic()
    if left <= 0:
        raise too_late()
    return None if left == math.inf else left


def too_late() -> RequestProblem:
    """504."""
    return RequestProblem(504, "DeadlineError", "the deadline has passed.", remedy="Ask for less, or allow more time.")
