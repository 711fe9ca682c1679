"""A thousand hostile files: each is counted by its reason, none is fatal, none hangs."""

from __future__ import annotations

import io
import os
import random
import socket
import struct
import zlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pillow_heif
import pytest
from drawn_files import BLUE, GREEN, RED, dng, encoded, exif, left_and_right, video
from PIL import Image

from diptych.media.items import FileContents
from diptych.media.preprocessing import Preprocess
from diptych.media.reading.readers import ReaderPool
from diptych.media.scanning.scan import scan

TIMEOUT_S = 600.0  # whoever needs it hangs, on the busiest machine; how what hangs is ended is in test_readers
KNOWN_REASONS = {
    "empty file", "not an image", "truncated", "damaged", "too large", "missing", "no permission", "not a regular file",
    "not a video", "no pictures", "not a text", "no text", "unreadable", "crashed", "timed out",
}  # fmt: skip
ODD_NAMES = (
    b"new\nline", b"\xf0\x9f\x92\xa9\xf0\x9f\x87\xa9\xf0\x9f\x87\xaa", b"\xff\xfe\xfa", b" spaces ", b"-rf",
    b"a'\"`$(b)", b"%s%n", b"\xe2\x80\xaegpj.exe", b"\x1b[31mred", b"x" * 250, b"CON", b"a\\b",
    b"\xc3\x28", b"~", b"*?[a]",
)  # fmt: skip


class Folder(NamedTuple):
    """What was made: `good` paths with the grey that each must show, those that `must` fail and why, and how many
    names there are that a scan meets."""

    root: Path
    good: dict[str, int]
    must: dict[str, str]


def sound_files(tmp_path: Path) -> dict[str, bytes]:
    """One good file of each kind."""
    picture = left_and_right(RED, BLUE, 96, 64)
    heic = io.BytesIO()
    pillow_heif.from_pillow(picture).save(heic)
    block = exif(make="Canon", model="Canon EOS", taken="2024:05:01 12:30:00", gps=(1.5, 2.5))
    kinds = {"png": "PNG", "webp": "WEBP", "gif": "GIF", "tif": "TIFF", "bmp": "BMP", "avif": "AVIF", "jp2": "JPEG2000"}
    found = {ending: encoded(picture, kind) for ending, kind in kinds.items()}
    return found | {
        "jpg": encoded(picture, exif=block, quality=95),
        "heic": heic.getvalue(),
        "dng": dng(encoded(picture), preview_size=(96, 64)),
        "mp4": video(tmp_path / "v.mp4", [RED, GREEN], size=(96, 64)).read_bytes(),
        "mkv": video(tmp_path / "v.mkv", [RED, GREEN], size=(96, 64)).read_bytes(),
        "avi": video(tmp_path / "v.avi", [RED, GREEN], size=(96, 64), codec="mpeg4").read_bytes(),
        "md": b"# Title\n\nText with [a link](x).\n",
        "txt": "One.\n\nZwölf.\n".encode(),
    }


def bombs() -> dict[str, bytes]:
    """Files that claim, or hold, far more pixels than bytes."""

    def png(width: int, height: int, content: bytes = b"") -> bytes:
        def chunk(kind: bytes, content: bytes) -> bytes:
            return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

        head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", content) + chunk(b"IEND", b"")

    tif = bytearray(encoded(Image.new("L", (8, 8)), "TIFF"))
    at = struct.unpack("<I", tif[4:8])[0]
    for entry in range(at + 2, at + 2 + 12 * struct.unpack("<H", tif[at : at + 2])[0], 12):
        if struct.unpack("<H", tif[entry : entry + 2])[0] in (256, 257):
            tif[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, 2**31 - 1)
    webp = bytearray(encoded(Image.new("RGB", (8, 8)), "WEBP", lossless=True))
    webp[21:25] = struct.pack("<I", 16382 | 16382 << 14)  # each side less one, in 14 bits
    return {
        "claims.png": png(2**31 - 1, 2**31 - 1),
        "holds.png": png(60_000, 60_000, zlib.compress(b"\0" * 2**24)),
        "claims.gif": b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\x80\0\0" + b"\0" * 6 + b"\x2c" + b"\0" * 40,
        "claims.tif": bytes(tif),
        "claims.webp": bytes(webp),
        "claims.bmp": b"BM" + struct.pack("<IIIIiiHHIIiiII", 0, 0, 54, 40, 2**30, 2**30, 1, 24, 0, 0, 1, 1, 0, 0),
        "claims.ppm": b"P6 999999 999999 255\n",
        "claims.jp2": _jp2(2**31 - 1),
    }


