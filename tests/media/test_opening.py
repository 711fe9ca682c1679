"""Files of every kind that people have, drawn here: what is whole is read, and looks as it was drawn."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from drawn_files import encoded
from PIL import Image, ImageCms

from diptych.errors import ImageError
from diptych.media import images, preprocessing
from diptych.media.formats import jpeg_structure
from diptych.media.images import open_image
from diptych.media.preprocessing import Preprocess, resized_and_cropped

SPEC = Preprocess(32)
COLOURS = np.asarray(
    Image.fromarray(np.random.default_rng(5).integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize((84, 60))
)
GREY = np.asarray(Image.fromarray(COLOURS).convert("L"))
DEEP, DEEP_GREY = COLOURS.astype(np.uint16) * 257, GREY.astype(np.uint16) * 257
ORIENTATION = (274, 3, 1, 6, True)  # a tag for tifffile


def likeness(content: bytes, drawn: np.ndarray, decode: images.Decode = "fast") -> float:
    """The correlation of what is seen of a file with what is seen of the drawing."""
    seen, wanted = (resized_and_cropped(source, SPEC, decode=decode).astype(float) for source in (content, drawn))
    return float(np.corrcoef(seen.ravel(), wanted.ravel())[0, 1])


def seen_as(content: bytes, drawn: np.ndarray) -> bool:
    """Whether a file looks as it was drawn, dark and light included."""
    means = [resized_and_cropped(source, SPEC, decode="fast").mean() for source in (content, drawn)]
    return likeness(content, drawn) > 0.99 and abs(means[0] - means[1]) < 6


def reason_of(content: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        resized_and_cropped(content, SPEC, decode="fast")
    return caught.value.reason


def tiff(values: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


# --- TIFF

SHARES = GREY / 255
TIFFS: dict[str, tuple[Callable[[], bytes], np.ndarray]] = {
    "white is zero, 8 bits": (lambda: tiff(255 - GREY, photometric="miniswhite"), GREY),
    "white is zero, 16 bits": (lambda: tiff(65535 - DEEP_GREY, photometric="miniswhite"), GREY),
    "white is zero, floats": (lambda: tiff((1 - SHARES).astype("f4"), photometric="miniswhite"), GREY),
    "planes apart, 16 bits": (lambda: tiff(DEEP.transpose(2, 0, 1).copy(), photometric="rgb"), COLOURS),
    "planes apart, packed": (
        lambda: tiff(DEEP.transpose(2, 0, 1).copy(), photometric="rgb", compression="lzw", tile=(32, 32)),
        COLOURS,
    ),
    "32 bits": (lambda: tiff((SHARES * (2**32 - 1)).astype("u4")), GREY),
    "32 bits, few used": (lambda: tiff(GREY.astype("u4") * 257), GREY),
    "signed, 8 bits": (lambda: tiff((GREY.astype("i2") - 128).astype("i1")), GREY),
    "signed, 16 bits": (lambda: tiff((DEEP_GREY.astype("i4") - 32768).astype("i2")), GREY),
    "signed, 32 bits": (lambda: tiff(((SHARES - 0.5) * 4e9).astype("i4")), GREY),
    "12 bits in 16": (lambda: tiff(DEEP_GREY >> 4), GREY),
    "12 bits in 16, white is zero": (lambda: tiff(4095 - (DEEP_GREY >> 4), photometric="miniswhite"), GREY),
    "10 bits in 16, colours": (lambda: tiff(DEEP >> 6, photometric="rgb"), COLOURS),
    "12 bits packed": (lambda: tiff(DEEP_GREY >> 4, bitspersample=12), GREY),
    "float colours": (lambda: tiff((COLOURS / 255).astype("f4"), photometric="rgb"), COLOURS),
    "float colours to 255": (lambda: tiff(COLOURS.astype("f4"), photometric="rgb"), COLOURS),
    "half floats": (lambda: tiff(SHARES.astype("f2")), GREY),
    "double floats": (lambda: tiff(SHARES), GREY),
    "double float colours": (lambda: tiff(COLOURS / 255, photometric="rgb", compression="zlib"), COLOURS),
    "light beyond white": (lambda: tiff(((COLOURS / 255.0) ** 2.2 * 6).astype("f4"), photometric="rgb"), COLOURS),
    "16 bits with alpha": (
        lambda: tiff(np.dstack([DEEP, np.full_like(DEEP_GREY, 65535)]), photometric="rgb", extrasamples=["unassalpha"]),
        COLOURS,
    ),
    "16 bits grey with alpha": (
        lambda: tiff(
            np.dstack([DEEP_GREY, np.full_like(DEEP_GREY, 65535)]), photometric="minisblack", planarconfig="contig",
            extrasamples=["unassalpha"],
        ),
        GREY,
    ),
    "16 bits and something": (
        lambda: tiff(np.dstack([DEEP, 0 * DEEP_GREY]), photometric="rgb", extrasamples=["unspecified"]),
        COLOURS,
    ),
    "16 bits of inks": (
        lambda: tiff(np.asarray(Image.fromarray(COLOURS).convert("CMYK")).astype("u2") * 257, photometric="separated"),
        COLOURS,
    ),
    "big": (lambda: tiff(DEEP, photometric="rgb", bigtiff=True), COLOURS),
    "big, big-endian": (lambda: tiff(COLOURS, photometric="rgb", bigtiff=True, byteorder=">"), COLOURS),
    "big-endian floats, packed": (lambda: tiff(SHARES.astype("f4"), byteorder=">", compression="zlib"), GREY),
    "big-endian 16 bits, packed": (lambda: tiff(DEEP_GREY, byteorder=">", compression="lzw"), GREY),
    "JPEG within": (lambda: tiff(COLOURS, photometric="rgb", compression="jpeg"), COLOURS),
    "turned, 16 bits": (
        lambda: tiff(np.rot90(DEEP).copy(), photometric="rgb", extratags=[ORIENTATION]),
        COLOURS,
    ),
    "turned, floats": (lambda: tiff(np.rot90(SHARES).astype("f4"), extratags=[ORIENTATION]), GREY),
}  # fmt: skip


@pytest.mark.parametrize("kind", TIFFS)
def test_a_tiff_looks_as_it_was_drawn(kind: str) -> None:
    make, drawn = TIFFS[kind]
    assert seen_as(make(), drawn)
    assert likeness(make(), drawn, "exact") > 0.99


def test_floats_of_another_unit_are_shown_by_their_span() -> None:
    for factor in (1e-9, -3.0, 1e9):
        assert abs(likeness(tiff((GREY * factor).astype("f4")), GREY)) > 0.99


@pytest.mark.parametrize("factor", [1, 257])
def test_a_colour_map_of_8_or_16_bits(factor: int) -> None:
    few = Image.fromarray(COLOURS).quantize(200)
    colours = np.zeros((3, 256), np.uint16)
    colours[:, :200] = np.array(few.getpalette()[: 3 * 200]).reshape(200, 3).T
    content = tiff(np.asarray(few), photometric="palette", colormap=colours * np.uint16(factor))
    assert seen_as(content, np.asarray(few.convert("RGB")))


def test_lab() -> None:
    spaces = [ImageCms.createProfile(name) for name in ("sRGB", "LAB")]
    lab = ImageCms.profileToProfile(Image.fromarray(COLOURS), *spaces, outputMode="LAB")
    assert seen_as(encoded(lab, "TIFF"), COLOURS)  # type: ignore[arg-type]


def test_a_preview_before_the_picture_is_passed_over() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(np.zeros((6, 8, 3), np.uint8), photometric="rgb", subfiletype=1)
        writer.write(COLOURS, photometric="rgb")
    assert np.array_equal(np.asarray(open_image(file.getvalue())), COLOURS)


def test_the_first_page_that_is_not_blank() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for page in (np.full_like(COLOURS, 250), np.zeros_like(COLOURS), COLOURS):
            writer.write(page, photometric="rgb")
    assert np.array_equal(np.asarray(open_image(file.getvalue(), decode="fast")), COLOURS)
    assert open_image(file.getvalue()).getpixel((0, 0)) == (250, 250, 250)
    blank = encoded(Image.new("RGB", (9, 9), "white"), "TIFF", save_all=True, append_images=[Image.new("RGB", (9, 9))])
    assert open_image(blank, decode="fast").getpixel((0, 0)) == (255, 255, 255)


def test_a_tiff_that_needs_a_package_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    apart, whole = tiff(DEEP.transpose(2, 0, 1).copy(), photometric="rgb"), tiff(DEEP, photometric="rgb")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(
        ImageError, match=r"needs a package.*16 bits, its colours in separate planes.*diptych\[formats\]"
    ) as caught:
        open_image(apart)
    assert caught.value.reason == "needs a package"
    assert seen_as(whole, COLOURS)  # Pillow's eight bits are better than none
    assert seen_as(tiff(65535 - DEEP_GREY, photometric="miniswhite"), GREY)


# --- PNG


def chunk(kind: bytes, data: bytes, *, is_sound: bool = True) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ (not is_sound))


CHUNKS = {
    "a text that unpacks to megabytes": chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(3_000_000))),
    "a long text": chunk(b"tEXt", b"k\0" + b"x" * 2_000_000),
    "XMP that unpacks to megabytes": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(3_000_000))),
    "a text of an unknown packing": chunk(b"zTXt", b"k\0\7junk"),
    "a text with a wrong sum": chunk(b"tEXt", b"k\0v", is_sound=False),
    "an empty profile": chunk(b"iCCP", b""),
    "a profile that unpacks to megabytes": chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(3_000_000))),
    "a profile with a wrong sum": chunk(b"iCCP", b"x\0\0" + zlib.compress(b"x"), is_sound=False),
    "a short gamma": chunk(b"gAMA", b"abc"),
    "a long resolution": chunk(b"pHYs", b"1234567890"),
    "short primaries": chunk(b"cHRM", b"12"),
    "an empty sRGB": chunk(b"sRGB", b""),
    "a short transparency": chunk(b"tRNS", b"a"),
    "a transparency with a wrong sum": chunk(b"tRNS", b"\0\0\0\0\0\0", is_sound=False),
    "an animation of no frames": chunk(b"acTL", bytes(8)),
    "half an animation": chunk(b"acTL", b"abc"),
    "half a frame": chunk(b"fcTL", b"1234"),
    "no EXIF": chunk(b"eXIf", b"xx"),
    "a palette that is none": chunk(b"PLTE", b"abcdefg"),
    "something unknown": chunk(b"quUx", b"1" * 77, is_sound=False),
}


@pytest.mark.parametrize("place", ["before", "behind"])
@pytest.mark.parametrize("kind", CHUNKS)
def test_a_png_whose_pixels_are_whole_is_read(kind: str, place: str) -> None:
    content = encoded(Image.fromarray(COLOURS), "PNG")
    at = 33 if place == "before" else len(content) - 12
    damaged = content[:at] + CHUNKS[kind] + content[at:]
    for decode in ("fast", "exact"):
        assert np.array_equal(np.asarray(open_image(damaged, decode=decode)), COLOURS)  # type: ignore[arg-type]


def test_texts_without_end_cost_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.PngImagePlugin.MAX_TEXT_MEMORY", 300_000)  # Pillow's is 64 MB
    content = encoded(Image.fromarray(COLOURS), "PNG")
    text = chunk(b"tEXt", b"k\0" + b"x" * 9000) * 40
    assert np.array_equal(np.asarray(open_image(content[:33] + text + content[33:])), COLOURS)


def test_a_png_whose_header_is_not_first() -> None:
    content = encoded(Image.fromarray(COLOURS), "PNG")
    moved = content[:8] + chunk(b"tEXt", b"k\0v") + content[8:]
    assert np.array_equal(np.asarray(open_image(moved)), COLOURS)


def test_what_stands_beside_the_damage_still_counts() -> None:
    exif = Image.Exif()
    exif[274] = 6
    content = encoded(Image.fromarray(COLOURS), "PNG", exif=exif)
    damaged = content[:33] + CHUNKS["an empty profile"] + content[33:]
    assert open_image(damaged).size == (60, 84)


def test_a_png_without_its_pixels_is_not_read() -> None:
    content = encoded(Image.fromarray(COLOURS), "PNG")
    damaged = content[:33] + CHUNKS["an empty profile"] + content[33:]
    assert reason_of(damaged[:-2000]) == reason_of(content[:-2000]) == "truncated"


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_grey_of_few_bits_with_a_transparent_one(depth: int) -> None:
    numbers = np.arange(8, dtype=np.uint8)[None].repeat(8, 0) % 2**depth
    clear = 2**depth - 2 if depth > 1 else 0
    bits = "".join(f"{number:0{depth}b}" for number in numbers[0])
    row = b"\0" + int(bits, 2).to_bytes(depth, "big")
    header = struct.pack(">IIBBBBB", 8, 8, depth, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"tRNS", struct.pack(">H", clear)), (b"IDAT", zlib.compress(row * 8)), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)
    wanted = np.where(numbers == clear, 255, numbers.astype(int) * 255 // (2**depth - 1))
    assert np.array_equal(np.asarray(open_image(content, decode="fast"))[..., 0], wanted)


# --- JPEG

PHOTO = Image.effect_noise((240, 180), 60).convert("RGB").resize((360, 270), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_without_its_last_bytes_is_read_in_part(mode: str, progressive: bool) -> None:
    content = encoded(PHOTO.convert(mode), "JPEG", quality=90, progressive=progressive)
    whole = preprocessing.prepare_image(content, SPEC, decode="fast")
    assert not whole.partial
    for missing in (1, 2, len(content) // 20, len(content) // 10):
        for decode in ("fast", "exact"):
            part = preprocessing.prepare_image(content[:-missing], SPEC, decode=decode)  # type: ignore[arg-type]
            assert "are missing" in part.partial or missing < 3  # which hold no pixels
            assert part.size == (360, 270)
        if missing < 3:
            assert (
                np.abs(
                    whole.pixels.astype(int)
                    - preprocessing.prepare_image(content[:-missing], SPEC, decode="fast").pixels
                ).max()
                < 9
            )
    for share in (0.5, 0.25, 0.03):
        assert reason_of(content[: int(share * len(content))]) == "truncated"


@pytest.mark.parametrize("segment", [b"\xff\x00\0\x10JFIF" + bytes(10), b"\xff\xe0\0\x10JF" + bytes(12), b"garbage"])
def test_damage_beside_a_jpeg_costs_no_picture(segment: bytes) -> None:
    exif = Image.Exif()
    exif[274] = 6
    content = encoded(PHOTO, "JPEG", exif=exif)
    damaged = content[:2] + segment + content[20:]
    assert open_image(damaged).size == (270, 360)
    assert np.array_equal(np.asarray(open_image(damaged)), np.asarray(open_image(content)))


def test_how_much_of_a_jpeg_is_missing() -> None:
    for progressive in (False, True):
        content = encoded(PHOTO, "JPEG", quality=90, progressive=progressive)
        for missing in (0.05, 0.1, 0.2):
            told = jpeg_structure.missing_fraction(content[: int((1 - missing) * len(content))])
            assert told == pytest.approx(missing, abs=0.04)
    assert jpeg_structure.missing_fraction(b"\xff\xd8\xff\xe0\0\x10JFIF") == 1


def test_a_jpeg_of_200_megapixels_is_read_at_a_fraction() -> None:
    """Drawn small, with a limit as much smaller."""
    big = Image.new("L", (3200, 2400), 40)
    big.paste(220, (0, 0, 1600, 2400))
    content = encoded(big, "JPEG")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "MAX_PIXELS", 200_000)
        for decode in ("fast", "exact"):
            seen = preprocessing.prepare_image(content, Preprocess(32, mode="squash"), decode=decode)  # type: ignore[arg-type]
            assert (seen.size, int(seen.pixels[5, 5, 0]), int(seen.pixels[5, -5, 0])) == ((3200, 2400), 220, 40)
    assert open_image(content, max_pixels=200_000).size == (400, 300)
    with pytest.raises(ImageError, match="400 x 300 pixels; wanted 1 to 100,000"):
        open_image(content, max_pixels=100_000)


def test_a_progressive_jpeg_that_must_be_held_whole_is_refused() -> None:
    content = encoded(PHOTO, "JPEG", progressive=True)
    assert open_image(content, max_pixels=360 * 270 // 2).size == (180, 135)
    with pytest.raises(ImageError) as caught:
        open_image(content, max_pixels=360 * 270 // 9)
    assert caught.value.reason == "too large"


def test_a_jpeg_that_claims_more_than_its_bytes_can_hold_is_refused_unread() -> None:
    content = bytearray(encoded(PHOTO, "JPEG"))
    at = content.find(b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", 65000, 65000)
    assert reason_of(bytes(content)) == "too large"


# --- which way up


def halves(content: bytes) -> tuple[tuple[int, int], bool]:
    """The size, and whether red is at the left or on top."""
    picture = open_image(content, decode="fast")
    red, _, blue = picture.getpixel((4, 4))  # type: ignore[misc]
    return picture.size, red > blue


XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize("kind", ["AVIF", "WEBP", "JPEG", "PNG", "TIFF"])
def test_an_orientation_in_xmp_turns_nothing(kind: str) -> None:
    picture = Image.new("RGB", (64, 32), "red")
    picture.paste("blue", (32, 0, 64, 32))
    if kind == "PNG":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP.decode())
        content = encoded(picture, kind, pnginfo=info)
    else:
        content = encoded(picture, kind, **({"tiffinfo": {700: XMP}} if kind == "TIFF" else {"xmp": XMP}))
    assert b"tiff:Orientation" in content
    assert halves(content) == ((64, 32), True)
    exif = Image.Exif()
    exif[274] = 3
    if kind not in ("PNG", "TIFF"):
        assert halves(encoded(picture, kind, xmp=XMP, exif=exif)) == ((64, 32), False)


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
@pytest.mark.parametrize(
    ("container", "size", "is_left"), [(1, (64, 32), True), (3, (64, 32), False), (6, (32, 64), True)]
)
def test_the_container_s_own_word_wins(kind: str, container: int, size: tuple[int, int], is_left: bool) -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    picture = Image.new("RGB", (64, 32), "red")
    picture.paste("blue", (32, 0, 64, 32))
    exif = Image.Exif()
    exif[274], exif[0x128] = container, 2
    content = encoded(picture, kind, exif=exif.tobytes())
    lies = content.replace(b"\x01\x28\0\x03\0\0\0\x01\0\x02", b"\x01\x12\0\x03\0\0\0\x01\0\x08")  # of EXIF alone
    assert (lies != content, len(lies)) == (True, len(content))
    assert halves(lies) == halves(content) == (size, is_left)


# --- as people see them


def test_palettes_and_black_and_white_are_shrunk_in_colour() -> None:
    few = Image.fromarray(COLOURS).resize((320, 240)).quantize(64)
    assert likeness(encoded(few, "GIF"), np.asarray(few.convert("RGB"))) > 0.999
    dots = Image.fromarray(GREY).resize((640, 480)).convert("1")  # dithered
    assert likeness(encoded(dots, "PNG"), np.asarray(Image.fromarray(GREY).resize((640, 480)))) > 0.98
    assert likeness(encoded(dots, "PNG"), np.asarray(dots.convert("L")), "exact") < 0.9  # the reference's way


TRANSPARENT = {
    "PNG": {}, "WEBP": {"lossless": True, "exact": True}, "TIFF": {}, "AVIF": {"quality": 95}, "JPEG2000": {},
    "ICO": {"sizes": [(84, 60)]},
}  # fmt: skip


@pytest.mark.parametrize("kind", TRANSPARENT)
def test_what_is_transparent_is_white(kind: str) -> None:
    """Black ink on a transparent ground that hides green: seen as on white, whether it is resized or not."""
    ink = np.zeros((60, 84), np.uint8)
    ink[20:40, 30:60] = 255
    picture = Image.fromarray(np.dstack([0 * ink, np.where(ink, 0, 200).astype(np.uint8), 0 * ink, ink]))
    on_white = np.dstack([255 - ink] * 3)
    content = encoded(picture, kind, **TRANSPARENT[kind])
    assert seen_as(content, on_white)
    assert np.abs(np.asarray(open_image(content, decode="fast")).astype(int) - on_white).max() < 40  # AVIF rings
    assert open_image(content).getpixel((2, 2)) != (255, 255, 255)  # the reference's way


def test_a_bitmap_whose_alpha_was_never_set_is_opaque() -> None:
    pixels = np.dstack([COLOURS[::-1, :, ::-1], 0 * GREY]).tobytes()
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    header = struct.pack("<IiiHHIIiiII", 108, 84, 60, 1, 32, 3, len(pixels), 0, 0, 0, 0) + masks
    content = b"BM" + struct.pack("<IHHI", 122 + len(pixels), 0, 0, 122) + header + pixels
    assert seen_as(content, COLOURS)


def test_every_way_to_be_transparent() -> None:
    ink = Image.new("L", (60, 60), 0)
    ink.paste(255, (20, 20, 40, 40))
    white = 255 - np.asarray(ink)
    grey = Image.merge("LA", (Image.new("L", ink.size, 0), ink))
    palette = Image.new("P", ink.size, 0)
    palette.putpalette([0, 255, 0, 0, 0, 0])
    palette.paste(1, (20, 20, 40, 40))
    colour = Image.new("RGB", ink.size, (0, 255, 0))
    colour.paste((0, 0, 0), (20, 20, 40, 40))
    deep = np.where(np.asarray(ink) == 255, 0, 777).astype(np.uint16)
    for content in (
        encoded(grey, "PNG"),
        encoded(grey, "TIFF"),
        encoded(palette, "PNG", transparency=0),
        encoded(palette, "GIF", transparency=0),
        encoded(palette.convert("L").point([255 * (value > 20) for value in range(256)]), "PNG", transparency=255),
        encoded(colour, "PNG", transparency=(0, 255, 0)),
        encoded(Image.fromarray(deep), "PNG", transparency=777),
    ):
        assert np.array_equal(np.asarray(open_image(content, decode="fast"))[..., 0], white)
        assert open_image(content).mode == "RGB"


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_the_first_frame_that_is_not_blank(kind: str) -> None:
    drawn = Image.fromarray(COLOURS)
    blank = [Image.new("RGB", drawn.size, colour) for colour in ("white", "black")]
    options = {"default_image": True} if kind == "PNG" else {}
    content = encoded(blank[0], kind, save_all=True, append_images=[blank[1], drawn], **options)
    assert likeness(content, COLOURS) > 0.97
    assert open_image(content).getpixel((0, 0)) == pytest.approx((255, 255, 255), abs=3)
    still = encoded(blank[0], kind, save_all=True, append_images=blank[1:])
    assert open_image(still, decode="fast").getpixel((0, 0)) == pytest.approx((255, 255, 255), abs=3)


def test_a_caller_s_animation_stays_where_it_is() -> None:
    drawn = Image.fromarray(COLOURS)
    mine = Image.open(
        io.BytesIO(encoded(Image.new("RGB", drawn.size, "white"), "GIF", save_all=True, append_images=[drawn]))
    )
    assert open_image(mine, decode="fast").getpixel((0, 0)) == (255, 255, 255)
    assert mine.tell() == 0


# --- other kinds


def test_a_stereo_picture_is_its_first(tmp_path: Path) -> None:
    first, second = Image.fromarray(COLOURS), Image.fromarray(255 - COLOURS)
    content = encoded(first, "MPO", save_all=True, append_images=[second], quality=95)
    assert likeness(content, COLOURS) > 0.99


@pytest.mark.parametrize("options", [{}, {"no_jp2": True}])
def test_jpeg_2000(options: dict[str, Any]) -> None:
    assert likeness(encoded(Image.fromarray(COLOURS), "JPEG2000", **options), COLOURS) > 0.99


@pytest.mark.parametrize("kind", ["jpeg2k", "jpegxl", "png"])
@pytest.mark.parametrize("depth", [8, 16])
def test_bright_colours_of_16_bits_stay_bright(kind: str, depth: int) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    bright = np.maximum(COLOURS, 128) | 15  # up to the very brightest
    values = bright if depth == 8 else bright.astype(np.uint16) * 257
    content = getattr(imagecodecs, f"{kind}_encode")(values, level=0 if kind == "jpeg2k" else None)
    assert likeness(content, bright) > 0.98


def test_jpeg_xl(monkeypatch: pytest.MonkeyPatch) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    content = imagecodecs.jpegxl_encode(COLOURS, lossless=True)
    assert np.array_equal(np.asarray(open_image(content)), COLOURS)
    clear = imagecodecs.jpegxl_encode(np.dstack([COLOURS, 0 * GREY]), lossless=True)
    assert open_image(clear, decode="fast").getpixel((9, 9)) == (255, 255, 255)
    with pytest.raises(ImageError, match="84 x 60 pixels; wanted 1 to 5,000"):
        open_image(content, max_pixels=5000)
    assert reason_of(content[:40]) in ("damaged", "truncated")
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    assert reason_of(content) == "needs a package"


@pytest.mark.parametrize("of_a_pixel", [(), (3,), (4,)])
def test_the_first_frame_of_a_jpeg_xl_that_is_not_blank(of_a_pixel: tuple[int, ...]) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    drawn = np.full((3, 60, 84, *of_a_pixel), 255, np.uint8)
    drawn.reshape(3, 60, 84, -1)[1, :30, :, :3] = 0
    drawn.reshape(3, 60, 84, -1)[2, :, :40, :3] = 0
    content = imagecodecs.jpegxl_encode(drawn, lossless=True)
    assert np.array_equal(np.asarray(open_image(content, decode="fast"))[::59, 9, 0], [0, 255])
    assert np.asarray(open_image(content)).min() == 255
    blank = imagecodecs.jpegxl_encode(drawn[:1], lossless=True)
    assert np.asarray(open_image(blank, decode="fast")).min() == 255


@pytest.mark.parametrize("size", [(8, 8), (256, 256), (300, 200), (84, 60), (640, 360), (1, 9000), (640, 480)])
def test_the_size_of_a_jpeg_xl_is_known_before_it_is_decoded(size: tuple[int, int]) -> None:
    from diptych.media.formats import jxl

    imagecodecs = pytest.importorskip("imagecodecs")
    assert jxl.size(imagecodecs.jpegxl_encode(np.zeros((size[1], size[0]), np.uint8))) == size
