"""Thumbnails, made once and kept in the user's cache, the least recently used deleted first."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.errors import ImageError
from diptych.serve.library.items import shown, version_of
from diptych.serve.settings import THUMBNAIL_WIDTHS
from diptych.serve.web.deadline import remaining_s, too_late
from diptych.serve.web.problems import busy, not_found
from diptych.storage.atomic import atomic_write

if TYPE_CHECKING:
    from diptych.index.catalog.catalog import Item
    from diptych.media.reading.decoders import DecodedPicture, DecoderPool

MOST_WAITING = 2000
_MAKER = 1  # changes when thumbnails are made otherwise
_TOUCHED_S = 3600.0  # a file's time of use is this old at most
_MEASURED_EACH = 5000  # thumbnails: other servers of this user write to the folder as well
_KEPT_SHARE = 0.9  # of the limit, after the least recently used are deleted


def width_of(wanted: int) -> int:
    """The width that is made: the next one of THUMBNAIL_WIDTHS."""
    return next((width for width in THUMBNAIL_WIDTHS if width >= wanted), THUMBNAIL_WIDTHS[-1])


class Thumbnails:
    """JPEGs of pictures and of films' frames in `folder`, at most `max_bytes` of them."""

    def __init__(self, folder: Path, decoders: DecoderPool, max_bytes: int):
        self._folder, self._decoders, self._max_bytes = folder, decoders, max_bytes
        self._making: dict[str, Future[DecodedPicture]] = {}
        self._lock = threading.Lock()
        self._size: int | None = None  # bytes; unknown until the folder was read
        self.made = self.served = 0

    def get(self, item: Item, width: int) -> bytes:
        """The JPEG of an item whose longer side is `width` at most. Raises ImageError, and RequestProblem past the
        deadline, where too many wait, or where nobody named the folder of the pictures."""
        if not self._decoders.has_root:
            raise not_found("the pictures of this index are elsewhere; whoever starts the server can say where.")
        name = _name(item, width)
        self.served += 1
        if (known := self._read(name)) is not None:
            return known
        try:
            jpeg = self._made(name, item, width).result(remaining_s()).jpeg or b""
        except FutureTimeoutError:
            raise too_late() from None
        except ImageError as error:
            raise ImageError(error.reason, shown(item.path), error.detail) from error
        return jpeg

    def _made(self, name: str, item: Item, width: int) -> Future[DecodedPicture]:
        """The future of a thumbnail that is being made; two that ask at once share it."""
        with self._lock:
            if making := self._making.get(name):
                return making
            if known := self._read(name):  # it has come since it was looked for
                return _finished(known)
            if self._decoders.waiting > MOST_WAITING:
                raise busy(f"{self._decoders.waiting:,} pictures wait to be decoded.")
            making = self._making[name] = self._decoders.file(item.path, width, at_s=_moment(item))
        making.add_done_callback(lambda done: self._keep(name, done))
        return making

    def _keep(self, name: str, done: Future[DecodedPicture]) -> None:
        """Write what was made, where the folder can be written."""
        try:
            if not done.cancelled() and done.exception() is None and (jpeg := done.result().jpeg):
                self.made += 1
                self._write(name, jpeg)
        finally:
            with self._lock:
                self._making.pop(name, None)

    def _read(self, name: str) -> bytes | None:
        path = self._folder / name
        with contextlib.suppress(OSError):
            content = path.read_bytes()
            if time.time() - path.stat().st_mtime > _TOUCHED_S:
                os.utime(path)
            return content or None
        return None

    def _write(self, name: str, content: bytes) -> None:
        path = self._folder / name
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with atomic_write(path, mode=0o600, durable=False) as part:
                part.write_bytes(content)
            with self._lock:
                is_known = self._size is not None and self.made % _MEASURED_EACH
                self._size = (self._size or 0) + len(content) if is_known else self._measured()
                if self._size > self._max_bytes:
                    self._size = self._pruned()

    def _measured(self) -> int:
        return sum(size for _, size, _ in self._files())

    def _files(self) -> list[tuple[float, int, str]]:
        """The time of use, size and path of each thumbnail."""
        files = []
        for here, _, names in os.walk(self._folder):
            for name in names:
                with contextlib.suppress(OSError):
                    status = os.lstat(path := os.path.join(here, name))
                    files.append((status.st_mtime, status.st_size, path))
        return files

    def _pruned(self) -> int:
        """Delete the least recently used; returns the bytes that are left."""
        files = sorted(self._files())
        size = sum(size for _, size, _ in files)
        for _, each, path in files:
            if size <= self._max_bytes * _KEPT_SHARE:
                break
            with contextlib.suppress(OSError):
                os.unlink(path)
                size -= each
        return size


def _finished(jpeg: bytes) -> Future[DecodedPicture]:
    from diptych.media.reading.decoders import DecodedPicture

    done: Future[DecodedPicture] = Future()
    done.set_result(DecodedPicture((0, 0), jpeg=jpeg))
    return done


def _name(item: Item, width: int) -> str:
    """By the bytes of the file, so that copies share one and a changed file gets another."""
    digest = item.digest.hex() if item.digest else f"{item.id}-{version_of(item)}"
    at_s = _moment(item)
    at_ms = "" if at_s is None else f"-{round(at_s * 1000)}"
    return f"{digest[:2]}/{digest}{at_ms}-{width}-{_MAKER}.jpg"


def _moment(item: Item) -> float | None:
    """The moment of a film that is shown: of its caption, the first."""
    return 0.0 if item.kind == "video" and item.at_s is None else item.at_s
