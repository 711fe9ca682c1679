"""When and where a picture was taken: EXIF, XMP, IPTC, sidecars, and which of them is believed."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pillow_heif
import pytest
from drawn_files import BLUE, RED, encoded, exif, left_and_right, video
from PIL import Image, TiffImagePlugin
from PIL.PngImagePlugin import PngInfo

from diptych.media.content.videos import _details
from diptych.media.items import Details
from diptych.media.preprocessing import Preprocess
from diptych.media.reading.file import read_file
from diptych.media.scanning.scan import scan

PICTURE = left_and_right(RED, BLUE)
EARLY, LATE, LAST = "2012-03-04T05:06:07", "2013-01-01T00:00:01", "2014-01-01T00:00:01"


def xmp(*elements: str, **attributes: str) -> str:
    said = " ".join(f'{name.replace("_", ":")}="{value}"' for name, value in attributes.items())
    return (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description rdf:about="" {said}>'
        f"{''.join(elements)}</rdf:Description></rdf:RDF></x:xmpmeta>"
    )


def details(folder: Path, content: bytes, name: str = "a.jpg") -> Details:
    (folder / name).write_bytes(content)
    return read_file(str(folder), name, "picture", Preprocess(16)).details


def with_exif(**tags: Any) -> bytes:
    return encoded(PICTURE, exif=exif(**tags))


DATED = xmp(exif_DateTimeOriginal=EARLY)


def _heic(packet: str) -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(PICTURE).save(file, xmp=packet.encode())
    return file.getvalue()


def _png(packet: str) -> bytes:
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", packet)
    return encoded(PICTURE, "PNG", pnginfo=info)


def _tiff(packet: str) -> bytes:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[700] = packet.encode()
    return encoded(PICTURE, "TIFF", tiffinfo=info)


EMBEDDED = {
    "a.jpg": lambda packet: encoded(PICTURE, xmp=packet.encode()),
    "a.png": _png,
    "a.tif": _tiff,
    "a.webp": lambda packet: encoded(PICTURE, "WEBP", xmp=packet.encode()),
    "a.avif": lambda packet: encoded(PICTURE, "AVIF", xmp=packet.encode()),
    "a.heic": _heic,
}


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_date_and_a_place_in_xmp(tmp_path: Path, name: str) -> None:
    packet = xmp(exif_DateTimeOriginal=EARLY, exif_GPSLatitude="47,22.5N", exif_GPSLongitude="8,32,30W")
    found = details(tmp_path, EMBEDDED[name](packet), name)
    assert found.taken_at == EARLY
    assert (found.latitude, found.longitude) == pytest.approx((47.375, -8.541667), abs=1e-5)


@pytest.mark.parametrize(
    "packet",
    [
        xmp(f"<exif:DateTimeOriginal>{EARLY}</exif:DateTimeOriginal>"),
        xmp(f"<exif:DateTimeOriginal>\n  {EARLY}.25+01:00 </exif:DateTimeOriginal>"),
        xmp(photoshop_DateCreated=EARLY),
        xmp(f"<photoshop:DateCreated>{EARLY}</photoshop:DateCreated>"),
        xmp(xmp_CreateDate=EARLY),
        xmp(xap_CreateDate=EARLY),
        xmp(exif_DateTimeDigitized=EARLY),
        xmp(xmp_CreateDate=LATE, exif_DateTimeOriginal=EARLY),
        xmp(exif_DateTimeOriginal="0000:00:00", photoshop_DateCreated=EARLY),
        xmp().replace('about=""', f"exif:DateTimeOriginal = '{EARLY}'"),
        DATED[: DATED.index("</rdf:RDF>")],
    ],
)
def test_how_xmp_says_a_date(tmp_path: Path, packet: str) -> None:
    assert details(tmp_path, encoded(PICTURE, xmp=packet.encode())).taken_at == EARLY
    (tmp_path / "b.xmp").write_bytes(packet.encode("utf-16"))
    assert details(tmp_path, encoded(PICTURE), "b.jpg").taken_at == EARLY


def test_part_of_a_date_in_xmp(tmp_path: Path) -> None:
    assert details(tmp_path, encoded(PICTURE, xmp=xmp(photoshop_DateCreated="1987-06").encode())).taken_at == "1987-06"


def test_when_it_was_last_changed_in_xmp_is_no_date(tmp_path: Path) -> None:
    assert details(tmp_path, encoded(PICTURE, xmp=xmp(xmp_ModifyDate=EARLY).encode())).taken_at is None


def test_which_of_two_dates_is_believed(tmp_path: Path) -> None:
    """That it was taken then before that its file was made then, and this before that it was changed."""
    taken, changed = LATE.replace("-", ":").replace("T", " "), LAST.replace("-", ":").replace("T", " ")
    packet = DATED.encode()
    assert details(tmp_path, encoded(PICTURE, xmp=packet, exif=exif(changed=changed))).taken_at == EARLY
    assert details(tmp_path, encoded(PICTURE, xmp=packet, exif=exif(taken=taken, changed=changed))).taken_at == LATE
    created = xmp(xmp_CreateDate=EARLY).encode()
    assert details(tmp_path, encoded(PICTURE, xmp=created, exif=exif(taken=taken))).taken_at == LATE
    assert details(tmp_path, encoded(PICTURE, xmp=created, exif=exif(changed=changed))).taken_at == EARLY
    assert details(tmp_path, encoded(PICTURE, exif=exif(taken="0000:00:00 00:00:00", changed=changed))).taken_at == LAST


@pytest.mark.parametrize("sidecar", ["a.xmp", "a.XMP", "a.jpg.xmp"])
def test_a_sidecar_has_the_last_word(tmp_path: Path, sidecar: str) -> None:
    """It is what a person wrote down since; but a date of the file alone is no more than a guess."""
    packet = xmp(exif_DateTimeOriginal=EARLY, exif_GPSLatitude="1,0N", exif_GPSLongitude="2,0E", dc_title="Words")
    (tmp_path / sidecar).write_text(packet)
    inside = with_exif(taken="2013:01:01 00:00:01", gps=(47.0, 8.0))
    found = details(tmp_path, inside)
    assert (found.taken_at, found.latitude, found.longitude, found.caption) == (EARLY, 1, 2, "Words")
    (tmp_path / sidecar).write_text(xmp(xmp_CreateDate=EARLY))
    found = details(tmp_path, inside)
    assert (found.taken_at, found.latitude) == (LATE, 47.0)
    assert details(tmp_path, encoded(PICTURE)).taken_at == EARLY


def test_iptc_dates(tmp_path: Path) -> None:
    def field(number: int, text: bytes) -> bytes:
        return b"\x1c\x02" + bytes((number,)) + len(text).to_bytes(2, "big") + text

    block = field(55, b"20120304") + field(60, b"050607+0100")
    resource = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + len(block).to_bytes(4, "big") + block + b"\0" * (len(block) % 2)
    content = encoded(PICTURE)
    segment = b"\xff\xed" + (len(resource) + 2).to_bytes(2, "big") + resource
    assert details(tmp_path, content[:2] + segment + content[2:]).taken_at == EARLY


def test_the_creation_time_of_a_png(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("Creation Time", "Sun, 04 Mar 2012 05:06:07 +0100")
    assert details(tmp_path, encoded(PICTURE, "PNG", pnginfo=info), "a.png").taken_at == EARLY


@pytest.mark.parametrize("kind", ["taken", "changed"])
@pytest.mark.parametrize(("said", "meant"), [("2012:03:04 5:6:7", EARLY), (b"2012:03:04 05:06:07", EARLY)])
def test_exif_dates_of_any_form(tmp_path: Path, kind: str, said: Any, meant: str) -> None:
    assert details(tmp_path, with_exif(**{kind: said})).taken_at == meant


def test_exif_dates_in_other_places(tmp_path: Path) -> None:
    beside = Image.Exif()
    beside[0x9003] = "2012:03:04 05:06:07"
    beside[0x132] = "2020:01:01 00:00:00"
    assert details(tmp_path, encoded(PICTURE, exif=beside)).taken_at == EARLY
    satellites = Image.Exif()
    satellites.get_ifd(0x8825).update({0x1D: "2012:03:04", 7: (5.0, 6.0, 7.0)})
    assert details(tmp_path, encoded(PICTURE, exif=satellites)).taken_at == "2012-03-04"
    satellites.get_ifd(0x8769)[0x9003] = "2013:01:01 00:00:01"
    assert details(tmp_path, encoded(PICTURE, exif=satellites)).taken_at == LATE


def test_xmp_behind_the_pixels_of_a_png(tmp_path: Path) -> None:
    def chunk(body: bytes) -> bytes:
        return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))

    content = encoded(PICTURE, "PNG", exif=exif(changed="2020:01:01 00:00:00"))
    late = chunk(b"iTXtXML:com.adobe.xmp\0\0\0\0\0" + DATED.encode())
    assert details(tmp_path, content[:-12] + late + content[-12:], "a.png").taken_at == EARLY


def placed(north: Any, latitude: Any, east: Any, longitude: Any) -> bytes:
    block = Image.Exif()
    tags = {1: north, 2: latitude, 3: east, 4: longitude}
    block.get_ifd(0x8825).update({tag: value for tag, value in tags.items() if value is not None})
    return encoded(PICTURE, exif=block)


@pytest.mark.parametrize(
    ("north", "east"), [("", ""), ("\0", "\0"), (" ", "E"), (None, None), ("N", ""), ("E", "N"), ("?", "E")]
)
def test_a_place_on_an_unknown_side_of_the_earth_is_none(tmp_path: Path, north: str | None, east: str | None) -> None:
    found = details(tmp_path, placed(north, (48.0, 30.0, 0.0), east, (2.0, 15.0, 0.0)))
    assert (found.latitude, found.longitude) == (None, None)


@pytest.mark.parametrize(
    ("north", "latitude", "east", "longitude", "place"),
    [
        ("S", (48.0, 30.0, 0.0), "W", (2.0, 15.0, 36.0), (-48.5, -2.26)),
        ("s", (48.0, 30.0, 0.0), "w", (2.0, 15.0, 36.0), (-48.5, -2.26)),
        ("South", (48.0, 30.0, 0.0), "West", (2.0, 15.0, 36.0), (-48.5, -2.26)),
        (b"S\0", (48.5,), b"W\0", (2.26,), (-48.5, -2.26)),
        ("N", 48.5, "E", 2.26, (48.5, 2.26)),
        ("N", (48.0, 30.0), "E", (2.0, 15.6), (48.5, 2.26)),
        ("N", (48.5, 0.0, 0.0), "E", (2.26, 0.0, 0.0), (48.5, 2.26)),
    ],
)  # fmt: skip
def test_places_of_any_form(
    tmp_path: Path, north: Any, latitude: Any, east: Any, longitude: Any, place: tuple[float, float]
) -> None:
    found = details(tmp_path, placed(north, latitude, east, longitude))
    assert (found.latitude, found.longitude) == pytest.approx(place, abs=1e-4)


@pytest.mark.parametrize("words", ["47,22.5", "47,22.5E", "north", "91,0N", "47.5,8.5", "", "0,0N"])
def test_a_place_in_xmp_that_is_none(tmp_path: Path, words: str) -> None:
    found = details(tmp_path, encoded(PICTURE, xmp=xmp(exif_GPSLatitude=words, exif_GPSLongitude="0,0E").encode()))
    assert (found.latitude, found.longitude) == (None, None)


def test_a_place_in_xmp_where_exif_knows_no_side(tmp_path: Path) -> None:
    block = Image.Exif()
    block.get_ifd(0x8825).update({1: "", 2: (48.0, 30.0, 0.0), 3: "", 4: (2.0, 15.0, 0.0)})
    packet = xmp(exif_GPSLatitude="48,30S", exif_GPSLongitude="2,15W").encode()
    found = details(tmp_path, encoded(PICTURE, exif=block, xmp=packet))
    assert (found.latitude, found.longitude) == (-48.5, -2.25)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({"creation_time": "2012-03-04T05:06:07.000000Z"}, EARLY),
        ({"creation_time": "1904-01-01T00:00:00.000000Z", "date": "2012-03-04"}, "2012-03-04"),
        ({"creation_time": "1970-01-01T00:00:00.000000Z"}, None),
        ({"DATE_RECORDED": "2012", "creation_time": "2020-03-04T05:06:07.000000Z"}, "2012"),
        ({"date": "2012"}, "2012"),
        ({}, None),
    ],
)
def test_films_say_dates_too(said: dict[str, str], meant: str | None) -> None:
    assert _details(said, (1, 2), 3.0).taken_at == meant


def test_a_film_s_sidecar(tmp_path: Path) -> None:
    video(tmp_path / "a.mp4", [RED], metadata={"creation_time": "2020-01-01T00:00:00Z"})
    (tmp_path / "a.xmp").write_text(xmp(exif_DateTimeOriginal=EARLY, dc_title="Words"))
    (tmp_path / "a.txt").write_text("What is said in it.")
    files = list(scan(tmp_path))
    assert [(file.path, file.kind) for file in files] == [("a.mp4", "video"), ("a.txt", "text")]
    assert files[0].size == sum((tmp_path / name).stat().st_size for name in ("a.mp4", "a.xmp"))
    found = read_file(str(tmp_path), "a.mp4", "video", Preprocess(16))
    assert (found.details.taken_at, found.details.caption) == (EARLY, "Words")
    assert found.parts[-1].text == "Words"
