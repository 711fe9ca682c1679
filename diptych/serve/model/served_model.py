"""A model whose every use goes through the queue of the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from diptych.errors import TextError, TokenizerError
from diptych.failures import Failure, invalid_texts
from diptych.serve.model.engine_queue import ROUND, EngineQueue
from diptych.serve.web.deadline import DEADLINE, remaining_s, too_late

if TYPE_CHECKING:
    from diptych.embedder import Embedder
    from diptych.engines import Engine

T = TypeVar("T")
_MOST_KEPT, _LONGEST_KEPT = 256, 1000  # texts, and characters of one


class ServedModel:
    """A `diptych.Embedder` for many threads; what is not defined here is the model's own.

    The vectors of pictures are for those that have the tower's size. `background` gives way to requests, for indexing.
    """

    def __init__(self, model: Embedder, queue: EngineQueue, *, background: bool = False):
        self.embedder, self.queue, self._background = model, queue, background
        self._known: dict[str, np.ndarray] = {}

    @property
    def engine(self) -> Engine:
        """That of the model; only `call` may use it."""
        return self.embedder.engine

    @property
    def scale(self) -> float:
        """The inverse temperature of the model."""
        return self.embedder.scale

    @property
    def bias(self) -> float | None:
        """The bias of the model, if it has one."""
        return self.embedder.bias

    def __getattr__(self, name: str) -> Any:
        return getattr(self.embedder, name)

    def for_background(self) -> ServedModel:
        """The same model, for indexing."""
        return ServedModel(self.embedder, self.queue, background=True)

    def embed_texts(self, texts: Sequence[str] | str, *, truncate: bool = False) -> np.ndarray:
        """As `Embedder.embed_texts`, part by part, so that others have their turns between."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        for kind, failures in self.text_failures(texts, truncate=truncate):
            if failures:
                raise kind(next(iter(failures.values())).message)
        known = [self._known.get(text) for text in texts]
        new = [text for text, vector in zip(texts, known, strict=True) if vector is None]
        parts = [new[start : start + ROUND["text"]] for start in range(0, len(new), ROUND["text"])]
        rows = (row for part in parts for row in self._rows(part))
        found = [next(rows) if vector is None else vector for vector in known]
        self._keep(dict(zip(texts, found, strict=True)))
        return np.stack(found) if found else np.empty((0, self.embedder.dim), np.float32)

    def _rows(self, texts: Sequence[str]) -> np.ndarray:
        return waited(self.queue.texts(self.embedder.tokenize(texts, truncate=True), DEADLINE.get()))

    def _keep(self, vectors: dict[str, np.ndarray]) -> None:
        """The texts of the last searches, because each search asks for its own again, page by page."""
        short = {text: vector for text, vector in vectors.items() if len(text) <= _LONGEST_KEPT}
        self._known = dict([*self._known.items(), *short.items()][-_MOST_KEPT:])  # replaced: other threads read it

    def text_failures(
        self, texts: Sequence[str], *, truncate: bool
    ) -> list[tuple[Callable[[str], Exception], dict[int, Failure]]]:
        """Why some of these texts cannot be embedded, by index, with the error of each kind."""
        failures: list[tuple[Callable[[str], Exception], dict[int, Failure]]] = [(TextError, invalid_texts(texts))]
        if not truncate and self.embedder.tokenizer is not None:
            valid = ["" if index in failures[0][1] else text for index, text in enumerate(texts)]
            found = self.embedder.tokenizer.too_long(valid).items()
            failures.append((TokenizerError, {index: Failure.of("too long", message) for index, message in found}))
        return failures

    def embed_images(self, images: Sequence[np.ndarray], *, decode: str = "fast") -> np.ndarray:
        """The vectors of pictures that have the tower's size already."""
        return self.embed_pixels(np.stack(list(images)))

    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """As `Embedder.embed_pixels`."""
        return waited(self.queue.pictures(pixels, DEADLINE.get(), background=self._background))

    def call(self, function: Callable[[], T]) -> T:
        """Another use of the model, such as a heat map, when its turn comes."""
        return waited(self.queue.call(function, DEADLINE.get()))


def waited(future: Future[T]) -> T:
    """The result, within the request's deadline. Raises RequestProblem (504) past it."""
    try:
        return future.result(remaining_s())
    except FutureTimeoutError:
        future.cancel()
        raise too_late() from None
