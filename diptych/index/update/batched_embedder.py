"""Embeds the parts of files in batches, while the next files are read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from diptych.media.items import FileContents, Part

if TYPE_CHECKING:
    from diptych.embedder import Embedder

BATCH = 32
_AHEAD = 2  # batches queued for the model; more would only hold pixels in memory

# Identifies a part within its file; in files with the same bytes, parts with the same key have the same vector
Key = tuple[str, float | None, str | None]


def key_of(part: Part) -> Key:
    """A frame is identified by its time, a text by its words."""
    return ("picture", part.at_s, None) if part.text is None else ("text", None, part.text)


@dataclass
class _PendingFile:
    """A file with a vector, (dim,) float16, for each part, or the reason why there is none; None until it is made."""

    contents: FileContents
    vectors: list[np.ndarray | str | None]
    missing: int


class _PendingPart(NamedTuple):
    file: _PendingFile
    part_index: int


class BatchedEmbedder:
    """Takes files and returns them, in any order, with a vector for each part.

    A part that the model cannot embed is dropped; a file that loses all parts gets a failure instead.
    """

    def __init__(self, model: Embedder):
        self._model = model
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="embedder")
        self._waiting: dict[str, list[_PendingPart]] = {"picture": [], "text": []}
        self._running: deque[tuple[list[_PendingPart], Future[list[np.ndarray | str]]]] = deque()
        self._done: deque[_PendingFile] = deque()

    def __enter__(self) -> BatchedEmbedder:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def add(self, contents: FileContents, known: dict[Key, np.ndarray]) -> None:
        """Take a file. Parts with a `known` vector are not embedded."""
        vectors: list[np.ndarray | str | None] = [known.get(key_of(part)) for part in contents.parts]
        pending = _PendingFile(contents, vectors, sum(vector is None for vector in vectors))
        if not pending.missing:
            self._done.append(pending)
        for index, part in enumerate(contents.parts):
            if vectors[index] is None:
                queue = self._waiting["text" if part.text is not None else "picture"]
                queue.append(_PendingPart(pending, index))
                if len(queue) == BATCH:
                    self._start(queue)

    def finished(self, *, all: bool = False) -> Iterator[tuple[FileContents, np.ndarray]]:
        """The completed files, each with its vectors, (parts, dim) float16. `all` waits for the remaining files."""
        if all:
            for queue in self._waiting.values():
                self._start(queue)
        while self._running and (all or len(self._running) > _AHEAD or self._running[0][1].done()):
            self._collect(*self._running.popleft())
        while self._done:
            yield _completed(self._done.popleft(), self._model.dim)

    def _start(self, queue: list[_PendingPart]) -> None:
        if queue:
            self._running.append((list(queue), self._pool.submit(self._embed, list(queue))))
            queue.clear()

    def _collect(self, batch: list[_PendingPart], future: Future[list[np.ndarray | str]]) -> None:
        for part, vector in zip(batch, future.result(), strict=True):
            part.file.vectors[part.part_index] = vector
            part.file.missing -= 1
            if not part.file.missing:
                self._done.append(part.file)

    def _embed(self, batch: list[_PendingPart]) -> list[np.ndarray | str]:
        parts = [pending.file.contents.parts[pending.part_index] for pending in batch]
        if parts[0].text is None:
            return _to_float16(self._model.embed_pixels(np.stack([part.pixels for part in parts])))  # type: ignore[arg-type]
        return _text_vectors(self._model, [part.text or "" for part in parts])


def _text_vectors(model: Any, texts: Sequence[str]) -> list[np.ndarray | str]:
    """The vector of each text, or the reason why the model cannot embed it."""
    try:
        return _to_float16(model.embed_texts(texts, truncate=True))
    except ValueError as error:
        if len(texts) == 1:
            return [str(error)]
        return [vector for text in texts for vector in _text_vectors(model, [text])]


def _to_float16(vectors: np.ndarray) -> list[np.ndarray | str]:
    """Unit vectors in float16, which changes a cosine by less than 0.001."""
    lengths = np.linalg.norm(vectors.astype(np.float32), axis=1, keepdims=True)
    is_valid = np.isfinite(lengths[:, 0]) & (lengths[:, 0] > 0)
    halves = (vectors / np.where(is_valid[:, None], lengths, 1)).astype(np.float16)
    return [
        half if valid else "the model's vector for it is not a number"
        for half, valid in zip(halves, is_valid, strict=True)
    ]


def _completed(pending: _PendingFile, dim: int) -> tuple[FileContents, np.ndarray]:
    """The file with its vectors, without the parts that have none."""
    from diptych.failures import Failure

    contents = pending.contents
    kept = [(part, v) for part, v in zip(contents.parts, pending.vectors, strict=True) if isinstance(v, np.ndarray)]
    if len(kept) < len(contents.parts):
        contents = replace(contents, parts=tuple(part for part, _ in kept))
    if pending.vectors and not kept:
        reason = next(vector for vector in pending.vectors if isinstance(vector, str))
        contents = replace(contents, failure=Failure("no vector", f"{contents.file.path}: no vector. {reason}"))
    return contents, np.stack([vector for _, vector in kept]) if kept else np.empty((0, dim), np.float16)
