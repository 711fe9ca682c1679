"""A picture from anything that holds one, told by its bytes: upright, 8 bits deep, or an ImageError that says why."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import IO, Any, NamedTuple, NoReturn, TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError

from diptych.errors import FetchError, ImageError
from diptych.media import memory
from diptych.media.dynamic_range import in_ordinary_range
from diptych.media.formats import ico, jp2, jpeg, jxl, png, tiff
from diptych.media.formats.signatures import FILM_HEAD_LENGTH, is_film
from diptych.media.formats.tiff_tags import Page, pages
from diptych.media.pixels.arrays import is_numbers, picture_of
from diptych.media.pixels.depth import eight_bits
from diptych.media.pixels.orientation import is_on_its_side, orientation, turned
from diptych.media.pixels.transparency import as_seen, first_not_blank, is_blank
from diptych.media.undecoded import TIFF, opened_by_pillow

Source: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image | np.ndarray"
MAX_PIXELS = 178_956_970  # where Pillow, too, refuses by default: half a gigabyte as RGB, beyond it a bomb
_HELD = 4  # numbers for each of these pixels that a JPEG decoder may hold while it makes a smaller picture
_COEFFICIENT = 2  # bytes of such a number
_HEAD_BYTES = 2**26  # of a JPEG, in which its first scan begins


class Upright(NamedTuple):
    """A picture upright and 8 bits deep, in a mode of its own; `size` is that of the whole, as shown, however small it
    was decoded; `partial` says in words what of it is missing, if something is."""

    image: Image.Image
    size: tuple[int, int]
    partial: str = ""


Reduce: TypeAlias = Callable[[Image.Image, Callable[[Image.Image], bool]], Image.Image]


def open_upright(
    source: Source,
    turn: memory.Turn,
    *,
    reduce: Reduce | None = None,
    is_searched: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Upright:
    """Open a picture from anything that `images.open_image` takes. Raises ImageError, and ArgumentError where the
    environment allows no sensible amount of memory.

    `turn` takes what memory it needs, and keeps that for the picture that is returned. `reduce` may have a JPEG decoded
    at a fraction of its size: it is given the undecoded picture, and what says whether one may be decoded as it is set.
    `is_searched`: of an animation or of several pages the first frame that is not blank, palettes as RGB, what is
    transparent on white, high dynamic range as sRGB.
    """
    name, most_bytes = describe(source), memory.allowed()
    try:
        with ExitStack() as opened:
            file = _file(source, name, opened)
            way = _Way(name, reduce, is_searched, max_pixels, most_bytes, turn)
            if isinstance(file, Image.Image):
                return way.shown(file)
            found = way.read(file)
            return found._replace(image=in_ordinary_range(found.image, file)) if is_searched else found
    except Exception as error:  # decoders raise almost anything at bytes that they did not expect
        _fail(error, name)


class _Way(NamedTuple):
    """How one picture is opened."""

    name: str
    reduce: Reduce | None
    is_searched: bool
    max_pixels: int
    most_bytes: int
    turn: memory.Turn

    def read(self, file: IO[bytes]) -> Upright:
        """A file's picture, by what its bytes begin with."""
        file.seek(0)
        head = file.read(16)
        if head.startswith(b"\xff\xd8"):
            return self._jpeg(file)
        if head.startswith(png.SIGNATURE):
            return self._png(file)
        if head.startswith(TIFF) and (found := pages(file)):
            return self._tiff(file, found)
        if head.startswith((jxl.CODESTREAM, jxl.CONTAINER)):
            return self._finished(self._jxl(self._whole(file)), 1)
        if is_film(head + file.read(FILM_HEAD_LENGTH - len(head))):
            raise ImageError(
                "not an image", self.name, "It is a film, whatever its name says; save a frame of it as PNG."
            )
        image = opened_by_pillow(file)
        if head.startswith((jp2.CODESTREAM, jp2.CONTAINER)):
            return self._jp2(image, file)
        if image.format == "ICO":
            self.check(ico.largest(self._whole(file)))
        return self._opened(image)

    def check(self, size: tuple[int, int]) -> None:
        """Raises ImageError on more than `max_pixels`, or none."""
        if not 0 < (pixels := size[0] * size[1]) <= self.max_pixels:
            more = memory.advice(pixels / MAX_PIXELS) if self.max_pixels >= MAX_PIXELS else "Make it smaller first."
            detail = f"{size[0]} x {size[1]} pixels; wanted 1 to {self.max_pixels:,}. {more}"
            raise ImageError("too large" if pixels else "not an image", self.name, detail)

    def afford(self, size: tuple[int, int], needed: int) -> None:
        """Take so many bytes for a picture of this size. Raises ImageError where it may have no so many."""
        if needed > self.most_bytes:
            raise ImageError("too large", self.name, memory.refusal(size, needed))
        self.turn.take(needed)

    def shown(self, image: Image.Image) -> Upright:
        """A picture that Pillow has opened, the frame that it stands at. It is not changed."""
        self.check(image.size)
        return self._loaded(image)

    def _opened(self, image: Image.Image) -> Upright:
        """A file's picture that was opened here, so that it may be moved to another frame, if that can be afforded."""
        self.check(image.size)
        moving = self._needed(image, 1, moves=True)
        if not self.is_searched or moving > self.most_bytes or not memory.is_moving(image):
            return self._loaded(image)
        self.afford(image.size, moving)
        return self._finished(first_not_blank(image, self.max_pixels), orientation(image))

    def _loaded(self, image: Image.Image) -> Upright:
        """Decoded. A PNG tells which way up it is without that only where it says so before its pixels."""
        turn = 1 if image.format == "PNG" and "exif" not in image.info else orientation(image)
        self.afford(image.size, self._needed(image, turn))
        image.load()
        if turn != (turn := orientation(image)):
            self.afford(image.size, self._needed(image, turn))
        return self._finished(image, turn)

    def _needed(self, image: Image.Image, turn: int, *, moves: bool = False) -> int:
        return memory.needed(image, is_searched=self.is_searched, is_turned=turn != 1, moves=moves)

    def _whole(self, file: IO[bytes]) -> bytes:
        """All bytes of a file, for what is not read in pieces. Raises ImageError where there are too many."""
        if (count := file.seek(0, os.SEEK_END)) > self.most_bytes // 4:
            detail = f"Of this kind a file is held whole, and it has {count:,} bytes; wanted {self.most_bytes // 4:,}."
            raise ImageError("too large", self.name, f"{detail} {memory.advice(4 * count / memory.USUAL)}")
        file.seek(0)
        content = file.read()
        file.seek(0)
        return content

    def _finished(
        self, image: Image.Image, turn: int, size: tuple[int, int] | None = None, partial: str = ""
    ) -> Upright:
        image = eight_bits(image)
        image = turned(as_seen(image) if self.is_searched else image, turn)
        return Upright(image, size or image.size, partial)

    def _jxl(self, content: bytes) -> Image.Image:
        self.check(size := jxl.size(content))
        self.afford(size, jxl.needed(content, size, is_first=True))
        first = jxl.decode(content)
        if self.is_searched and is_blank(first) and jxl.needed(content, size, is_first=False) <= self.most_bytes:
            with contextlib.suppress(Exception):  # damaged later frames cost no picture
                return next(frame for frame in jxl.frames(content) if not is_blank(frame))
        return first

    def _jp2(self, image: Image.Image, file: IO[bytes]) -> Upright:
        """By OpenJPEG, which can decode at a fraction where the whole would take too much."""
        self.check(image.size)
        content, turn = self._whole(file), orientation(image)
        if jp2.is_deep(content) and (needed := jp2.needed_deep(content, image.size)) <= self.most_bytes:
            self.turn.take(needed)
            if deep := jp2.decode(content):
                return self._finished(deep, turn)
        size, steps = image.size, range(jp2.MOST_HALVINGS + 1)
        halved = next((step for step in steps if jp2.needed(content, size, step) <= self.most_bytes), steps[-1])
        self.afford(size, jp2.needed(content, size, halved))
        image.reduce = halved  # type: ignore[method-assign, assignment]
        image.load()
        return self._finished(image, turn, (size[1], size[0]) if is_on_its_side(turn) else size)

    def _jpeg(self, file: IO[bytes]) -> Upright:
        try:
            image, partial = jpeg.open_jpeg(file), ""
        except UnidentifiedImageError:  # perhaps for what stands beside the pixels
            file = io.BytesIO(jpeg.bare(self._whole(file)))
            image, partial = jpeg.open_jpeg(file), ""
        (width, height), turn = image.size, orientation(image)
        try:
            small = self._decoded(image, file, turn)
        except OSError as error:
            if "truncated" not in str(error).lower():
                raise
            content = self._whole(file)
            missing = jpeg.share_missing(content)
            if missing > jpeg.MOST_MISSING:
                raise
            partial = f"{f'About {missing:.0%} of its' if missing > 0.005 else 'Its last'} bytes are missing."
            whole = io.BytesIO(jpeg.completed(content))
            small = self._decoded(jpeg.open_jpeg(whole), whole, turn)
        return self._finished(small, turn, (height, width) if is_on_its_side(turn) else (width, height), partial)

    def _decoded(self, image: Image.Image, file: IO[bytes], turn: int) -> Image.Image:
        """A JPEG's pixels: no more of them than may be, if a fraction will do."""
        held = self._held(image, file)

        def fits(image: Image.Image) -> bool:
            needed = held + self._needed(image, turn)
            if image.width * image.height > self.max_pixels or needed > self.most_bytes:
                return False
            self.turn.take(needed)
            return True

        small = self.reduce(image, fits) if self.reduce else image
        for part in (2, 4, 8):
            if small.width * small.height <= self.max_pixels and held + self._needed(small, turn) <= self.most_bytes:
                break
            small = jpeg.reduced(jpeg.open_jpeg(file), part)
        self.check(small.size)
        self.afford(small.size, held + self._needed(small, turn))
        small.load()
        return small

    def _held(self, image: Image.Image, file: IO[bytes]) -> int:
        """Bytes that are held of a JPEG whatever the fraction that is decoded. Raises ImageError where they are too
        many, or the file too short for what it claims."""
        pixels = image.width * image.height
        if not pixels:
            self.check(image.size)
        if pixels <= self.max_pixels and pixels * _HELD * _COEFFICIENT <= self.most_bytes:
            if jpeg.is_one_scan(image, file):
                return 0
            self._check_scans(file)
            return jpeg.samples(image) * _COEFFICIENT
        self._check_scans(file)
        file.seek(0)
        head = file.read(_HEAD_BYTES)
        samples = jpeg.held_samples(image, head)
        if samples > _HELD * self.max_pixels or pixels > jpeg.MOST_A_BYTE * len(head):
            self.check(image.size)
        if samples * _COEFFICIENT > self.most_bytes:
            self.afford(image.size, samples * _COEFFICIENT)
        return samples * _COEFFICIENT

    def _check_scans(self, file: IO[bytes]) -> None:
        """Each scan goes over the whole picture once more, however few bytes it has."""
        file.seek(0)
        if (count := jpeg.count_scans(file.read(_HEAD_BYTES))) > jpeg.MOST_SCANS:
            detail = f"It has {count:,} scans, where a picture has some ten; save it again or leave it out."
            raise ImageError("damaged", self.name, detail)

    def _png(self, file: IO[bytes]) -> Upright:
        try:
            return self._opened_png(file)
        except ImageError:
            raise
        except Exception:
            content = self._whole(file)
        try:
            return self._opened_png(io.BytesIO(png.without_damage(content)))
        except Exception:  # frames out of order
            if b"acTL" not in content:
                raise
            return self._opened_png(io.BytesIO(png.without_damage(content, is_still=True)))

    def _opened_png(self, file: IO[bytes]) -> Upright:
        image = opened_by_pillow(file, ["PNG"])
        if self.is_searched and isinstance(image.info.get("transparency"), int) and image.mode == "L":
            file.seek(0)
            image.info["transparency"] = png.transparent_grey(file.read(2**16)) or image.info["transparency"]
            file.seek(0)
        return self._opened(image)

    def _tiff(self, file: IO[bytes], pages: list[Page]) -> Upright:
        found, left = [], self.max_pixels
        for page in pages if self.is_searched else pages[:1]:
            pixels = page.size[0] * page.size[1]
            if not found:
                self.check(page.size)
            elif pixels > left or page.needed_bytes + 4 * pixels > self.most_bytes:
                break
            left -= pixels
            self.afford(page.size, page.needed_bytes)
            try:
                found.append(eight_bits(tiff.read_page(file, page, self.most_bytes)))
            except Exception:
                if found:  # a damaged second page costs no picture
                    break
                raise
            if not self.is_searched or not is_blank(found[-1]):
                return self._finished(found[-1], 1)
            del found[1:]
        return self._finished(found[0], 1)


