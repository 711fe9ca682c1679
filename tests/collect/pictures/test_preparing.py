"""What comes becomes what a shard holds: upright, 8 bits, no transparency, its own bytes where no pixel changes."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from diptych.collect.pairs import Picture
from diptych.collect.pictures.hashing import distance
from diptych.collect.pictures.preparing import PictureRefused, prepare
from diptych.collect.pictures.rules import PICTURE_RULES, PictureRules

ANY = PictureRules(disabled=tuple(PICTURE_RULES))
# Soft colours with a bright corner, so that every way to turn it looks different
PIXELS = np.asarray(
    Image.fromarray(np.random.default_rng(5).integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize((160, 120))
).copy()
PIXELS[:40, :40] = (250, 240, 90)
PLACE = "N 52 30.9"


def file_of(image: Image.Image | np.ndarray, kind: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(file, kind, **({"quality": 95} if kind == "JPEG" else {}) | options)
    return file.getvalue()


def seen(picture: Picture) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture.content)).convert("RGB"), np.int16)


def differs(picture: Picture, wanted: np.ndarray) -> float:
    """The mean difference in levels; infinite for another shape."""
    pixels = seen(picture)
    return float(np.abs(pixels - wanted.astype(np.int16)).mean()) if pixels.shape == wanted.shape else float("inf")


def reason_of(content: bytes, **options: Any) -> str:
    with pytest.raises(PictureRefused) as caught:
        prepare(content, **options)
    assert str(caught.value) == caught.value.message != ""
    return caught.value.reason


# --- its own bytes


@pytest.mark.parametrize(
    ("kind", "suffix", "options"),
    [
        ("JPEG", ".jpg", {}),
        ("JPEG", ".jpg", {"progressive": True}),
        ("JPEG", ".jpg", {"subsampling": 0, "restart_marker_rows": 1}),
        ("PNG", ".png", {}),
        ("WEBP", ".webp", {"quality": 90}),
        ("WEBP", ".webp", {"lossless": True}),
    ],
)
def test_a_picture_that_needs_no_change_keeps_its_bytes(kind: str, suffix: str, options: dict[str, Any]) -> None:
    content = file_of(PIXELS, kind, **options)
    picture = prepare(content, size=120)
    assert picture.content == content
    assert (picture.suffix, picture.width, picture.height) == (suffix, 160, 120)
    assert (picture.original_width, picture.original_height) == (160, 120)
    assert picture.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_metadata_is_left_out_and_the_pixels_stay(kind: str) -> None:
    exif = Image.Exif()
    exif[271] = PLACE
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options = {"exif": exif} if kind != "PNG" else {}
    content = file_of(PIXELS, kind, icc_profile=profile, **options) + b"a film that follows"
    if kind == "JPEG":
        content = content[:2] + b"\xff\xfe\x00\x0bcomment !" + content[2:]
    assert PLACE.encode() in content or kind == "PNG"
    picture = prepare(content)
    assert picture.content in (file_of(PIXELS, kind), content) or len(picture.content) < len(content)
    for trace in (PLACE.encode(), b"comment", b"film", b"ICC", b"iCCP"):
        assert trace not in picture.content
    assert differs(picture, np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))) == 0
    assert picture.sha256 == hashlib.sha256(content).hexdigest()


def test_grey_stays_grey() -> None:
    content = file_of(Image.fromarray(PIXELS).convert("L"))
    assert prepare(content).content == content
    assert Image.open(io.BytesIO(prepare(content, size=60).content)).mode == "L"


# --- upright


# By hand, from EXIF 2.3: where the picture's first row and first column are seen
UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: stored.swapaxes(0, 1)[:, ::-1],
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: stored.swapaxes(0, 1)[::-1],
}


@pytest.mark.parametrize("turn", UPRIGHT)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_every_orientation_is_upright(turn: int, kind: str) -> None:
    exif = Image.Exif()
    exif[274] = turn
    picture = prepare(file_of(PIXELS, kind, exif=exif))
    wanted = UPRIGHT[turn](PIXELS)
    assert differs(picture, wanted) < 4
    assert (picture.original_height, picture.original_width) == wanted.shape[:2]
    assert Image.open(io.BytesIO(picture.content)).getexif().get(274, 1) == 1
    small = prepare(file_of(PIXELS, kind, exif=exif), size=60)
    assert (small.height, small.width) == tuple(side // 2 for side in wanted.shape[:2])


# --- 8 bits, no transparency, sRGB


def test_grey_of_16_bits_is_scaled() -> None:
    deep = np.asarray(Image.fromarray(PIXELS).convert("L")).astype(np.uint16) * 257
    picture = prepare(file_of(Image.fromarray(deep), "PNG"))
    assert picture.suffix == ".jpg"
    assert differs(picture, np.repeat((deep >> 8).astype(np.uint8)[..., None], 3, -1)) < 4


def test_transparency_is_on_white() -> None:
    alpha = np.full(PIXELS.shape[:2], 255, np.uint8)
    alpha[60:] = 0
    picture = prepare(file_of(np.dstack([PIXELS, alpha]), "PNG"))
    assert differs(picture, np.where(alpha[..., None] == 255, PIXELS, 255)) < 4


def test_a_palette_with_a_transparent_colour_is_on_white() -> None:
    image = Image.fromarray((np.arange(160 * 120) % 160 // 80).astype(np.uint8).reshape(120, 160)).convert("P")
    image.putpalette([0, 0, 255, 200, 0, 0])
    picture = prepare(file_of(image, "PNG", transparency=0))
    assert np.abs(seen(picture)[60, 40] - 255).max() < 8
    assert np.abs(seen(picture)[60, 120] - (200, 0, 0)).max() < 16


def test_inks_become_rgb() -> None:
    inks = Image.new("CMYK", (160, 120), (0, 0, 0, 0))
    inks.paste((0, 255, 255, 0), (0, 0, 80, 120))
    picture = prepare(file_of(inks))
    assert np.abs(seen(picture)[60, 40] - (255, 0, 0)).max() < 8
    assert np.abs(seen(picture)[60, 120] - 255).max() < 8


def wide_gamut_profile() -> bytes:
    """A profile of sRGB with red and green exchanged, so that its use cannot be missed."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(profile[128:132], "big")
    rows = {bytes(profile[at : at + 4]): at for at in range(132, 132 + 12 * count, 12)}
    red, green = rows[b"rXYZ"], rows[b"gXYZ"]
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(profile)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_colours_are_those_of_the_profile(kind: str) -> None:
    picture = prepare(file_of(PIXELS, kind, icc_profile=wide_gamut_profile()))
    assert differs(picture, PIXELS[..., [1, 0, 2]]) < 6
    assert "icc_profile" not in Image.open(io.BytesIO(picture.content)).info