def _jp2(side: int) -> bytes:
    content = encoded(Image.new("L", (88, 88)), "JPEG2000")
    size = struct.pack(">II", 88, 88)
    assert content.count(size) >= 2  # in the header box, and in the code stream
    return content.replace(size, struct.pack(">II", side, side))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    root, choice = tmp_path_factory.mktemp("hostile"), random.Random(20240501)
    good, must = dict[str, int](), dict[str, str]()
    sound = sound_files(tmp_path_factory.mktemp("sound"))

    def put(path: str | bytes, content: bytes, reason: str | None = None) -> None:
        place = Path(os.fsdecode(os.path.join(os.fsencode(root), os.fsencode(path))))
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(content)
        if reason:
            must[os.fsdecode(path)] = reason

    endings = list(sound)
    for index in range(400):
        ending = endings[index % len(endings)]
        put(f"fuzzed/{index}.{ending}", _fuzzed(sound[ending], choice))
    for index in range(300):
        ending = endings[index % len(endings)]
        put(f"cut/{index}.{ending}", sound[ending][: choice.randrange(1, len(sound[ending]))])
    for index in range(60):
        put(f"empty/{index}.{endings[index % len(endings)]}", b"", "empty file")
    for index in range(75):
        put(f"noise/{index}.{endings[index % len(endings)]}", choice.randbytes(choice.randrange(1, 4000)))
    for name, content in bombs().items():
        put(f"bombs/{name}", content)
        must[f"bombs/{name}"] = "too large"
    for index in range(20):
        put(f"nul/{index}.txt", b"text \0 and zeros" * (index + 1), "not a text")
    wrong = [
        ("jpg", "mp4"),
        ("mp4", "jpg"),
        ("png", "txt"),
        ("txt", "png"),
        ("txt", "dng"),
        ("heic", "md"),
        ("md", "avi"),
    ]
    for index, (kind, name) in enumerate(wrong * 4):
        put(f"wrong/{index}.{name}", sound[kind])
    for index, name in enumerate(ODD_NAMES * 4):
        folder, grey = f"odd{index // len(ODD_NAMES)}/".encode(), index * 4
        put(folder + name + b".png", encoded(Image.new("RGB", (9, 9), (grey,) * 3), "PNG"))
        good[os.fsdecode(folder + name + b".png")] = grey
    for index, (kind, name) in enumerate([("PNG", "jpg"), ("JPEG", "png"), ("WEBP", "gif"), ("GIF", "tif")] * 10):
        put(f"renamed/{index}.{name}", encoded(Image.new("RGB", (9, 9), (index * 5,) * 3), kind))
        good[f"renamed/{index}.{name}"] = index * 5
    for index in range(40):
        reason = "missing" if index < 20 else "not a regular file"
        put(f"vanishing/{index}.jpg", sound["jpg"], reason)
    return Folder(root, good, must)


def _fuzzed(content: bytes, choice: random.Random) -> bytes:
    """Some bytes changed, most of them near the beginning; now and then a part doubled or left out."""
    changed = bytearray(content)
    for _ in range(choice.choice((1, 3, 10, 40))):
        at = choice.randrange(len(changed) if choice.random() < 0.3 else min(len(changed), 100))
        changed[at] = choice.choice((0, 0xFF, 0x7F, 0x80, choice.randrange(256)))
    if choice.random() < 0.2:
        start, end = sorted(choice.randrange(len(changed)) for _ in range(2))
        changed[start:end] = changed[start:end] * choice.choice((0, 2))
    return bytes(changed)


def _add_special_files(root: Path) -> int:
    """Pipes, sockets, loops, a tree deeper than a path may be; how many names they are to a scan."""
    for index in range(5):
        os.mkfifo(root / f"pipe{index}.jpg")
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(os.path.relpath(root / "socket.png"))
    (root / "loop.jpg").symlink_to("loop.jpg")
    (root / "loops").mkdir()
    for index in range(5):
        (root / "loops" / str(index)).symlink_to(root / ("loops" if index % 2 else "."))
    here = os.open(root, os.O_RDONLY)
    for _ in range(25):  # 25 x 200 characters: the system's limit for a path is 4,096
        os.mkdir("d" * 200, dir_fd=here)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    return 5 + 1 + 1 + 5 + 1


def test_a_thousand_hostile_files(hostile: Folder) -> None:
    root = hostile.root
    there = sum(len(names) for _, _, names in os.walk(root)) + _add_special_files(root)
    assert there >= 1000
    found = scan(root)
    files = list(found)
    for index in range(40):  # between the scan and the reading
        (root / f"vanishing/{index}.jpg").unlink()
        if index >= 20:
            (os.mkfifo if index % 2 else os.mkdir)(root / f"vanishing/{index}.jpg")
    contents = _read(root, files)

    assert len(contents) == len(files) == len({one.file.path for one in contents})
    assert len(files) + len(found.failures) + sum(found.skipped.values()) == there
    reasons = Counter(one.failure.reason if one.failure else "read" for one in contents)
    assert set(reasons) - {"read"} <= KNOWN_REASONS
    assert reasons["timed out"] == 0
    by_path = {one.file.path: one for one in contents}
    for path, grey in hostile.good.items():
        one = by_path[path]
        assert one.failure is None, one.failure
        assert np.abs(one.parts[0].pixels.astype(int) - grey).max() <= 2  # type: ignore[union-attr]
    for path, reason in hostile.must.items():
        failure = by_path[path].failure
        assert failure is not None, path
        assert failure.reason == reason, failure
        assert failure.message.startswith(f"{path}: {failure.reason}. ")
    for path, failure in found.failures.items():
        assert failure.reason in ("not a regular file", "broken link", "unreadable folder"), path
    assert Counter(failure.reason for failure in found.failures.values())["unreadable folder"] == 1


def _read(root: Path, files: list) -> list[FileContents]:
    """All that comes of them."""
    with ReaderPool(root, Preprocess(32), processes=2, timeout_s=TIMEOUT_S) as readers:
        return list(readers.read(files))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may read everything")
def test_without_permission(tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir()
    for name in ("a.jpg", "shut/b.jpg"):
        (tmp_path / name).write_bytes(encoded(left_and_right(RED, BLUE)))
    (tmp_path / "a.jpg").chmod(0)
    (tmp_path / "shut").chmod(0)
    try:
        found = scan(tmp_path)
        contents = _read(tmp_path, list(found))
        assert [one.failure and one.failure.reason for one in contents] == ["no permission"]
        assert found.failures["shut"].reason == "unreadable folder"
    finally:
        (tmp_path / "shut").chmod(0o700)
