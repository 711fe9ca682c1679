"""Damaged picture files: what is read of them against what their formats' own decoders make of the same bytes.

    python tests/damaged.py [--files FOLDER] [--count 2000] [--keep FOLDER]

Pictures of every kind, drawn here or taken from a folder, are cut, have bytes changed, and have their chunks, segments,
tags or boxes exchanged, doubled and left out. They are read as an index reads them. Those that are read are compared
with tifffile (TIFF), libpng (pngtopnm), libjpeg (djpeg), libheif (heif-convert), libavif (avifdec), netpbm (giftopnm),
libwebp (dwebp) and OpenJPEG (opj_decompress), where these read them, too: the correlation of what a tower would see.
Debian: netpbm libjpeg-turbo-progs libheif-examples libavif-bin webp libopenjp2-tools.
"""

from __future__ import annotations

import argparse
import io
import logging
import random
import resource
import shutil
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pillow_heif
import tifffile
from PIL import Image

from diptych.media.preprocessing import Preprocess, resized_and_cropped
from diptych.media.reading.readers import ReaderPool
from diptych.media.scanning.scan import scan

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # it tells of every damaged tag
SPEC = Preprocess(64)
LEAST = 0.9
MOST_BYTES = 2**28
PNG, JPEG, TIFF = b"\x89PNG", b"\xff\xd8\xff", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
Bytes = Callable[[bytes, random.Random], bytes]


def drawn() -> dict[str, bytes]:
    """One picture as files of many kinds."""
    random_ = np.random.default_rng(3)
    picture = Image.fromarray(random_.integers(0, 256, (8, 12, 3), dtype=np.uint8)).resize(
        (120, 80), Image.Resampling.BICUBIC
    )
    colours, grey = np.asarray(picture), np.asarray(picture.convert("L")).astype(np.uint16)
    found: dict[str, bytes] = {}

    def put(name: str, kind: str, image: Image.Image = picture, **options: Any) -> None:
        file = io.BytesIO()
        image.save(file, kind, **options)
        found[name] = file.getvalue()

    def tiff(name: str, values: np.ndarray, **options: Any) -> None:
        file = io.BytesIO()
        tifffile.imwrite(file, values, **options)
        found[name] = file.getvalue()

    exif = Image.Exif()
    exif[274], exif[0x10F] = 6, "Maker"
    pillow_heif.register_heif_opener()
    put("baseline.jpg", "JPEG", quality=90, exif=exif)
    put("progressive.jpg", "JPEG", quality=90, progressive=True)
    put("inks.jpg", "JPEG", picture.convert("CMYK"), quality=90)
    put("colours.png", "PNG", exif=exif)
    put("palette.png", "PNG", picture.quantize(99))
    put("alpha.png", "PNG", Image.merge("RGBA", (*picture.split(), picture.convert("L"))))
    put("deep.png", "PNG", Image.fromarray(grey * 257))
    for ending, kind in {
        "gif": "GIF",
        "webp": "WEBP",
        "avif": "AVIF",
        "heic": "HEIF",
        "bmp": "BMP",
        "jp2": "JPEG2000",
    }.items():
        put(f"a.{ending}", kind)
    tiff("deep.tif", colours.astype(np.uint16) * 257, photometric="rgb", compression="zlib", predictor=True)
    tiff("apart.tif", (colours.astype(np.uint16) * 257).transpose(2, 0, 1).copy(), photometric="rgb")
    tiff("tiles.tif", colours, photometric="rgb", compression="lzw", tile=(32, 32))
    tiff("negative.tif", 65535 - grey * 257, photometric="miniswhite", compression="packbits")
    tiff("float.tif", grey.astype("f4") / 255, compression="zlib")
    tiff("jpeg.tif", colours, photometric="rgb", compression="jpeg")
    tiff("signed.tif", (grey.astype("i4") - 128).astype("i2"), byteorder=">")
    return found


# --- damage


