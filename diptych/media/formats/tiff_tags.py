"""The tags of a TIFF's pages. Each tag is read separately, so a damaged one does not affect the others."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from typing import IO, NamedTuple

MOST_PAGES = 256
RAW = 1  # Compression
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, LAB = 0, 1, 2, 3, 5, 8  # PhotometricInterpretation
UNSIGNED, SIGNED = 1, 2  # SampleFormat
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_SIMPLE = (RAW, 2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32946)  # none, fax, LZW, JPEG, deflate, PackBits
_BIG = (b"II+\0", b"MM\0+")
_TYPES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q"}  # the integer types, as `struct` codes
_MOST_TAGS, _MOST_NUMBERS, _MOST_SAMPLES = 4096, 3 * 65536, 65535
# Tag numbers of TIFF 6.0
_KIND, _OLD_KIND, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION = (
    254,
    255,
    256,
    257,
    258,
    259,
    262,
    274,
)
_SAMPLES, _PLANES, _COLOURS, _EXTRA, _FORMATS = 277, 284, 320, 338, 339
_ROWS, _TILE_WIDTH, _TILE_HEIGHT = 278, 322, 323
_WANTED = frozenset(
    (
        _KIND,
        _OLD_KIND,
        _WIDTH,
        _HEIGHT,
        _BITS,
        _COMPRESSION,
        _PHOTOMETRIC,
        _ORIENTATION,
        _SAMPLES,
        _PLANES,
        _COLOURS,
        _EXTRA,
        _FORMATS,
        _ROWS,
        _TILE_WIDTH,
        _TILE_HEIGHT,
    )
)


class Page(NamedTuple):
    """The tags of one picture of a file (TIFF 6.0); `index` counts from 0."""

    index: int
    size: tuple[int, int]
    kind: int
    photometric: int
    bits: tuple[int, ...]
    formats: tuple[int, ...]
    is_planar: bool
    extra: tuple[int, ...] | None
    colours: tuple[int, ...]
    orientation: int
    compression: int
    is_swapped: bool
    segment: int = 0  # pixels of a strip or tile, the unit of decompression

    @property
    def samples(self) -> int:
        """Samples per pixel."""
        return len(self.bits)

    @property
    def needed_bytes(self) -> int:
        """Memory to decode it: the stored samples, a strip or tile, and the decoded picture."""
        depth, pixels = (max(self.bits) + 7) // 8, self.size[0] * self.size[1]
        shown = pixels * (1 if self.samples == 1 and self.photometric != PALETTE else 4)
        segment = self.segment * self.samples * depth
        again = shown * ((self.orientation != 1) + (self.samples in (2, 4) or self.photometric in (PALETTE, CMYK)))
        if self.is_plain:
            return shown + segment + again
        numbers = pixels * self.samples * depth
        if self.is_grey:  # Pillow's array and a copy; Pillow widens signed samples to 32 bits
            numbers = pixels * (8 if depth > 2 else 4 if self.formats[0] == UNSIGNED else 10)
        return numbers + 2 * segment + shown + again

    @property
    def is_plain(self) -> bool:
        """Whether Pillow reads it correctly if it opens it."""
        return self.is_packed_simply and set(self.formats) == {UNSIGNED} and max(self.bits) <= 8

    @property
    def is_grey(self) -> bool:
        """Whether it has one sample per pixel, of any depth, that Pillow reads. Pillow swaps the bytes of libtiff's
        output a second time, except for 16 bits."""
        is_whole = self.bits[0] <= 16 and self.formats[0] == UNSIGNED
        is_read = self.is_packed_simply and (is_whole or self.compression == RAW or not self.is_swapped)
        return is_read and self.samples == 1 and self.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO)

    @property
    def is_packed_simply(self) -> bool:
        """Whether every build of libtiff can decompress it."""
        return self.compression in _SIMPLE


def pages(file: IO[bytes]) -> list[Page]:
    """The pages that are not previews or masks; if there are none, the largest page; [] if no tags can be read."""
    found = list(_pages(file))
    main = [page for page in found if not page.kind & (_REDUCED | _MASK)]
    return main or sorted(found, key=lambda page: page.size[0] * page.size[1])[-1:]


def _pages(file: IO[bytes]) -> Iterator[Page]:
    file.seek(0)
    header, seen = file.read(16), set[int]()
    order, is_big = ">" if header[:2] == b"MM" else "<", header[:4] in _BIG
    with contextlib.suppress(struct.error, OSError, OverflowError):  # damage ends the chain of directories
        (offset,) = struct.unpack_from(f"{order}{'Q' if is_big else 'I'}", header, 8 if is_big else 4)
        while offset and offset not in seen and len(seen) < MOST_PAGES:
            seen.add(offset)
            tags, offset = _directory(file, offset, order, is_big)
            yield _page(len(seen) - 1, tags, is_swapped=order == ">")


def _directory(file: IO[bytes], offset: int, order: str, is_big: bool) -> tuple[dict[int, tuple[int, ...]], int]:
    """The wanted tags at an offset, and the offset of the next directory."""
    number, entry = ("Q", "HHQ8s") if is_big else ("H", "HHI4s")
    file.seek(offset)
    (count,) = _unpacked(file, order + number)
    entries = [_unpacked(file, order + entry) for _ in range(min(count, _MOST_TAGS))]
    try:
        (following,) = _unpacked(file, order + ("Q" if is_big else "I"))
    except struct.error:  # the file ends here
        following = 0
    tags = {tag: _numbers(file, order, *rest) for tag, *rest in entries if tag in _WANTED}
    return {tag: numbers for tag, numbers in tags.items() if numbers}, following


def _unpacked(file: IO[bytes], layout: str) -> tuple:
    return struct.unpack(layout, file.read(struct.calcsize(layout)))


def _numbers(file: IO[bytes], order: str, kind: int, count: int, inline: bytes) -> tuple[int, ...]:
    """A tag's values; () if they cannot be read."""
    if kind not in _TYPES or not 0 < count <= _MOST_NUMBERS:
        return ()
    layout = f"{order}{count}{_TYPES[kind]}"
    with contextlib.suppress(struct.error, OSError, OverflowError):
        if struct.calcsize(layout) <= len(inline):
            return struct.unpack_from(layout, inline)
        file.seek(struct.unpack(order + ("Q" if len(inline) == 8 else "I"), inline)[0])
        return _unpacked(file, layout)
    return ()


