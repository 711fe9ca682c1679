"""Small grey versions of an index's pictures, by which copies are told from pictures that are alike. They are read in
the processes that may die, and kept in the user's cache."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from diptych.media.items import File
from diptych.scoring.same_picture import GREY_PX
from diptych.storage.atomic import atomic_write
from diptych.storage.user.cache_folder import cache_folder
from diptych.untrusted.regular_files import open_file

if TYPE_CHECKING:
    from jaxtyping import UInt8

    from diptych.index.catalog.catalog import Item

CACHE = "greys"  # its folder
KEPT = 20_000  # pictures in the cache, 80 MB: the last that were read
_MAKER = 1  # changes when greys are made otherwise
_DIGEST, _PIXELS = 16, GREY_PX * GREY_PX
_RED, _GREEN, _BLUE = 0.299, 0.587, 0.114  # of a grey: ITU-R BT.601, as Pillow's
Progress = Callable[[int, int], None]


class _PictureFolder(Protocol):
    @property
    def root(self) -> Path: ...

    @property
    def rules(self) -> Any: ...


def small_greys(
    folder: _PictureFolder, items: Sequence[Item], *, progress: Progress | None = None
) -> dict[int, UInt8[np.ndarray, "64 64"]]:
    """The whole of each picture in GREY_PX x GREY_PX grey pixels, by the item's id. Pictures that cannot be read are
    left out. `progress` gets (done, total) of those that are not in the cache."""
    if not items:
        return {}
    known = _cached()
    missing = {item.path: item for item in items if item.digest not in known}
    new = dict[bytes, np.ndarray]()
    changed = dict[int, np.ndarray]()
    try:
        for path, digest, grey in _read(folder, list(missing.values()), progress):
            if digest == missing[path].digest:
                new[digest] = grey
            else:
                changed[missing[path].id] = grey
    finally:  # Ctrl-C loses nothing
        if new:
            _keep(known | new)
    greys = known | new
    return {item.id: greys[item.digest] for item in items if item.digest in greys} | changed


def _read(folder: _PictureFolder, items: Sequence[Item], progress: Progress | None) -> Any:
    """The path, the digest and the grey of each file that can be read, in any order."""
    if not items:
        return
    from diptych.media.preprocessing import Preprocess
    from diptych.media.reading.readers import ReaderPool

    spec = Preprocess(size_px=GREY_PX, mode="squash", interpolation="lanczos")
    files = [File(item.path, "picture", item.size, 0) for item in items]
    with ReaderPool(folder.root, spec, follow_links=folder.rules.follow_links) as readers:
        for done, contents in enumerate(readers.read(files), start=1):
            pixels = next((part.pixels for part in contents.parts if part.pixels is not None), None)
            if pixels is not None and contents.file.kind == "picture":
                grey = pixels.astype(np.float32) @ np.array([_RED, _GREEN, _BLUE], np.float32)
                yield contents.file.path, contents.digest, grey.round().astype(np.uint8)
            if progress:
                progress(done, len(files))


def _path() -> Path:
    return cache_folder(CACHE) / f"{GREY_PX}-{_MAKER}.npy"


def _cached() -> dict[bytes, np.ndarray]:
    """The greys of the cache, by digest, the oldest first; none where it cannot be read or is not of this form."""
    with contextlib.suppress(OSError, RuntimeError, ValueError, EOFError):
        with open_file(_path()) as file:
            rows = np.load(file, allow_pickle=False)
        if rows.dtype == np.uint8 and rows.ndim == 2 and rows.shape[1] == _DIGEST + _PIXELS and len(rows) <= KEPT:
            return {row[:_DIGEST].tobytes(): row[_DIGEST:].reshape(GREY_PX, GREY_PX) for row in rows}
    return {}


def _keep(greys: dict[bytes, np.ndarray]) -> None:
    """Write the last KEPT of these, where the user's cache can be written."""
    rows = [np.frombuffer(digest, np.uint8) for digest in greys if len(digest) == _DIGEST][-KEPT:]
    pixels = [grey.reshape(-1) for digest, grey in greys.items() if len(digest) == _DIGEST][-KEPT:]
    with contextlib.suppress(OSError, RuntimeError):
        path = _path()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with atomic_write(path, mode=0o600, durable=False) as part, part.open("wb") as file:
            np.save(file, np.hstack([np.stack(rows), np.stack(pixels)]))
