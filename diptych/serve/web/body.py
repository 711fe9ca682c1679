"""The bodies of requests as they come: how long one may be, how slowly it may come, and how much all may hold."""

from __future__ import annotations

import asyncio
import time

from starlette.types import Message, Receive

from diptych.serve.web.deadline import DEADLINE, deadline_of
from diptych.serve.web.problems import RequestProblem, busy

COMING_S, LEAST_RATE = 20.0, 16 * 1024  # a body may take this long, and a second more for so many bytes of it


class Bodies:
    """The bodies of all requests that are being answered, `most_bytes` together."""

    def __init__(self, most_bytes: int):
        self.most_bytes, self.held_bytes = most_bytes, 0


class BodyReader:
    """Receives a body of at most `limit` bytes. The deadline of the request runs anew once it is whole, so that a slow
    line does not use it up. `close` it."""

    def __init__(self, receive: Receive, bodies: Bodies, limit: int, prefer: str, longest_s: float):
        self._receive, self._bodies, self._limit = receive, bodies, limit
        self._prefer, self._longest_s = prefer, longest_s
        self._started, self._received, self._is_whole = time.monotonic(), 0, False

    async def read(self) -> Message:
        """The next part. Raises RequestProblem for a body that is too large (413) or too slow (408), and where all
        together are too large (429)."""
        if self._is_whole:
            return await self._receive()
        left_s = self._started + COMING_S + self._received / LEAST_RATE - time.monotonic()
        try:
            async with asyncio.timeout(left_s):
                message = await self._receive()
        except TimeoutError:
            raise too_slow(self._received) from None
        self._hold(len(message.get("body", b"")))
        if not message.get("more_body", False):
            self._is_whole = True
            if self._received:
                DEADLINE.set(deadline_of(self._prefer, self._longest_s))
        return message

    def close(self) -> None:
        """Hold nothing any more."""
        self._bodies.held_bytes -= self._received
        self._received = 0

    def _hold(self, size: int) -> None:
        self._received += size
        self._bodies.held_bytes += size
        if self._received > self._limit:
            raise too_large(self._limit)
        if self._bodies.held_bytes > self._bodies.most_bytes:
            raise busy("the bodies of other requests take all the room.")


def too_large(limit: int) -> RequestProblem:
    """413."""
    return RequestProblem(413, "TooLargeError", f"the body is larger than {limit:,} bytes.", remedy="Send less.")


def too_slow(received: int) -> RequestProblem:
    """408."""
    return RequestProblem(
        408, "DeadlineError", f"the body did not come in time; {received:,} bytes of it did.",
        remedy="Send it faster, or less.", headers={"Connection": "close"},
    )  # fmt: skip
