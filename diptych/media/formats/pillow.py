"""Opening by Pillow, with the decoders that a caller names and no others."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Sequence
from typing import IO

from PIL import Image, UnidentifiedImageError

_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def open_undecoded(file: IO[bytes], decoders: Sequence[str]) -> Image.Image:
    """The picture, not decoded yet, by the first of Pillow's `decoders` that takes it. As Image.open, but without its
    limit of pixels, which is the caller's to check. Raises UnidentifiedImageError."""
    file.seek(0)
    head = file.read(16)
    if "HEIF" in decoders:
        _register_heif(head)
    for name in decoders:
        if not _is_installed(name):
            continue
        factory, accepts = Image.OPEN[name]
        may_be = not accepts or accepts(head)
        if not may_be or isinstance(may_be, str):  # a string names a missing dependency
            continue
        file.seek(0)
        with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):  # as Image.open does
            return factory(file, "")
    raise UnidentifiedImageError("no picture in a supported format")


def _is_installed(decoder: str) -> bool:
    """Loads Pillow's plug-ins as needed: the usual five first, because all of them take a while."""
    for load in (Image.preinit, Image.init):
        if decoder not in Image.OPEN:
            load()
    return decoder in Image.OPEN


def _register_heif(head: bytes) -> None:
    """Load HEIC's plug-in for the first HEIC file: its import is slow."""
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS and "HEIF" not in Image.OPEN:
        with contextlib.suppress(ImportError):
            import pillow_heif

            pillow_heif.register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)