def _file(source: Any, name: str, opened: ExitStack) -> IO[bytes] | Image.Image:
    """What to read from, or a picture that needs no reading; `opened` closes what is opened here."""
    if isinstance(source, Image.Image):
        return source
    if is_numbers(source):
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
        source = opened.enter_context(open(source, "rb"))  # noqa: SIM115
    if isinstance(source, io.TextIOBase) or not hasattr(source, "read"):
        detail = "Wanted a path, URL, bytes, binary file, PIL image, array or tensor."
        raise ImageError("unsupported type", name, detail)
    file = source if hasattr(source, "seekable") and source.seekable() else io.BytesIO(source.read())
    if file.seek(0, os.SEEK_END) == 0:
        raise ImageError("empty file", name, "It holds no bytes; copy or download it again.")
    return file


def _local(url: str, name: str) -> str:
    """The path that a file:// address names; ImageError where it is another machine's."""
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise ImageError("missing", name, f"It names a file on {parts.netloc}, and only this machine's are read.")
    return url2pathname(parts.path)


def _fetched(url: str) -> bytes:
    from diptych.media.download import fetch

    try:
        return fetch(url)
    except FetchError as error:
        raise ImageError("download failed", url, f"{error}. Check the address, or download it yourself.") from error


_FAILURES = (  # the first that fits is said in our words; {said} is Pillow's or the system's
    (IsADirectoryError, "a folder", "Wanted one picture: name a file in it."),
    (PermissionError, "no permission", "This user may not read it; change its permissions."),
    ((FileNotFoundError, NotADirectoryError), "missing", "There is no such file; check the path."),
    ((Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError), "too large", "{said} Scale it down."),
    (tiff.NeedsPackage, "needs a package", "{said}"),
    (UnidentifiedImageError, "not an image", "Wanted JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC or JPEG 2000."),
    (EOFError, "truncated", "It ends too early ({said}); copy or download it again."),
    (Exception, "damaged", "It could not be read ({said}); save it again or leave it out."),
)


def _fail(error: Exception, name: str) -> NoReturn:
    if isinstance(error, ImageError):
        raise error
    said = str(error) or type(error).__name__
    kind = EOFError if "truncated" in said.lower() else type(error)
    _, reason, detail = next(failure for failure in _FAILURES if issubclass(kind, failure[0]))
    raise ImageError(reason, name, detail.format(said=said)) from error


def describe(source: Any) -> str:
    """What to call a source in a message."""
    if isinstance(source, (str, os.PathLike)):
        return os.fsdecode(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"{len(source):,} bytes"
    if is_numbers(source):
        kind = "array" if isinstance(source, np.ndarray) else "tensor"
        return f"{kind} {tuple(source.shape)} of {source.dtype}"
    return str(getattr(source, "filename", "") or getattr(source, "name", "") or f"a {type(source).__name__}")