def test_a_profile_that_is_rubbish_is_ignored() -> None:
    assert differs(prepare(file_of(PIXELS, icc_profile=b"no profile at all")), PIXELS) < 4


# --- sizes


@pytest.mark.parametrize(("size", "wanted"), [(60, (80, 60)), (119, (159, 119)), (120, (160, 120)), (500, (160, 120))])
def test_the_shorter_side_is_bounded_and_never_enlarged(size: int, wanted: tuple[int, int]) -> None:
    picture = prepare(file_of(PIXELS, "BMP"), size=size)
    assert (picture.width, picture.height) == wanted
    assert (picture.original_width, picture.original_height) == (160, 120)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_whole_pixels_are_averaged(kind: str) -> None:
    content = file_of(PIXELS, kind)
    pixels = np.asarray(Image.open(io.BytesIO(content)), np.float32)
    mean = pixels.reshape(60, 2, 80, 2, 3).mean((1, 3)).round()
    assert differs(prepare(content, size=60, rules=ANY), mean) < 2


@pytest.mark.parametrize("times", [2.5, 3.3, 5, 7.5])
def test_small_copies_are_near_lanczos(times: float) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (30, 40), dtype=np.uint8)
    image = Image.fromarray(noise).resize((800, 600), Image.Resampling.BICUBIC).convert("RGB")
    picture = prepare(file_of(image, quality=98, subsampling=0), size=round(600 / times), rules=ANY)
    wanted = np.asarray(image.resize((picture.width, picture.height), Image.Resampling.LANCZOS))
    assert differs(picture, wanted) < 3  # moved by one pixel: 10 to 30