def cut(content: bytes, choice: random.Random) -> bytes:
    """The end is missing: mostly a little."""
    least = len(content) * choice.choice((0, 0.5, 0.9, 0.97))
    return content[: choice.randrange(int(least), len(content))]


def changed(content: bytes, choice: random.Random) -> bytes:
    """Some bytes are others, here and there or close together, mostly at the beginning."""
    out, count = bytearray(content), choice.choice((1, 1, 1, 2, 4, 16))
    first = choice.choice((0, 0, 0, choice.randrange(len(out)), max(len(out) - 200, 0)))
    length = choice.choice((64, 500, len(out)))
    for _ in range(count):
        at = min(first + choice.randrange(length), len(out) - 1)
        out[at] = choice.choice((choice.randrange(256), out[at] ^ 1 << choice.randrange(8), 0, 255))
    return bytes(out)


def beside(content: bytes, choice: random.Random) -> bytes:
    """Bytes of what stands beside the pixels, which are the largest part, are others."""
    parts = list(_parts(content))
    small = [at for at, part in enumerate(parts) if at and 0 < len(part) < max(map(len, parts))]
    for _ in range(choice.choice((1, 1, 2, 4)) if small else 0):
        at = choice.choice(small)
        parts[at] = changed(parts[at], choice)
    return b"".join(parts)


def reordered(content: bytes, choice: random.Random) -> bytes:
    """The parts that its format is made of exchanged, doubled or left out."""
    parts = list(_parts(content))
    for _ in range(choice.choice((1, 1, 2, 3))):
        if len(parts) < 3:
            break
        one, other = choice.randrange(1, len(parts)), choice.randrange(1, len(parts))
        way = choice.randrange(4)
        if way < 2:
            parts[one], parts[other] = parts[other], parts[one]
        elif way == 2:
            parts.insert(other, parts[one])
        else:
            del parts[one]
    return b"".join(parts)


