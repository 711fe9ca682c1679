"""Unpacks compressed shards, because a compressed file cannot be read at random offsets."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, cast

from diptych.data.spooling import SpoolFile, room_for
from diptych.errors import DataError, FileError
from diptych.untrusted.regular_files import open_file

ENDINGS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
_BLOCK = 1 << 20
_XZ_MEMORY = 256 << 20  # four times the need of xz's strongest preset


def unpack(path: Path, folder: Path) -> Path:
    """Unpacks a compressed tar into a folder under its own name. For a truncated or damaged file, only the part before
    the damage is unpacked; the reader of the tar then reports the missing end. Raises DataError if nothing can be
    unpacked, or if the result is implausibly large."""
    ending = next(ending for ending in ENDINGS if path.name.lower().endswith(ending))
    target = folder / f"{path.name[: -len(ending)]}.tar"
    while target.exists():  # another shard with the same name
        target = target.with_name(f"_{target.name}")
    with ExitStack() as opened, SpoolFile(target, room_for(path.stat().st_size), str(path)) as file:
        try:
            for block in _blocks(path, opened):
                file.write(block)
        except (EOFError, zlib.error, lzma.LZMAError, OSError, ValueError) as error:
            of_system = isinstance(error, OSError) and (
                error.filename or error.errno is not None
            )  # unlike bz2's OSError
            if of_system or isinstance(error, DataError | FileError):
                raise
            if not file.size:
                raise DataError(f"{path} cannot be unpacked ({error}); copy or download it again.") from error
    return target


def _blocks(path: Path, opened: ExitStack) -> Iterator[bytes]:
    packed, name = opened.enter_context(open_file(path)), path.name.lower()
    if name.endswith((".xz", ".txz")):
        yield from _xz_blocks(packed)
        return
    if name.endswith((".bz2", ".tbz2")):
        source = opened.enter_context(bz2.BZ2File(packed))
    elif name.endswith("zst"):
        source = _zstandard(path, opened)
    else:
        source = opened.enter_context(gzip.GzipFile(fileobj=packed))
    read = getattr(source, "read1", source.read)  # returns the data before a truncation
    while block := read(_BLOCK):
        yield block


def _xz_blocks(packed: BinaryIO) -> Iterator[bytes]:
    """The blocks of `lzma.open`, which has no memory limit: a file may demand 4 GB."""
    unpacker = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
    data = b""
    while True:
        if unpacker.eof:  # another stream may follow, or zeros
            data = (unpacker.unused_data or packed.read(_BLOCK)).lstrip(b"\0")
            if not data and not (data := packed.read(_BLOCK).lstrip(b"\0")):
                return
            unpacker = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
        elif unpacker.needs_input and not (data := packed.read(_BLOCK)):
            return  # truncated: the reader of the tar reports it
        yield unpacker.decompress(data, _BLOCK)
        data = b""


def _zstandard(path: Path, opened: ExitStack) -> BinaryIO:
    try:
        import pyarrow
    except ImportError as error:
        raise DataError(f'{path}: Zstandard needs pyarrow; pip install "diptych[data]".') from error
    return cast(BinaryIO, opened.enter_context(pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")))
