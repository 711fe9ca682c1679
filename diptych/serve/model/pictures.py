"""Pictures from requests: their bytes, decoded in processes that may die, and their vectors."""

from __future__ import annotations

import base64
import binascii
import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.errors import FetchError, ImageError
from diptych.serve.web.deadline import remaining_s, too_late
from diptych.serve.web.problems import RequestProblem, busy, invalid

if TYPE_CHECKING:
    from diptych.media.reading.decoders import DecodedPicture, DecoderPool
    from diptych.serve.model.served_model import ServedModel

MOST_WAITING = 512  # pictures that wait to be decoded
MOST_FETCHES = 8  # at a time; each may take a thread as long as its server likes
_DATA_URI = re.compile(r"data:(?:image/[\w.+-]+|application/octet-stream)?(?:;[\w=.+-]+)*?;base64,", re.ASCII | re.I)


def decoded_base64(text: str, argument: str) -> bytes:
    """The bytes of a data URI, or of plain base64. Raises RequestProblem (422)."""
    if head := _DATA_URI.match(text):
        text = text[head.end() :]
    elif ":" in text[:16]:
        raise invalid("a picture is a data URI of a picture in base64, or plain base64.", argument)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(f"the picture is not base64 ({error}).", argument) from None


class Pictures:
    """Turns the bytes of picture files into vectors. `allow_urls` lets requests name addresses to fetch."""

    def __init__(self, model: ServedModel, decoders: DecoderPool, *, allow_urls: bool = False):
        self._model, self._decoders, self._allow_urls = model, decoders, allow_urls
        self._fetches = threading.BoundedSemaphore(MOST_FETCHES)

    @property
    def fingerprint(self) -> str:
        """That of the model."""
        return self._model.fingerprint

    @contextmanager
    def decoding(self, contents: Sequence[bytes]) -> Iterator[list[Future[DecodedPicture]]]:
        """The inputs of the tower, as they come; what still waits at the end of the block is not decoded. Raises
        RequestProblem (429) where too many wait."""
        futures = list[Future["DecodedPicture"]]()
        try:
            for content in contents:
                self._check_room()
                futures.append(self._decoders.square(content))
            yield futures
        finally:
            for future in futures:
                future.cancel()

    def squares(self, contents: Sequence[bytes]) -> list[np.ndarray]:
        """The inputs of the tower. Raises ImageError for the first that cannot be read."""
        with self.decoding(contents) as futures:
            found = [within_deadline(future).square for future in futures]
        return [square for square in found if square is not None]

    def vectors(self, contents: Sequence[bytes]) -> np.ndarray:
        """Their vectors, float32 (n, dim)."""
        return self._model.embed_pixels(np.stack(self.squares(contents)))

    def uploaded(self, content: bytes, size_px: int) -> tuple[DecodedPicture, np.ndarray]:
        """A picture, decoded to fit into a square of `size_px`, and its vector."""
        self._check_room()
        decoded = within_deadline(self._decoders.upload(content, size_px))
        return decoded, self._model.embed_pixels(np.asarray(decoded.square)[None])[0]

    def whole(self, content: bytes, size_px: int) -> tuple[bytes, tuple[int, int]]:
        """A JPEG of it that fits into a square of `size_px`, and its own size (width, height)."""
        self._check_room()
        decoded = within_deadline(self._decoders.whole(content, size_px))
        return decoded.jpeg or b"", decoded.size

    def fetched(self, url: str, argument: str) -> bytes:
        """The bytes at an address. Raises RequestProblem (403) unless addresses are allowed, and ImageError."""
        if not self._allow_urls:
            raise RequestProblem(
                403, "NotOfferedError", "this server fetches no addresses.",
                remedy="Send the picture's bytes, or start the server with --allow-urls.", argument=argument,
            )  # fmt: skip
        if not self._fetches.acquire(blocking=False):
            raise busy(f"{MOST_FETCHES} addresses are being fetched.")
        from diptych.media.download import fetch

        try:
            return fetch(url, public_only=True)
        except FetchError as error:
            raise ImageError("download failed", url[:200], f"{error}.") from error
        finally:
            self._fetches.release()

    def _check_room(self) -> None:
        if self._decoders.waiting >= MOST_WAITING:
            raise busy(f"{self._decoders.waiting:,} pictures wait to be decoded.")


def within_deadline(future: Future[Any]) -> Any:
    """The result of a future, within the deadline of the request."""
    try:
        return future.result(remaining_s())
    except FutureTimeoutError:
        future.cancel()
        raise too_late() from None