def _parts(content: bytes) -> Iterator[bytes]:
    if content.startswith(PNG):
        yield content[:8]
        yield from _lengths(content, 8, 12)
    elif content.startswith(JPEG):
        yield from _segments(content)
    elif content.startswith(TIFF):
        yield from _tags(content)
    elif content[4:8] in (b"ftyp", b"jP  "):
        yield from _boxes(content)
    else:
        step = max(len(content) // 40, 4)
        yield from (content[at : at + step] for at in range(0, len(content), step))


def _lengths(content: bytes, at: int, more: int) -> Iterator[bytes]:
    while at + 4 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        end = min(at + length + more, len(content)) if length + more else len(content)
        yield content[at:end]
        at = max(end, at + 1)


def _boxes(content: bytes) -> Iterator[bytes]:
    """The outermost of ISO's boxes, and those in `meta` one by one."""
    for box in _lengths(content, 0, 0):
        if box[4:8] == b"meta":
            yield box[:12]
            yield from _lengths(box, 12, 0)
        else:
            yield box


def _segments(content: bytes) -> Iterator[bytes]:
    yield content[:2]
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        yield content[at:end]
        at = end
    scans = content[at:].split(b"\xff\xda")
    yield from (b"\xff\xda" + scan if number else scan for number, scan in enumerate(scans))


def _tags(content: bytes) -> Iterator[bytes]:
    """The tags of the first directory of a classic file one by one, all else in two pieces."""
    order = "<" if content[:2] == b"II" else ">"
    (at,) = struct.unpack_from(order + "I", content, 4)
    if content[2:4] not in (b"*\0", b"\0*") or at + 2 > len(content):
        yield content
        return
    (count,) = struct.unpack_from(order + "H", content, at)
    yield content[: at + 2]
    for tag in range(at + 2, at + 2 + 12 * count, 12):
        yield content[tag : tag + 12]
    yield content[at + 2 + 12 * count :]


WAYS: tuple[Bytes, ...] = (cut, changed, beside, reordered)

# --- the formats' own decoders


def reference(content: bytes, place: Path) -> np.ndarray | None:
    """(h, w, 3) uint8 of what the format's own decoder makes of a file; None where it reads none, or is none."""
    try:
        if content.startswith(JPEG):
            return _by_tool(content, place, "djpeg", "-scale", "1/8" if len(content) > 400_000 else "1/1", "{file}")
        if content.startswith(PNG):
            return _by_tool(content, place, "pngtopnm", "-mix", "-background", "#ffffff", "{file}")
        if content.startswith(TIFF):
            return _by_tifffile(content)
        if content.startswith(b"GIF8"):
            return _by_tool(content, place, "giftopnm", "{file}")
        if content[8:12] == b"WEBP":
            return _by_tool(content, place, "dwebp", "{file}", "-o", "{png}")
        if content[4:8] == b"jP  ":
            return _by_tool(content, place, "opj_decompress", "-i", "{file}", "-o", "{png}")
        if content[4:8] == b"ftyp":
            is_avif = content[8:12] in (b"avif", b"avis")
            return _by_tool(content, place, "avifdec" if is_avif else "heif-convert", "{file}", "{png}")
    except Exception:  # of any kind: the reference does not read it
        return None
    return None


def _by_tool(content: bytes, place: Path, *command: str) -> np.ndarray | None:
    ending = ".jp2" if command[0] == "opj_decompress" else ""  # which goes by names
    file, png, out = place / f"file{ending}", place / "out.png", place / "out"
    file.write_bytes(content)
    png.unlink(missing_ok=True)
    line = [part.format(file=file, png=png) for part in command]
    with out.open("wb") as stdout:
        done = subprocess.run(line, stdout=stdout, stderr=subprocess.DEVNULL, timeout=60, preexec_fn=_limited)
    if "{png}" in command:
        return np.asarray(Image.open(png).convert("RGB")) if done.returncode == 0 and png.exists() else None
    if done.returncode not in (0, 2):  # 2 are djpeg's warnings
        return None
    image = Image.open(out)
    return _eight(np.asarray(image), 65535 if image.mode.startswith("I") else 255)


def _limited() -> None:
    """What claims to be huge is no reference."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_BYTES, MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_AS, (8 * MOST_BYTES, 8 * MOST_BYTES))


def _by_tifffile(content: bytes) -> np.ndarray | None:
    with tifffile.TiffFile(io.BytesIO(content)) as tiff:
        page: Any = next((page for page in tiff.pages if not page.subfiletype & 1), tiff.pages[0])
        if page.nbytes > MOST_BYTES:
            return None
        values = page.asarray()
        if "S" in page.axes:
            values = np.moveaxis(values, page.axes.index("S"), -1)
        kind = int(page.photometric)
        if kind == 3 and page.colormap is not None:
            values = np.moveaxis(page.colormap[:, np.minimum(values, page.colormap.shape[1] - 1)], 0, -1)
        is_defined = values.ndim == 2 or (values.ndim == 3 and kind)  # TIFF 6.0 has no white-is-zero in colours
        if kind not in (0, 1, 2, 3, 6) or not is_defined:
            return None
        values = (
            values
            if values.ndim == 2
            else values[..., : 3 if values.shape[2] > 2 else 1].squeeze(-1)
            if values.shape[2] < 3
            else values[..., :3]
        )
        whole = (
            (255 if np.percentile(page.colormap[page.colormap > 0], 98) < 256 else 65535)
            if kind == 3 and page.colormap is not None
            else None
        )
        eight = _eight(values, whole)
        return 255 - eight if kind == 0 else eight


def _eight(values: np.ndarray, full: int | None) -> np.ndarray:
    """By its own span but for what stands out, for a correlation asks no more."""
    values = np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)
    low, high = (0.0, float(full)) if full else np.percentile(values, (0.5, 99.5))
    eight = (np.clip((values - low) / max(high - low, 1e-9), 0, 1) * 255).astype(np.uint8)
    return eight if eight.ndim == 3 else np.repeat(eight[..., None], 3, 2)


# --- the comparison


def main() -> None:
    """Print what became of the files, and every one that looks otherwise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=Path, help="pictures to damage beside those that are drawn")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="where files that look otherwise are kept")
    options = parser.parse_args()
    endings = (".jpg", ".mpo", ".png", ".gif", ".avif", ".tif", ".heic")
    sources = drawn() | {
        path.name: path.read_bytes()
        for path in sorted((options.files or Path()).glob("*"))
        if options.files and path.suffix in endings
    }
    with tempfile.TemporaryDirectory() as made:
        root = Path(made) / "files"
        write(sources, root, options.count, random.Random(options.seed))
        print(told(compared(root, Path(made)), root, options.keep))