def _page(index: int, tags: dict[int, tuple[int, ...]], *, is_swapped: bool) -> Page:
    def one(tag: int, default: int) -> int:
        return tags.get(tag, (default,))[0]

    samples, bits = min(one(_SAMPLES, 1), _MOST_SAMPLES), tags.get(_BITS, (1,))
    return Page(
        index,
        (one(_WIDTH, 0), one(_HEIGHT, 0)),
        one(_KIND, 0) | (_REDUCED if one(_OLD_KIND, 0) == 2 else 0),
        one(_PHOTOMETRIC, WHITE_IS_ZERO),
        bits if len(bits) == samples else bits[:1] * max(samples, 1),
        tags.get(_FORMATS, (UNSIGNED,)),
        one(_PLANES, 1) == 2 and samples > 1,
        tags.get(_EXTRA),
        tags.get(_COLOURS, ()),
        one(_ORIENTATION, 1),
        one(_COMPRESSION, RAW),
        is_swapped,
        _segment(tags, one(_WIDTH, 0), one(_HEIGHT, 0)),
    )


def _segment(tags: dict[int, tuple[int, ...]], width: int, height: int) -> int:
    if _TILE_WIDTH in tags and _TILE_HEIGHT in tags:
        return tags[_TILE_WIDTH][0] * tags[_TILE_HEIGHT][0]
    return width * min(tags.get(_ROWS, (height,))[0], height)
