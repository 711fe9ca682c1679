"""One thread runs the model for all requests. What waits when the engine becomes free is embedded together: the text
that waits longest with those nearest to it in length, and pictures in another batch. Nothing waits while the engine is
idle."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from diptych.serve.web.deadline import too_late
from diptych.serve.web.problems import busy

if TYPE_CHECKING:
    from diptych.embedder import Embedder
    from diptych.text.tokenizer import Tokens

Kind = Literal["call", "text", "picture", "background"]
ROUND = {"call": 1, "text": 256, "picture": 32, "background": 32}  # inputs of one turn
# Inputs that are embedded together. Each text costs as much as the longest beside it, so few are taken, and the others
# wait for texts of their own length: from about 200 tokens on, a larger batch is hardly cheaper.
BATCH = ROUND | {"text": 16}
_CHOICE = 256  # jobs that wait, among which those of a batch are chosen
# In a turn each kind that waits gets its share; what is indexed in the background runs when nothing else waits.
_TURNS: tuple[Kind, ...] = ("call", "text", "picture")


@dataclass(eq=False)
class _Job:
    inputs: Sequence[Any]
    done: Future[Any]
    deadline: float = math.inf
    length: int = 0  # tokens of its longest text
    call: Callable[[], Any] | None = None


class EngineQueue:
    """The queue before a model. Its methods return futures of unit vectors, float32 (inputs, dim), and raise
    RequestProblem (429) where more than `most` inputs of a kind would wait."""

    def __init__(self, model: Embedder, *, most_texts: int = 4096, most_pictures: int = 256):
        self._model = model
        self._most = {"text": most_texts, "picture": most_pictures, "call": 32, "background": math.inf}
        self._waiting: dict[Kind, deque[_Job]] = {kind: deque() for kind in (*_TURNS, "background")}
        self._count: dict[str, int] = dict.fromkeys(self._waiting, 0)
        self._changed = threading.Condition()
        self._is_closed = False
        self.batches: dict[str, int] = dict.fromkeys(self._waiting, 0)
        self.embedded: dict[str, int] = dict.fromkeys(self._waiting, 0)
        self.seconds = 0.0  # that the engine was busy
        self._thread = threading.Thread(target=self._run, daemon=True, name="engine")
        self._thread.start()

    def texts(self, tokens: Tokens, deadline: float = math.inf) -> Future[np.ndarray]:
        """The vectors of texts, as `Embedder.tokenize` reads them in the thread that asks: that of the model would have
        to wait for other threads in between."""
        ids = [row[is_text] for row, is_text in zip(tokens.ids, tokens.mask, strict=True)]
        return self._put("text", _Job(ids, Future(), deadline, max(map(len, ids), default=0)))

    def pictures(
        self, pixels: Sequence[np.ndarray] | np.ndarray, deadline: float = math.inf, *, background: bool = False
    ) -> Future[np.ndarray]:
        """The vectors of pictures of the tower's size, each (size, size, 3) uint8. `background` gives way to all
        others."""
        return self._put("background" if background else "picture", _Job(list(pixels), Future(), deadline))

    def call(self, function: Callable[[], Any], deadline: float = math.inf) -> Future[Any]:
        """The result of another use of the model."""
        return self._put("call", _Job((None,), Future(), deadline, call=function))

    def waiting(self) -> dict[str, int]:
        """The inputs that wait, by kind."""
        return dict(self._count)

    def close(self, timeout_s: float | None = None) -> None:
        """Embed what waits, and end the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(timeout_s)

    def _put(self, kind: Kind, job: _Job) -> Future[Any]:
        if not len(job.inputs):
            job.done.set_result(np.empty((0, self._model.dim), np.float32))
            return job.done
        with self._changed:
            if self._is_closed:
                raise busy("the server is shutting down.")
            if self._count[kind] and self._count[kind] + len(job.inputs) > self._most[kind]:
                raise busy(f"{self._count[kind]:,} inputs wait for the model.")
            self._waiting[kind].append(job)
            self._count[kind] += len(job.inputs)
            self._changed.notify_all()
        return job.done

    def _run(self) -> None:
        while kinds := self._next_turn():
            for kind in kinds:
                left = ROUND[kind]
                while left > 0 and (batch := self._taken(kind)):
                    started = time.perf_counter()
                    self._embed(kind, batch)
                    self.seconds += time.perf_counter() - started
                    left -= _inputs_of(batch)

    def _next_turn(self) -> list[Kind]:
        """The kinds that run next; none once the queue is closed and nothing waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or any(self._waiting.values()))
            kinds: list[Kind] = [kind for kind in _TURNS if self._waiting[kind]]
            return kinds or (["background"] if self._waiting["background"] else [])

    def _taken(self, kind: Kind) -> list[_Job]:
        """The jobs of the next batch of a kind, without those that nobody waits for."""
        with self._changed:
            batch = list[_Job]()
            while not batch and (waiting := self._waiting[kind]):
                chosen = _chosen(waiting, BATCH[kind])
                left = set(waiting).difference(chosen)
                self._waiting[kind] = deque(job for job in waiting if job in left)
                self._count[kind] -= _inputs_of(chosen)
                batch = [job for job in chosen if _is_wanted(job)]
            return batch

    def _embed(self, kind: Kind, jobs: list[_Job]) -> None:
        self.batches[kind] += 1
        self.embedded[kind] += _inputs_of(jobs)
        try:
            results = self._results(kind, jobs)
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].done.set_exception(error)
                return
            for job in jobs:  # one of them is at fault, and costs itself alone
                self._embed(kind, [job])
            return
        for job, result in zip(jobs, results, strict=True):
            job.done.set_result(result)

    def _results(self, kind: Kind, jobs: list[_Job]) -> list[Any]:
        if kind == "call":
            return [job.call() for job in jobs if job.call]
        inputs = [each for job in jobs for each in job.inputs]
        vectors = self._model.embed_tokens(inputs) if kind == "text" else self._model.embed_pixels(np.stack(inputs))
        ends = np.cumsum([len(job.inputs) for job in jobs])
        return np.split(vectors, ends[:-1])


def _chosen(waiting: Iterable[_Job], most: int) -> list[_Job]:
    """The oldest job, and those nearest to it in length that fit into its batch."""
    oldest, *others = islice(waiting, _CHOICE)
    chosen, left = [oldest], most - len(oldest.inputs)
    for job in sorted(others, key=lambda job: abs(job.length - oldest.length)):
        if len(job.inputs) <= left:
            chosen.append(job)
            left -= len(job.inputs)
    return chosen


def _is_wanted(job: _Job) -> bool:
    """Whether somebody waits for it still; past its deadline that is the answer."""
    if not job.done.set_running_or_notify_cancel():
        return False
    if time.monotonic() <= job.deadline:
        return True
    job.done.set_exception(too_late())
    return False


def _inputs_of(jobs: Iterable[_Job]) -> int:
    return sum(len(job.inputs) for job in jobs)