def write(sources: dict[str, bytes], root: Path, count: int, choice: random.Random) -> None:
    """So many damaged files, each named by how it was damaged and what it was."""
    root.mkdir()
    names = list(sources)
    for number in range(count):
        name, way = names[number % len(names)], WAYS[number // len(names) % len(WAYS)]
        (root / f"{number}-{way.__name__}-{name}").write_bytes(way(sources[name], choice))


class Outcome(NamedTuple):
    """A file's name, why it was not read, whether it was read in part, whether its format's decoder read it, and how
    alike both are, if both read it and the other saw more than one colour."""

    name: str
    reason: str | None
    is_partial: bool
    has_reference: bool
    alike: float | None


def compared(root: Path, place: Path) -> list[Outcome]:
    """What became of each file in `root`; `place` is for the other decoders' files."""
    with ReaderPool(root, SPEC) as readers:
        found = sorted(readers.read(scan(root)), key=lambda contents: contents.file.path)
    outcomes = []
    for contents in found:
        other = reference((root / contents.file.path).read_bytes(), place)
        reason, alike = contents.failure and contents.failure.reason, None
        if other is not None and not reason and np.ptp(other) > 8 and contents.parts[0].pixels is not None:
            alike = likeness(contents.parts[0].pixels, other)
        outcomes.append(Outcome(contents.file.path, reason, bool(contents.partial), other is not None, alike))
    return outcomes


def told(outcomes: list[Outcome], root: Path, keep: Path | None) -> str:
    """All of it in words; what looks otherwise, or was refused alone, is copied to `keep`."""
    reasons = Counter(one.reason for one in outcomes if one.reason)
    lines = [
        f"{len(outcomes)} files: {sum(not one.reason for one in outcomes)} read, of these "
        f"{sum(one.is_partial for one in outcomes)} in part; "
        + ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    ]
    refused = [one for one in outcomes if one.reason and one.has_reference]
    kinds = Counter(f"{Path(one.name).suffix} {one.reason}" for one in refused)
    lines.append(
        "refused, though the other decoder made something of it: "
        + ", ".join(f"{n} {k}" for k, n in kinds.most_common())
    )
    unlike = [one for one in outcomes if one.alike is not None and one.alike < LEAST]
    lines += [f"  {one.name}: {one.alike:.3f}" for one in unlike]
    for ending in sorted({Path(one.name).suffix for one in outcomes}):
        values = [one.alike for one in outcomes if one.alike is not None and one.name.endswith(ending)]
        if values:
            below = sum(value < LEAST for value in values)
            lines.append(f"{ending:6} {len(values):4} compared, {below} below {LEAST}, least {min(values):.3f}")
    for one in (*unlike, *refused) if keep else ():
        place = keep / ("refused" if one.reason else "unlike")
        place.mkdir(exist_ok=True, parents=True)
        shutil.copy(root / one.name, place)
    return "\n".join(lines)


def likeness(pixels: np.ndarray, other: np.ndarray) -> float:
    """The correlation of what was read with what another decoder read, which may not have turned it."""
    seen = pixels.astype(float).ravel()
    turned = (np.rot90(way, turns).copy() for turns in range(4) for way in (other, other[:, ::-1]))
    return max(_correlation(seen, resized_and_cropped(one, SPEC).astype(float).ravel()) for one in turned)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    if one.std() == 0 or other.std() == 0:
        return float(one.std() == other.std())
    return float(np.corrcoef(one, other)[0, 1])


if __name__ == "__main__":
    main()
