"""Compressed files, unpacked: in them no sample is one seek away."""

import bz2
import gzip
import lzma
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, cast

from diptych.data.samples import DataError

ENDINGS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
_BLOCK = 1 << 20


def unpack(path: Path, folder: Path) -> Path:
    """A compressed tar, unpacked into a folder under its own name. Where it is cut or damaged, what lies before: the
    tar's missing end is found by whoever reads it. DataError where nothing can be unpacked at all."""
    ending = next(ending for ending in ENDINGS if path.name.lower().endswith(ending))
    target = folder / f"{path.name[: -len(ending)]}.tar"
    while target.exists():  # of another folder, by the same name
        target = target.with_name(f"_{target.name}")
    with ExitStack() as opened, open(target, "wb") as file:
        try:
            source = _opened(path, opened)
            read = getattr(source, "read1", source.read)  # which hands out what lies before a cut
            while block := read(_BLOCK):
                file.write(block)
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, ValueError) as error:
            if not file.tell():
                raise DataError(f"{path} cannot be unpacked ({error}); copy or download it again.") from error
        except OSError as error:
            if error.filename or error.errno is not None or not file.tell():
                raise
    return target


def _opened(path: Path, opened: ExitStack) -> BinaryIO:
    name = path.name.lower()
    if name.endswith((".bz2", ".tbz2")):
        return cast(BinaryIO, opened.enter_context(bz2.open(path)))
    if name.endswith((".xz", ".txz")):
        return cast(BinaryIO, opened.enter_context(lzma.open(path)))
    if name.endswith("zst"):
        return _zstandard(path, opened)
    return cast(BinaryIO, opened.enter_context(gzip.open(path)))


def _zstandard(path: Path, opened: ExitStack) -> BinaryIO:
    try:
        import pyarrow
    except ImportError as error:
        raise DataError(f'{path}: Zstandard is unpacked by pyarrow; pip install "diptych[data]".') from error
    return cast(BinaryIO, opened.enter_context(pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")))
