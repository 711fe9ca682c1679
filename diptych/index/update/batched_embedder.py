"""Vectors for files as they are read: their parts go to the model in batches, while the next files are being read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from diptych.media.items import Contents, Part

if TYPE_CHECKING:
    from diptych.embedder import Embedder

BATCH = 32
_AHEAD = 2  # batches that wait for the model; more would only hold pixels in memory

# What tells one part of a file from another, and two that have the same vector if their bytes are the same
Key = tuple[str, float | None, str | None]


def key_of(part: Part) -> Key:
    """A picture's frame by its time, a text by its words."""
    return ("picture", part.at_s, None) if part.text is None else ("text", None, part.text)


@dataclass
class _Work:
    """A file whose vectors are being made: one (dim,) float16 a part, or why there is none."""

    contents: Contents
    vectors: list[np.ndarray | str | None]
    missing: int


class _Job(NamedTuple):
    work: _Work
    at: int


class Encoder:
    """Takes files with their parts and gives them back, in no fixed order, with a vector for each part.

    A part that the model cannot embed is taken out of its file;
    a file that loses all of them so has a failure in their place.
    """

    def __init__(self, model: Embedder):
        self._model = model
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="encoder")
        self._waiting: dict[str, list[_Job]] = {"picture": [], "text": []}
        self._running: deque[tuple[list[_Job], Future[list[np.ndarray | str]]]] = deque()
        self._done: deque[_Work] = deque()

    def __enter__(self) -> Encoder:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def add(self, contents: Contents, known: dict[Key, np.ndarray]) -> None:
        """Take a file; vectors that are `known` need not be made."""
        vectors: list[np.ndarray | str | None] = [known.get(key_of(part)) for part in contents.parts]
        work = _Work(contents, vectors, sum(vector is None for vector in vectors))
        if not work.missing:
            self._done.append(work)
        for at, part in enumerate(contents.parts):
            if vectors[at] is None:
                queue = self._waiting["text" if part.text is not None else "picture"]
                queue.append(_Job(work, at))
                if len(queue) == BATCH:
                    self._start(queue)

    def finished(self, *, all: bool = False) -> Iterator[tuple[Contents, np.ndarray]]:
        """The files that are complete, each with its vectors, (parts, dim) float16. With `all`, the rest is waited
        for."""
        if all:
            for queue in self._waiting.values():
                self._start(queue)
        while self._running and (all or len(self._running) > _AHEAD or self._running[0][1].done()):
            self._collect(*self._running.popleft())
        while self._done:
            yield _completed(self._done.popleft(), self._model.dim)

    def _start(self, queue: list[_Job]) -> None:
        if queue:
            self._running.append((list(queue), self._pool.submit(self._encode, list(queue))))
            queue.clear()

    def _collect(self, jobs: list[_Job], future: Future[list[np.ndarray | str]]) -> None:
        for job, vector in zip(jobs, future.result(), strict=True):
            job.work.vectors[job.at] = vector
            job.work.missing -= 1
            if not job.work.missing:
                self._done.append(job.work)

    def _encode(self, jobs: list[_Job]) -> list[np.ndarray | str]:
        parts = [job.work.contents.parts[job.at] for job in jobs]
        if parts[0].text is None:
            return _half(self._model.embed_pixels(np.stack([part.pixels for part in parts])))  # type: ignore[arg-type]
        return _text_vectors(self._model, [part.text or "" for part in parts])


def _text_vectors(model: Any, texts: Sequence[str]) -> list[np.ndarray | str]:
    """A vector a text; where the model cannot read one, why."""
    try:
        return _half(model.embed_texts(texts, truncate=True))
    except ValueError as error:
        if len(texts) == 1:
            return [str(error)]
        return [vector for text in texts for vector in _text_vectors(model, [text])]


def _half(vectors: np.ndarray) -> list[np.ndarray | str]:
    """Unit vectors in float16, which changes a cosine by less than 0.001."""
    lengths = np.linalg.norm(vectors.astype(np.float32), axis=1, keepdims=True)
    sound = np.isfinite(lengths[:, 0]) & (lengths[:, 0] > 0)
    halves = (vectors / np.where(sound[:, None], lengths, 1)).astype(np.float16)
    return [
        half if good else "the model's vector for it is no number" for half, good in zip(halves, sound, strict=True)
    ]


def _completed(work: _Work, dim: int) -> tuple[Contents, np.ndarray]:
    """The file with its vectors, without the parts that have none."""
    from diptych.failures import Failure

    contents = work.contents
    kept = [(part, v) for part, v in zip(contents.parts, work.vectors, strict=True) if isinstance(v, np.ndarray)]
    if len(kept) < len(contents.parts):
        contents = replace(contents, parts=tuple(part for part, _ in kept))
    if work.vectors and not kept:
        why = next(vector for vector in work.vectors if isinstance(vector, str))
        contents = replace(contents, failure=Failure("no vector", f"{contents.file.path}: no vector. {why}"))
    return contents, np.stack([vector for _, vector in kept]) if kept else np.empty((0, dim), np.float16)
