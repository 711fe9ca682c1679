"""Pictures of high dynamic range look as the same in the ordinary one to whoever searches them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from drawn_files import BLUE, GREEN, RED, encoded, hlg, pq, srgb_light
from PIL import Image, ImageDraw

from diptych.index.update.outdated_kinds import outdated_kind
from diptych.media.pixels.tone_mapping import BT2020, HLG, PQ
from diptych.media.preprocessing import Preprocess, resized_and_cropped

SPEC = Preprocess(48)
_TO_BT2020 = np.array(((0.6274, 0.3293, 0.0433), (0.0691, 0.9195, 0.0114), (0.0164, 0.0880, 0.8956)))  # BT.2087


def drawing(side: int = 96) -> np.ndarray:
    """Three colours on a grey ramp: (h, w, 3) uint8."""
    picture = Image.linear_gradient("L").resize((side, side)).convert("RGB")
    paint = ImageDraw.Draw(picture)
    for index, colour in enumerate((RED, GREEN, BLUE)):
        left = index * side // 3 + side // 24
        paint.rectangle((left, side // 4, left + side // 4, 3 * side // 4), fill=colour)
    return np.asarray(picture)


def coded(values: np.ndarray, transfer: int) -> Image.Image:
    """The same picture as PQ or HLG, with white at 203 cd/m²."""
    nits = 203 * srgb_light(values / 255) @ _TO_BT2020.T
    return Image.fromarray(np.rint((pq(nits) if transfer == PQ else hlg(nits)) * 255).astype(np.uint8))


def named(content: bytes, transfer: int) -> bytes:
    """AVIF or HEIC that says which values these are: Pillow's writers do not."""
    assert content.count(b"colrnclx") == 1
    at = content.index(b"colrnclx") + 8
    return content[:at] + struct.pack(">HH", BT2020, transfer) + content[at + 4 :]


def _heic(picture: Image.Image, transfer: int) -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(picture).save(file, quality=95)
    return named(file.getvalue(), transfer)


def _avif(picture: Image.Image, transfer: int) -> bytes:
    return named(encoded(picture, "AVIF", quality=95), transfer)


def _png(picture: Image.Image, transfer: int) -> bytes:
    content, body = encoded(picture, "PNG"), b"cICP" + bytes((BT2020, transfer, 0, 1))
    chunk = struct.pack(">I", 4) + body + struct.pack(">I", zlib.crc32(body))
    return content[:33] + chunk + content[33:]


WRITERS = {"heic": _heic, "avif": _avif, "png": _png}


def apart(content: bytes, values: np.ndarray) -> float:
    """How far what is searched is from an ordinary picture, a value on average."""
    found = resized_and_cropped(content, SPEC, decode="fast").astype(int)
    return float(np.abs(found - resized_and_cropped(values, SPEC, decode="fast").astype(int)).mean())


@pytest.mark.parametrize("transfer", [PQ, HLG])
@pytest.mark.parametrize("kind", WRITERS)
def test_it_looks_as_in_the_ordinary_range(kind: str, transfer: int, tmp_path: Path) -> None:
    write: Callable[[Image.Image, int], bytes] = WRITERS[kind]
    content = write(coded(drawing(), transfer), transfer)
    assert apart(content, drawing()) < 6
    assert apart(encoded(coded(drawing(), transfer), "PNG"), drawing()) > 20  # what it was seen as
    (tmp_path / "a").write_bytes(content)
    assert "high dynamic range" in (outdated_kind(str(tmp_path / "a"), "picture") or "")


@pytest.mark.parametrize("kind", WRITERS)
def test_what_says_that_it_is_ordinary_stays(kind: str) -> None:
    plain = Image.fromarray(drawing())
    assert apart(WRITERS[kind](plain, 13), drawing()) < 3


def test_a_large_one_is_computed_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.media.dynamic_range._SHORT_PX", 64)
    values = drawing(200)
    assert apart(_png(coded(values, PQ), PQ), values) < 6


def test_a_chunk_that_is_cut_off() -> None:
    content = _png(coded(drawing(), PQ), PQ)
    at = content.index(b"cICP")
    assert (
        apart(
            content[: at - 4] + b"\0\0\0\0cICP" + struct.pack(">I", zlib.crc32(b"cICP")) + content[at + 12 :], drawing()
        )
        > 20
    )
