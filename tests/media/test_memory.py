"""What a picture may take to be decoded: known before, the same whichever command, and no more than is said."""

from __future__ import annotations

import io
import struct
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import tifffile
from drawn_files import encoded, video
from PIL import Image

import diptych
from diptych.cli import FAILED, PARTLY
from diptych.errors import ArgumentError, ImageError
from diptych.media import memory
from diptych.media.content.videos import read_video
from diptych.media.formats import ico, jp2, jpeg_structure, jxl, tiff_tags
from diptych.media.images import open_image
from diptych.media.pixels import bands
from diptych.media.pixels.tone_mapping import HLG, PQ, to_srgb
from diptych.media.preprocessing import Preprocess, prepare_image
from tests.conftest import Cli
from tests.media.test_images import png_header
from tests.media.test_opening import COLOURS, DEEP, DEEP_GREY, GREY

SPEC = Preprocess(32)
PICTURE = Image.fromarray(COLOURS)
CLEAR = Image.fromarray(np.dstack([COLOURS, GREY]), "RGBA")
BLACK = Image.new("RGBA", PICTURE.size, "black")


def heic() -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(PICTURE).save(file)
    return file.getvalue()


def tiff(values: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


def moving(kind: str) -> bytes:
    return encoded(BLACK, kind, save_all=True, append_images=[CLEAR], duration=100)


KINDS = {
    "png 16": lambda: imagecodecs.png_encode(DEEP_GREY),
    "png alpha": lambda: encoded(CLEAR, "PNG"),
    "png palette": lambda: encoded(PICTURE.convert("P"), "PNG"),
    "png black and white": lambda: encoded(PICTURE.convert("1"), "PNG"),
    "gif": lambda: encoded(PICTURE, "GIF"),
    "webp": lambda: encoded(PICTURE, "WEBP", lossless=True),
    "avif": lambda: encoded(PICTURE, "AVIF"),
    "heic": heic,
    "jp2": lambda: encoded(PICTURE, "JPEG2000"),
    "jp2 of 16 bits": lambda: imagecodecs.jpeg2k_encode(DEEP, level=0),
    "jxl": lambda: imagecodecs.jpegxl_encode(COLOURS, lossless=True),
    "bmp": lambda: encoded(PICTURE, "BMP"),
    "qoi": lambda: imagecodecs.qoi_encode(COLOURS),
    "ppm": lambda: encoded(PICTURE, "PPM"),
    "tiff": lambda: encoded(PICTURE, "TIFF"),
    "tiff 16": lambda: tiff(DEEP, photometric="rgb"),
    "tiff 16 with alpha": lambda: tiff(np.dstack([DEEP, DEEP_GREY]), photometric="rgb", extrasamples=[2]),
    "tiff planes": lambda: tiff(DEEP.transpose(2, 0, 1).copy(), photometric="rgb"),
    "tiff floats": lambda: tiff(GREY.astype("f4") / 300),
    "tiff palette": lambda: encoded(PICTURE.convert("P"), "TIFF"),
    "moving gif": lambda: moving("GIF"),
    "moving png": lambda: moving("PNG"),
    "moving webp": lambda: moving("WEBP"),
}


def allow(monkeypatch: pytest.MonkeyPatch, count: float) -> None:
    monkeypatch.setenv(memory.SWITCH, repr(count / memory.USUAL))


def reason_of(content: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        prepare_image(content, SPEC, decode="fast")
    return caught.value.reason


@pytest.mark.parametrize("kind", KINDS)
def test_what_takes_too_much_is_refused_and_named_before_it_is_decoded(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = KINDS[kind]()
    for decode in ("fast", "exact"):
        assert prepare_image(content, SPEC, decode=decode).size == PICTURE.size  # type: ignore[arg-type]
    allow(monkeypatch, PICTURE.width * PICTURE.height - 1)  # less than a byte a pixel: not even of 1/32 of a JPEG 2000
    if not kind.startswith("jp2"):
        assert reason_of(content) == "too large"
    allow(monkeypatch, 1)
    with pytest.raises(
        ImageError, match=r"84 x 60 pixels, which take .* GB to decode|A file of this kind is read whole"
    ):
        open_image(content)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_in_bands_is_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = KINDS[kind]()
    whole = [open_image(content, decode=decode) for decode in ("fast", "exact")]  # type: ignore[arg-type]
    monkeypatch.setattr(bands, "BAND_PIXELS", 84 * 7)  # of 60 rows
    parts = [open_image(content, decode=decode) for decode in ("fast", "exact")]  # type: ignore[arg-type]
    assert all(np.array_equal(one, other) for one, other in zip(whole, parts, strict=True))


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_high_dynamic_range_in_bands_is_the_same(transfer: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = to_srgb(DEEP, transfer, 9)
    monkeypatch.setattr(bands, "BAND_PIXELS", 84 * 7)
    assert np.abs(whole.astype(int) - to_srgb(DEEP, transfer, 9)).max() <= 1


def test_sixteen_bits_take_little_more_than_what_is_made_of_them() -> None:
    side = 3000
    content = imagecodecs.png_encode(np.zeros((side, side), np.uint16))
    tracemalloc.start()  # of numpy and of Pillow's bytes, in which copies were made
    try:
        prepare_image(content, SPEC, decode="fast")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 9 * bands.BAND_PIXELS + 3 * side**2  # 16 bytes a pixel it was


def test_what_is_needed_is_channels_and_depth_and_what_is_made_of_them() -> None:
    def needed(content: bytes, **options: bool) -> float:
        with Image.open(io.BytesIO(content)) as image:
            options = {"is_searched": True, "is_turned": False} | options
            return memory.needed(image, **options) / (image.width * image.height)  # type: ignore[arg-type]

    grey, colours, clear = encoded(Image.fromarray(GREY), "PNG"), encoded(PICTURE, "PNG"), encoded(CLEAR, "PNG")
    assert (needed(grey), needed(colours), needed(clear)) == (1, 4, 8)
    assert needed(imagecodecs.png_encode(DEEP_GREY)) == 3
    assert (needed(colours, is_turned=True), needed(clear, is_turned=True)) == (8, 12)
    assert needed(encoded(PICTURE, "WEBP")) == 20
    (page,) = tiff_tags.pages(io.BytesIO(tiff(DEEP, photometric="rgb", rowsperstrip=6)))
    assert page.needed_bytes == 84 * 60 * (6 + 4) + 2 * 84 * 6 * 6


def test_a_jpeg_that_takes_too_much_is_decoded_at_a_fraction(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(Image.new("RGB", (1600, 1200), "red"))
    allow(monkeypatch, 4 * 800 * 600)
    found = prepare_image(content, SPEC)
    assert (found.size, tuple(found.pixels[5, 5])) == ((1600, 1200), (254, 0, 0))
    assert open_image(content).size == (800, 600)
    progressive = encoded(Image.new("RGB", (1600, 1200), "red"), progressive=True)
    assert reason_of(progressive) == "too large"  # it is held whole, whatever the fraction
    with Image.open(io.BytesIO(progressive)) as image:
        assert jpeg_structure.count_samples(image) == 1600 * 1200 * 3 // 2


def test_a_jpeg_of_more_scans_than_any_picture_has_is_refused_before_each_goes_over_it() -> None:
    content = encoded(PICTURE, progressive=True)
    last = content.rindex(b"\xff\xda")
    scan = content[last:-2]
    assert prepare_image(content[:-2] + scan * 100 + content[-2:], SPEC).size == PICTURE.size
    with pytest.raises(ImageError, match=r"damaged.* It has 6\d\d scans; pictures have about ten"):
        prepare_image(content[:-2] + scan * 600 + content[-2:], SPEC)


def test_whether_a_jpeg_is_one_scan_is_told_without_looking_through_it() -> None:
    def is_one(picture: Image.Image, **options: Any) -> bool:
        file = io.BytesIO(encoded(picture, **options))
        return jpeg_structure.is_one_scan(jpeg_structure.open_jpeg(file), file)

    kinds = [PICTURE, Image.fromarray(GREY), PICTURE.convert("CMYK")]
    assert [is_one(picture) for picture in kinds] == [True] * 3
    assert [is_one(picture, progressive=True) for picture in kinds] == [False] * 3
    content = encoded(PICTURE)
    cut = content.replace(content[content.index(b"\xff\xda") :][:14], b"\xff\xda\0\x08\1\1\0\0\x3f\0")
    assert not jpeg_structure.is_one_scan(jpeg_structure.open_jpeg(file := io.BytesIO(cut)), file)


def test_jpeg_2000_that_takes_too_much_is_decoded_at_a_fraction(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(Image.new("RGB", (640, 480), "red"), "JPEG2000", num_resolutions=6)
    assert jp2.needed(content, (640, 480)) == 640 * 480 * 19
    allow(monkeypatch, 19 * 320 * 240)
    assert open_image(content).size == (320, 240)
    assert prepare_image(content, SPEC).size == (640, 480)


def test_an_animation_too_large_to_be_gone_through_shows_its_first_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    content = moving("PNG")
    assert np.asarray(open_image(content, decode="fast")).max() > 0
    allow(monkeypatch, 10 * 84 * 60)
    assert np.asarray(open_image(content, decode="fast")).max() == 0


def test_a_jpeg_xl_tells_its_frames_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    content = imagecodecs.jpegxl_encode(np.stack([0 * COLOURS, COLOURS, COLOURS]), lossless=True)
    assert jxl.needed(content, (84, 60), is_first=True) == 84 * 60 * 3 * 7
    assert jxl.needed(content, (84, 60), is_first=False) == 84 * 60 * 3 * (7 + 4 * 3)
    assert np.asarray(open_image(content, decode="fast")).max() > 0
    allow(monkeypatch, 84 * 60 * 3 * 18)
    assert np.asarray(open_image(content, decode="fast")).max() == 0


def test_an_icon_is_as_large_as_the_picture_in_it() -> None:
    inner = encoded(Image.new("RGB", (300, 200)), "PNG")
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22)
    icon = struct.pack("<HHH", 0, 1, 1) + entry + inner
    assert ico.largest(icon) == (300, 200)
    with pytest.raises(ImageError, match="300 x 200 pixels; wanted"):
        open_image(icon, max_pixels=300 * 200 - 1)
    bitmap = encoded(Image.new("RGBA", (64, 64)), "ICO", bitmap_format="bmp", sizes=[(64, 64)])
    assert ico.largest(bitmap) == (64, 64)


def test_a_tiff_with_a_tile_larger_than_itself_counts_the_tile() -> None:
    (page,) = tiff_tags.pages(io.BytesIO(tiff(COLOURS, tile=(512, 1024), photometric="rgb")))
    assert page.segment == 512 * 1024
    assert page.needed_bytes == 4 * 84 * 60 + 3 * 512 * 1024


def test_a_tiff_of_more_samples_than_there_can_be_is_refused() -> None:
    content = bytearray(encoded(PICTURE, "TIFF"))
    at = content.find(struct.pack("<HHI", 277, 3, 1))
    content[at : at + 12] = struct.pack("<HHII", 277, 4, 1, 2**32 - 1)
    (page,) = tiff_tags.pages(io.BytesIO(content))
    assert page.samples == 65535
    assert reason_of(bytes(content)) in ("damaged", "too large", "not an image")


def test_a_film_with_large_frames_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = video(tmp_path / "v.mp4", [(200, 0, 0), (0, 200, 0)], size=(96, 64))
    allow(monkeypatch, memory.VIDEO * 96 * 64)
    with path.open("rb") as file:
        assert read_video(file, "v.mp4", SPEC).frames
    allow(monkeypatch, memory.VIDEO * 96 * 64 - 8)
    with path.open("rb") as file, pytest.raises(ImageError, match="96 x 64 pixels, which take"):
        read_video(file, "v.mp4", SPEC)


def test_eight_k_films_and_two_hundred_megapixel_phones_are_below_the_usual_limit() -> None:
    assert 7680 * 4320 * memory.VIDEO <= memory.USUAL == memory.memory_limit()
    assert memory.USUAL >= 16320 * 12240 // 4 * 4  # at half their sides


def test_who_has_huge_scans_can_allow_more(monkeypatch: pytest.MonkeyPatch) -> None:
    huge = png_header(20_000, 20_000)
    assert reason_of(huge) == "too large"
    monkeypatch.setenv(memory.SWITCH, "4")
    assert reason_of(huge) == "truncated"  # its pixels are looked for, and are not there


def test_what_was_too_large_is_told_what_allows_it_and_read_when_that_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.effect_noise((64, 64), 50).convert("RGB").save(tmp_path / "scan.png")
    allow(monkeypatch, 1000)
    with diptych.open_index(tmp_path) as index:
        (failure,) = index.update().failures.values()
        assert (failure.reason, "or allow more: DIPTYCH_PICTURE_GB=2" in failure.message) == ("too large", True)
        monkeypatch.delenv(memory.SWITCH)
        updated = index.update()
        assert (updated.failures, len(index.search("noise").hits)) == ({}, 1)


def test_as_much_is_advised_as_is_needed_and_nothing_that_no_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    for size, advised in ((20_000, "=3 in the environment"), (40_000, "=9 in the environment"), (2**31 - 1, "first.")):
        with pytest.raises(ImageError, match=f"Make it smaller.*{advised}") as caught:
            open_image(png_header(size, size))
        assert ("environment" in str(caught.value)) == ("environment" in advised)


@pytest.mark.parametrize("word", ["much", "0", "-1", "nan", "inf"])
def test_an_allowance_that_is_none_is_named(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(memory.SWITCH, word)
    with pytest.raises(ArgumentError, match=f"DIPTYCH_PICTURE_GB='{word}' is no limit; wanted gigabytes"):
        open_image(PICTURE)


def test_large_pictures_are_decoded_one_after_another() -> None:
    most, order, second_waits = memory.memory_limit(), [], threading.Event()

    def other() -> None:
        with memory.MemoryReservation() as turn:
            second_waits.set()
            turn.reserve(most // 2)
            order.append("second")

    with memory.MemoryReservation() as turn:
        turn.reserve(most)
        thread = threading.Thread(target=other)
        thread.start()
        second_waits.wait()
        with memory.MemoryReservation() as small:
            small.reserve(2**20)  # who takes little waits for nobody
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_each_command_counts_and_names_what_is_too_large(
    cli: Cli, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = tmp_path / "small.png", tmp_path / "large.png"
    PICTURE.save(small)
    Image.fromarray(np.zeros((400, 400), np.uint16)).save(large)
    allow(monkeypatch, 3 * 400 * 400 - 1)
    model = ("--model", tiny_model, "--device", "cpu")
    said = cli("classify", small, large, "--labels", "a,b", *model)
    assert said.code == PARTLY
    assert "large.png: too large. 400 x 400 pixels" in said.err
    for line in (("difference", small, large, "--words", "a,b"), ("locate", large, "a")):
        said = cli(*line, *model)
        assert (said.code, "large.png: too large. 400 x 400 pixels" in said.err) == (FAILED, True)
