"""Work on samples in threads of this process, some pieces ahead: Pillow releases the interpreter lock while it decodes.

The threads are daemons and not an executor's, because the interpreter would wait for an executor's reads at exit, and a
read may hang for minutes.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Generic, TypeVar

from diptych.data.loading.plan import Pick
from diptych.data.loading.stream import set_future_result

Result = TypeVar("Result")


class Threads(Generic[Result]):
    """`count` threads that do `work` on lists of picks. Results are returned in the order of `submit`; at most `room`
    may be submitted and not yet returned. Use as a context manager."""

    def __init__(self, count: int, work: Callable[[list[Pick]], Result], ahead: int = 4):
        self.room, self._work = 1 + max(count, ahead), work
        self._waiting: deque[Future[Result]] = deque()
        self._orders: SimpleQueue[tuple[Future[Result], list[Pick]] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._follow, daemon=True, name=f"diptych-loader-{number}")
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> "Threads[Result]":
        return self

    def __exit__(self, *_: object) -> None:
        for future in self._waiting:
            future.cancel()
        for _thread in self._threads:
            self._orders.put(None)

    def submit(self, picks: list[Pick]) -> None:
        """Order work on some picks."""
        future: Future[Result] = Future()
        self._waiting.append(future)
        self._orders.put((future, picks))

    def result(self) -> Result:
        """The oldest submitted result. Raises what the work raised."""
        return self._waiting.popleft().result()

    def _follow(self) -> None:
        """Works on orders until None is ordered."""
        while order := self._orders.get():
            future, picks = order
            set_future_result(future, self._work, picks)
            del order, future, picks  # frees a fetched shard, so that its files can be removed
