"""Opens a picture from a path, a URL, bytes, an array or a tensor, upright with 8 bits a channel, or raises ImageError
with the reason."""

from __future__ import annotations

import io
import os
from contextlib import ExitStack
from typing import IO, Any, NoReturn, TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError

from diptych.errors import FetchError, ImageError
from diptych.media import memory
from diptych.media.dynamic_range import to_standard_range
from diptych.media.formats import ico
from diptych.media.formats.opener import MAX_PIXELS, OpenedPicture, Opener, Reduce
from diptych.media.formats.table import PICTURE_FORMATS
from diptych.media.formats.tiff import NeedsPackage
from diptych.media.pixels.arrays import is_array, picture_of
from diptych.media.scanning.file_kind import HEAD_LENGTH, is_video
from diptych.media.undecoded import opened_by_pillow

Source: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image | np.ndarray"


def open_picture(
    source: Source,
    reservation: memory.MemoryReservation,
    *,
    reduce: Reduce | None = None,
    is_searched: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> OpenedPicture:
    """Open a picture from anything that `images.open_image` takes. Raises ImageError, and ArgumentError if the
    environment sets no valid memory limit.

    `reservation` reserves the memory needed and keeps it for the returned picture. `reduce` may set a JPEG to be
    decoded at a fraction of its size: it takes the undecoded picture and a predicate for whether it fits as it is
    set. `is_searched` takes the first frame or page that is not blank, palettes as RGB, transparency on white, and high
    dynamic range as sRGB.
    """
    name, max_bytes = describe(source), memory.memory_limit()
    try:
        with ExitStack() as stack:
            file = _file(source, name, stack)
            opener = Opener(name, reduce, is_searched, max_pixels, max_bytes, reservation)
            if isinstance(file, Image.Image):
                return opener.load_current(file)
            opened = _open_file(file, opener)
            return opened._replace(image=to_standard_range(opened.image, file)) if is_searched else opened
    except Exception as error:  # decoders raise almost anything at unexpected bytes
        _fail(error, name)


def _open_file(file: IO[bytes], opener: Opener) -> OpenedPicture:
    """By the format's own module or, if it has none, by Pillow; which one, the first bytes decide."""
    file.seek(0)
    head = file.read(HEAD_LENGTH)
    for known in PICTURE_FORMATS:
        if known.open_picture and known.matches(head):
            return known.open_picture(file, opener)
    if is_video(head):
        detail = "It is a video, whatever its name says; save a frame of it as PNG."
        raise ImageError("not an image", opener.name, detail)
    image = opened_by_pillow(file)
    if image.format == "ICO":
        opener.check(ico.largest(opener.read_whole(file)))
    return opener.load_first(image)


def _file(source: Any, name: str, stack: ExitStack) -> IO[bytes] | Image.Image:
    """A file to read from, or a picture that is decoded already. `stack` closes a file opened here."""
    if isinstance(source, Image.Image):
        return source
    if is_array(source):
        try:
            return picture_of(source)
        except ValueError as error:
            raise ImageError("unsupported array", name, str(error)) from error
    if isinstance(source, str) and source.lower().startswith(("http://", "https://")):
        source = _fetched(source)
    elif isinstance(source, str) and source.lower().startswith("file://"):
        source = _local(source, name)
    if isinstance(source, (bytes, bytearray, memoryview)):
        source = io.BytesIO(source)
    elif isinstance(source, (str, os.PathLike)):
        source = stack.enter_context(open(source, "rb"))  # noqa: SIM115
    if isinstance(source, io.TextIOBase) or not hasattr(source, "read"):
        detail = "Wanted a path, URL, bytes, binary file, PIL image, array or tensor."
        raise ImageError("unsupported type", name, detail)
    file = source if hasattr(source, "seekable") and source.seekable() else io.BytesIO(source.read())
    if file.seek(0, os.SEEK_END) == 0:
        raise ImageError("empty file", name, "It has no bytes; copy or download it again.")
    return file


def _local(url: str, name: str) -> str:
    """The path of a file:// address. Raises ImageError if it is on another machine."""
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise ImageError("missing", name, f"It is on {parts.netloc}; only files of this machine are read.")
    return url2pathname(parts.path)


def _fetched(url: str) -> bytes:
    from diptych.media.download import fetch

    try:
        return fetch(url)
    except FetchError as error:
        raise ImageError("download failed", url, f"{error}. Check the address, or download it yourself.") from error


_FAILURES = (  # exception, reason, detail: the first match applies; {message} is Pillow's or the system's
    (IsADirectoryError, "a folder", "Wanted one picture: name a file in it."),
    (PermissionError, "no permission", "This user may not read it; change its permissions."),
    ((FileNotFoundError, NotADirectoryError), "missing", "There is no such file; check the path."),
    (
        (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError),
        "too large",
        "{message} Scale it down.",
    ),
    (NeedsPackage, "needs a package", "{message}"),
    (UnidentifiedImageError, "not an image", "Wanted JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC or JPEG 2000."),
    (EOFError, "truncated", "It ends too early; copy or download it again."),
    (Exception, "damaged", "It could not be read ({message}); save it again or leave it out."),
)


def _fail(error: Exception, name: str) -> NoReturn:
    if isinstance(error, ImageError):
        raise error
    message = str(error) or type(error).__name__
    kind = EOFError if "truncated" in message.lower() else type(error)
    _, reason, detail = next(failure for failure in _FAILURES if issubclass(kind, failure[0]))
    raise ImageError(reason, name, detail.format(message=message)) from error


def describe(source: Any) -> str:
    """The name of a source in messages."""
    if isinstance(source, (str, os.PathLike)):
        return os.fsdecode(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"{len(source):,} bytes"
    if is_array(source):
        kind = "array" if isinstance(source, np.ndarray) else "tensor"
        return f"{kind} {tuple(source.shape)} of {source.dtype}"
    return str(getattr(source, "filename", "") or getattr(source, "name", "") or f"a {type(source).__name__}")