def test_a_large_jpeg_is_the_same_picture_when_small() -> None:
    large = Image.fromarray(PIXELS).resize((1600, 1200), Image.Resampling.BICUBIC)
    picture = prepare(file_of(large), size=120)
    assert differs(picture, np.asarray(large.resize((160, 120), Image.Resampling.BICUBIC))) < 4


@pytest.mark.parametrize("size", [(1, 1), (20_000, 1), (1, 20_000)])
def test_extreme_shapes(size: tuple[int, int]) -> None:
    content = file_of(Image.new("RGB", size, (200, 10, 10)), "PNG")
    assert reason_of(content) == "small"
    assert reason_of(content, rules=PictureRules(1)) == ("single-colour" if size == (1, 1) else "aspect")
    picture = prepare(content, size=1, rules=ANY)
    assert (picture.width, picture.height) == size


def test_a_row_too_long_for_a_jpeg() -> None:
    picture = prepare(file_of(Image.new("P", (70_000, 2)), "PNG"), rules=ANY)
    assert (picture.suffix, picture.width) == (".png", 70_000)


# --- what is refused


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animations(kind: str) -> None:
    first, *others = [Image.fromarray(np.roll(PIXELS, shift, 1)) for shift in (0, 40, 80)]
    content = file_of(first, kind, save_all=True, append_images=others)
    assert reason_of(content) == "animated"
    picture = prepare(content, rules=PictureRules(disabled=["animated"]))
    assert picture.suffix == ".jpg"
    assert differs(picture, PIXELS) < 20  # GIF has 256 colours
    assert prepare(file_of(first, kind)).width == 160


def test_one_colour() -> None:
    noise = np.random.default_rng(1).integers(100, 106, PIXELS.shape, dtype=np.uint8)
    assert reason_of(file_of(noise, "PNG")) == "single-colour"
    noise[:30, :30] = 160
    assert prepare(file_of(noise, "PNG")).width == 160


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_cut_files(kind: str, share: float) -> None:
    content = file_of(PIXELS, kind)
    assert reason_of(content[: int(len(content) * share)]) in ("truncated", "damaged", "not an image")


def test_a_file_without_its_end_is_cut() -> None:
    for options in ({}, {"progressive": True}):
        content = file_of(PIXELS, **options)
        assert reason_of(content[:-200]) == "truncated"
        assert reason_of(content[:-2]) == "truncated"


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty file"), (b"<html>404</html>", "not an image"), (b"\xff\xd8\xff\xe0" + b"\0" * 99, "not an image")],
)
def test_what_is_no_picture(content: bytes, reason: str) -> None:
    assert reason_of(content) == reason


def test_bombs() -> None:
    bomb = file_of(Image.new("1", (20_000, 20_000)), "PNG")
    assert len(bomb) < 100_000
    assert reason_of(bomb, rules=ANY) == "too large"
    claims = bytearray(file_of(PIXELS))
    frame = claims.find(b"\xff\xc0")
    claims[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
    assert reason_of(bytes(claims), rules=ANY) == "too large"
    assert reason_of(bytes(claims), rules=ANY, size=64) == "too large"


# --- what a picture looks like


def test_copies_have_nearly_the_same_hash() -> None:
    large = Image.fromarray(PIXELS).resize((800, 600), Image.Resampling.BICUBIC)
    first = prepare(file_of(large, "PNG")).perceptual_hash
    for content, size in [
        (file_of(large), None),
        (file_of(large, quality=40), None),
        (file_of(large), 100),
        (file_of(large.resize((400, 300))), None),
        (file_of(large, "WEBP", quality=60), 200),
        (file_of(large.point(lambda level: level * 0.8 + 10)), None),
    ]:
        assert distance(first, prepare(content, size=size).perceptual_hash) <= 4
    other = prepare(file_of(PIXELS[:, ::-1])).perceptual_hash
    assert distance(first, other) > 16
