"""Which decoders of Pillow's are tried on a file."""

from __future__ import annotations

import contextlib
from typing import IO

from PIL import Image

# Only these are tried, so that no file makes Pillow start an interpreter (EPS: Ghostscript). HEIF is a plug-in's.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM", "JPEG2000", "ICO", "QOI", "HEIF")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def formats_of(file: IO[bytes]) -> list[str]:
    """What a file may be, of what can be read here. HEIC's plug-in is asked for by the first file that begins as HEIC
    does, for it takes a while to import."""
    file.seek(0)
    head = file.read(12)
    if head[4:8] == b"ftyp" and head[8:] in _HEIC_BRANDS and "HEIF" not in Image.OPEN:
        with contextlib.suppress(ImportError):
            import pillow_heif

            pillow_heif.register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]
