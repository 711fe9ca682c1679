"""Files of many kinds, made on the fly."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

RED, GREEN, BLUE, WHITE = (200, 30, 30), (30, 170, 30), (30, 30, 200), (250, 250, 250)
Colour = tuple[int, int, int]


def encoded(picture: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """A picture as a file's bytes."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def left_and_right(left: Colour, right: Colour, width: int = 160, height: int = 120) -> Image.Image:
    """Two halves, so that a turn shows."""
    picture = Image.new("RGB", (width, height), left)
    picture.paste(right, (width // 2, 0, width, height))
    return picture


def exif(**tags: Any) -> Image.Exif:
    """EXIF from names: orientation, make, model, description, taken, gps=(latitude, longitude)."""
    block = Image.Exif()
    numbers = {"orientation": 0x112, "make": 0x10F, "model": 0x110, "description": 0x10E, "changed": 0x132}
    for name, number in numbers.items():
        if name in tags:
            block[number] = tags[name]
    if "taken" in tags:
        block.get_ifd(0x8769)[0x9003] = tags["taken"]
    if "gps" in tags:
        latitude, longitude = tags["gps"]
        north, east = "N" if latitude >= 0 else "S", "E" if longitude >= 0 else "W"
        block.get_ifd(0x8825).update({1: north, 2: _sexagesimal(latitude), 3: east, 4: _sexagesimal(longitude)})
    return block


def _sexagesimal(degrees: float) -> tuple[float, float, float]:
    whole, minutes = divmod(abs(degrees) * 60, 60)
    return whole, int(minutes), (minutes - int(minutes)) * 60


def video(
    path: Path,
    colours: list[Colour],
    *,
    seconds_each: int = 1,
    rate: int = 10,
    codec: str = "libx264",
    keyframe_every: int = 10,
    size: tuple[int, int] = (160, 120),
    metadata: dict[str, str] | None = None,
) -> Path:
    """A video that shows one colour after another."""
    with av.open(str(path), "w") as container:
        container.metadata.update(metadata or {})
        stream: Any = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = *size, "yuv420p", keyframe_every
        stream.codec_context.time_base = Fraction(1, rate)
        if codec == "libx264":
            stream.options = {"sc_threshold": "0", "preset": "ultrafast"}  # keyframes where they were asked for alone
        for index in range(len(colours) * seconds_each * rate):
            picture = Image.new("RGB", size, colours[index // (seconds_each * rate)])
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    return path


def turned(mp4: Path) -> Path:
    """The same video, held upright: a display matrix of a quarter to the right, as phones write it (ISO 14496-12)."""
    content = bytearray(mp4.read_bytes())
    at = content.index(b"tkhd") + 4 + 40
    assert struct.unpack(">9i", content[at : at + 36])[0] == 1 << 16
    content[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 120 << 16, 0, 1 << 30)
    mp4.write_bytes(content)
    return mp4


def dng(
    preview: bytes | None, *, preview_size: tuple[int, int] = (640, 480), orientation: int = 1, grey: int = 1500
) -> bytes:
    """A DNG of 512 x 384 grey pixels, and an embedded JPEG preview of another colour (TIFF 6.0, DNG 1.4)."""
    width, height, jpeg = 512, 384, preview or b""
    sensor = np.full((height, width), grey, np.uint16).tobytes()

    def directories(jpeg_at: int, sensor_at: int, second_at: int) -> tuple[bytes, bytes]:
        first = [
            (254, "I", [1]), (256, "I", [preview_size[0]]), (257, "I", [preview_size[1]]), (258, "H", [8, 8, 8]),
            (259, "H", [7]), (262, "H", [6]), (273, "I", [jpeg_at]), (277, "H", [3]), (278, "I", [preview_size[1]]),
            (279, "I", [len(jpeg)]),
        ] if preview else []  # fmt: skip
        first += [
            (271, "s", b"Maker\0"), (272, "s", b"Maker X100\0"), (274, "H", [orientation]),
            (306, "s", b"2020:02:03 04:05:06\0"), (330, "I", [second_at]), (50706, "B", [1, 4, 0, 0]),
            (50708, "s", b"Maker X100\0"), (50721, "r", [1, 0, 0, 0, 1, 0, 0, 0, 1]), (50728, "r", [1, 1, 1]),
            (50778, "H", [21]),
        ]  # fmt: skip
        second = [
            (254, "I", [0]), (256, "I", [width]), (257, "I", [height]), (258, "H", [16]), (259, "H", [1]),
            (262, "H", [32803]), (273, "I", [sensor_at]), (277, "H", [1]), (278, "I", [height]),
            (279, "I", [len(sensor)]), (33421, "H", [2, 2]), (33422, "B", [0, 1, 1, 2]), (50714, "H", [0]),
            (50717, "H", [4095]),
        ]  # fmt: skip
        head = _directory(first, 8)
        return head, _directory(second, 8 + len(head))

    head, second = directories(0, 0, 0)
    jpeg_at = 8 + len(head) + len(second)
    head, second = directories(jpeg_at, jpeg_at + len(jpeg), 8 + len(head))
    return b"II*\0" + struct.pack("<I", 8) + head + second + jpeg + sensor


def _directory(entries: list[tuple[int, str, Any]], at: int) -> bytes:
    """A TIFF directory that stands at this offset, with its values behind it."""
    types = {"B": 1, "s": 2, "H": 3, "I": 4, "r": 10}
    out, beyond, start = struct.pack("<H", len(entries)), b"", at + 2 + 12 * len(entries) + 4
    for tag, kind, values in sorted(entries):
        packed, count = values, len(values)
        if kind == "r":
            packed = b"".join(struct.pack("<ii", value, 1) for value in values)
        elif kind != "s":
            packed = struct.pack(f"<{count}{kind}", *values)
        if len(packed) > 4:
            packed, beyond = struct.pack("<I", start + len(beyond)), beyond + packed + b"\0" * (len(packed) % 2)
        out += struct.pack("<HHI", tag, types[kind], count) + packed.ljust(4, b"\0")
    return out + struct.pack("<I", 0) + beyond


def srgb_light(values: np.ndarray) -> np.ndarray:
    """sRGB's values, 0 to 1, as linear light (IEC 61966-2-1)."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def pq(nits: np.ndarray) -> np.ndarray:
    """cd/m² as BT.2100's PQ codes them, 0 to 1 (table 4)."""
    power = (nits / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def hlg(nits: np.ndarray) -> np.ndarray:
    """What a camera writes in HLG, so that a screen of 1,000 cd/m² shows these (..., 3) cd/m² (BT.2100, table 5)."""
    shown = nits / 1000
    brightness = (shown @ np.array((0.2627, 0.6780, 0.0593)))[..., None]
    scene = shown * np.where(brightness > 0, brightness, 1) ** (1 / 1.2 - 1)
    low, high = np.sqrt(3 * scene), 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, low, high)
