"""Bounds the bytes of pictures that are in memory at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable

USUAL_BYTES = 256 << 20
_STEP = 256 << 10  # for an answer that does not say its length
_OPEN_UNTIL = 0.75  # the share of the room from which on nothing new is asked for


class Room:
    """Bytes that may be held. Who holds some either needs no more, or may overdraw alone: so nobody waits in a circle,
    and no more is held than `total` and one answer."""

    def __init__(self, total: int = USUAL_BYTES):
        self.total, self.used, self.peak = total, 0, 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._opening: deque[asyncio.Future[None]] = deque()
        self._overdraft = asyncio.Lock()

    async def open(self) -> None:
        """Wait until there is room to begin with something new."""
        while self.used > _OPEN_UNTIL * self.total:
            waiter = asyncio.get_running_loop().create_future()
            self._opening.append(waiter)
            await waiter

    async def take(self, number: int) -> None:
        """Wait until so many bytes are free, and hold them; a larger number than there is waits for all."""
        if self._waiting or not self._fits(number):
            await self._wait(number)
        else:
            self._hold(number)

    def release(self, number: int) -> None:
        """Give bytes back."""
        self.used -= number
        while self._waiting and self._fits(self._waiting[0][0]):
            number, waiter = self._waiting.popleft()
            if not waiter.done():
                self._hold(number)
                waiter.set_result(None)
        while self._opening and self.used <= _OPEN_UNTIL * self.total:  # all of them: none holds anything yet
            if not (opening := self._opening.popleft()).done():
                opening.set_result(None)

    async def read(self, blocks: AsyncIterable[bytes], length: int | None, max_bytes: int) -> bytes | None:
        """The whole of an answer, for which room is held then: as much as its length. None, with nothing held, if it is
        longer than `max_bytes`. `length` is what the answer says."""
        if length is not None and length > max_bytes:
            return None
        held, kept, overdraws = _STEP if length is None else length, 0, False
        await self.take(held)
        parts, size = list[bytes](), 0
        try:
            async for block in blocks:
                parts.append(block)
                size += len(block)
                if size > max_bytes:
                    return None
                while size > held:
                    if not overdraws and not self._fits(_STEP):
                        await self._overdraft.acquire()
                        overdraws = True
                    self._hold(_STEP)
                    held += _STEP
            kept = size
            return b"".join(parts)
        finally:
            if overdraws:
                self._overdraft.release()
            self.release(held - kept)

    def _fits(self, number: int) -> bool:
        return self.used == 0 or self.used + number <= self.total

    def _hold(self, number: int) -> None:
        self.used += number
        self.peak = max(self.peak, self.used)

    async def _wait(self, number: int) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append((number, waiter))
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():  # it was given just before
                self.release(number)
            raise
