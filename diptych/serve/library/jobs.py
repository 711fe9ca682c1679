"""Work that takes long, done once for each state of the index in a thread of its own: duplicates and the map."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from diptych.serve.web.problems import busy

KEPT, MOST_WAITING = 16, 4
Progress = Callable[[int, int], None]


@dataclass(eq=False)
class Job:
    """`state` is running, done or failed; `done` of `total` steps are finished."""

    name: str
    state: str = "running"
    done: int = 0
    total: int = 0
    result: Any = None
    error: Exception | None = None

    def progress(self, done: int, total: int) -> None:
        """Note how far it is."""
        self.done, self.total = done, total

    def status(self) -> dict[str, Any]:
        """What an event says of it."""
        return {"name": self.name, "state": self.state, "done": self.done, "total": self.total}


class Jobs:
    """The last KEPT jobs, at most two running at a time: a map may take minutes."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[tuple[Any, ...], Job] = OrderedDict()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="jobs")

    def get(self, name: str, key: tuple[Any, ...], work: Callable[[Progress], Any]) -> Job:
        """The job of this name and key; it is started if there is none. One that failed is forgotten once it is
        returned. Raises RequestProblem (429) where MOST_WAITING others wait already."""
        with self._lock:
            job = self._jobs.get((name, *key))
            if job is None:
                if sum(each.state == "running" for each in self._jobs.values()) > MOST_WAITING:
                    raise busy(f"{MOST_WAITING} others are to be done first.")
                job = self._jobs[(name, *key)] = Job(name)
                self._submit(job, work)
                while len(self._jobs) > KEPT:
                    self._jobs.popitem(last=False)
            elif job.state == "failed":
                del self._jobs[(name, *key)]
            else:
                self._jobs.move_to_end((name, *key))
            return job

    def running(self) -> list[Job]:
        """The jobs that are not finished."""
        with self._lock:
            return [job for job in self._jobs.values() if job.state == "running"]

    def close(self) -> None:
        """Start no more. What runs is left to end with the process."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, job: Job, work: Callable[[Progress], Any]) -> None:
        try:
            self._pool.submit(self._run, job, work)
        except RuntimeError:  # the pool is shut down
            raise busy("the server is shutting down.") from None

    def _run(self, job: Job, work: Callable[[Progress], Any]) -> None:
        try:
            job.result = work(job.progress)
            job.state = "done"
        except Exception as error:
            job.error, job.state = error, "failed"
