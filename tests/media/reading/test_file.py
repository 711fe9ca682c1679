"""Each kind of file as what an index keeps of it: digest, details, parts."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pillow_heif
import pytest
from drawn_files import BLUE, GREEN, RED, WHITE, dng, encoded, exif, left_and_right, turned, video
from PIL import Image, TiffImagePlugin

from diptych.media.images import open_image
from diptych.media.items import Details, FileContents
from diptych.media.preprocessing import Preprocess, resized_and_cropped
from diptych.media.reading.file import UnreadableFileError, read_file
from diptych.media.reading.readers import ReaderPool
from diptych.media.scanning.scan import scan

SPEC = Preprocess(32)
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description><dc:description><rdf:Alt>'
    '<rdf:li xml:lang="x-default">Rain &amp; <b>snow</b></rdf:li></rdf:Alt></dc:description></rdf:Description>'
    "</rdf:RDF></x:xmpmeta>"
)


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReaderPool]:
    with ReaderPool("/", SPEC, processes=1) as readers:
        yield readers


@pytest.fixture
def read(tmp_path: Path, readers: ReaderPool) -> Any:
    """Reads what is in tmp_path now, or writes one file with this content and reads that."""

    def call(name: str | None = None, content: bytes | str = b"") -> Any:
        if name is not None:
            (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        files = [file._replace(path=f"{tmp_path}/{file.path}".lstrip("/")) for file in scan(tmp_path)]
        found = {Path(contents.file.path).name: contents for contents in readers.read(files)}
        return found if name is None else found[name]

    return call


def colours(contents: FileContents) -> list[str]:
    """The colour in the middle of each drawn part."""
    assert contents.failure is None, contents.failure
    named = {"red": RED, "green": GREEN, "blue": BLUE, "white": WHITE}
    middles = [part.pixels[16, 16].astype(int) for part in contents.parts if part.pixels is not None]
    return [min(named, key=lambda name: np.abs(middle - named[name]).sum()) for middle in middles]


def halves(contents: FileContents) -> tuple[str, str]:
    """The colours in the middle of the left and the right edge."""
    assert contents.failure is None, contents.failure
    pixels = contents.parts[0].pixels
    assert pixels is not None
    return tuple("red" if pixels[16, x, 0] > pixels[16, x, 2] else "blue" for x in (2, -3))  # type: ignore[return-value]


PICTURES = {
    "a.jpg": lambda picture: encoded(picture, "JPEG", quality=95),
    "a.png": lambda picture: encoded(picture, "PNG"),
    "a.webp": lambda picture: encoded(picture, "WEBP"),
    "a.avif": lambda picture: encoded(picture, "AVIF"),
    "a.tif": lambda picture: encoded(picture, "TIFF"),
    "a.gif": lambda picture: encoded(picture, "GIF"),
    "a.bmp": lambda picture: encoded(picture, "BMP"),
    "a.jp2": lambda picture: encoded(picture, "JPEG2000"),
    "a.j2k": lambda picture: encoded(picture, "JPEG2000", no_jp2=True),
    "a.jpx": lambda picture: encoded(picture, "JPEG2000"),
    "a.apng": lambda picture: encoded(picture, "PNG", save_all=True, append_images=[picture.rotate(180)]),
    "a.mpo": lambda picture: encoded(picture, "MPO", save_all=True, append_images=[picture.rotate(180)]),
    "a.jxl": lambda picture: imagecodecs.jpegxl_encode(np.asarray(picture)),
    "a.ppm": lambda picture: encoded(picture, "PPM"),
    "a.qoi": lambda picture: encoded(picture, "QOI"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_what_the_tower_sees_before_normalising(read: Any, name: str) -> None:
    content = PICTURES[name](left_and_right(RED, BLUE))
    contents = read(name, content)
    assert contents.failure is None
    assert contents.digest == hashlib.blake2b(content, digest_size=16).digest()
    assert contents.details == Details(160, 120)
    (part,) = contents.parts
    np.testing.assert_array_equal(part.pixels, resized_and_cropped(content, SPEC, decode="fast"))
    assert part.pixels.dtype == np.uint8


def test_heic(read: Any, tmp_path: Path) -> None:
    block = exif(make="Apple", model="iPhone 12", taken="2021:01:02 03:04:05")
    pillow_heif.from_pillow(left_and_right(RED, BLUE)).save(tmp_path / "a.heic", exif=block.tobytes(), quality=90)
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.heic").read_bytes())  # what phones send under any name
    for contents in read().values():
        assert halves(contents) == ("red", "blue")
        assert contents.details == Details(160, 120, "2021-01-02T03:04:05", camera="Apple iPhone 12")


@pytest.mark.parametrize(("orientation", "left"), [(1, "red"), (2, "blue"), (3, "blue"), (4, "red")])
def test_pictures_stand_upright(read: Any, orientation: int, left: str) -> None:
    content = encoded(left_and_right(RED, BLUE), exif=exif(orientation=orientation))
    assert halves(read("a.jpg", content)) == (left, "blue" if left == "red" else "red")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.avif", "a.tif"])
def test_size_is_as_shown(read: Any, name: str) -> None:
    kind = {"jpg": "JPEG", "tif": "TIFF"}.get(name[2:], name[2:].upper())
    content = encoded(left_and_right(RED, BLUE), kind, exif=exif(orientation=6))
    details = read(name, content).details
    assert (details.width, details.height) == open_image(content).size == (120, 160)


def test_the_first_frame_of_an_animation(read: Any) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in (GREEN, RED)]
    for name, kind in (("a.gif", "GIF"), ("b.webp", "WEBP")):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert colours(read(name, content)) == ["green"]


def test_exif(read: Any) -> None:
    block = exif(
        make="NIKON CORPORATION", model="NIKON D750", taken="2024:05:01 12:30:00", gps=(-33.8568, 151.2153),
        description="The opera at noon",
    )  # fmt: skip
    details = read("a.jpg", encoded(left_and_right(RED, BLUE), exif=block)).details
    assert (details.latitude, details.longitude) == pytest.approx((-33.8568, 151.2153), abs=1e-4)
    assert details.taken_at == "2024-05-01T12:30:00"
    assert details.camera == "NIKON D750"
    assert details.caption == "The opera at noon"


@pytest.mark.parametrize(
    ("make", "model", "expected"),
    [
        ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
        ("SONY", "ILCE-7M3", "SONY ILCE-7M3"),
        ("  FUJIFILM\0", "X-T3 \0\0", "FUJIFILM X-T3"),
        ("Make", "", "Make"),
        ("", "Model", "Model"),
        ("", "", None),
    ],
)
def test_the_maker_is_not_said_twice(read: Any, make: str, model: str, expected: str | None) -> None:
    assert (
        read("a.jpg", encoded(left_and_right(RED, BLUE), exif=exif(make=make, model=model))).details.camera == expected
    )


@pytest.mark.parametrize("taken", ["0000:00:00 00:00:00", "2024:13:01 12:30:00", "yesterday", "    :  :     :  :  "])
def test_a_clock_never_set_tells_no_time(read: Any, taken: str) -> None:
    assert read("a.jpg", encoded(left_and_right(RED, BLUE), exif=exif(taken=taken))).details.taken_at is None


@pytest.mark.parametrize("place", [(0.0, 0.0), (91.0, 10.0)])
def test_no_place_where_there_was_no_fix(read: Any, place: tuple[float, float]) -> None:
    details = read("a.jpg", encoded(left_and_right(RED, BLUE), exif=exif(gps=place))).details
    assert (details.latitude, details.longitude) == (None, None)


def test_a_damaged_exif_costs_no_picture(read: Any) -> None:
    whole = exif(make="Canon", taken="2024:05:01 12:30:00", gps=(1.0, 2.0)).tobytes()
    for cut in range(8, len(whole), 7):
        contents = read("a.jpg", encoded(left_and_right(RED, BLUE), exif=whole[:cut]))
        assert halves(contents) == ("red", "blue")
        assert (contents.details.width, contents.details.height) == (160, 120)


@pytest.mark.parametrize(
    "junk", ["OLYMPUS DIGITAL CAMERA", "SONY DSC", "DCIM\\100MEDIA\\DJI_0001.JPG", "IMG_1234.jpg", '{"shape": [3, 4]}']
)
def test_what_a_camera_writes_is_no_caption(read: Any, junk: str) -> None:
    contents = read("a.jpg", encoded(left_and_right(RED, BLUE), exif=exif(description=junk)))
    assert contents.details.caption is None
    assert len(contents.parts) == 1


def test_captions_inside(read: Any, tmp_path: Path) -> None:
    picture = left_and_right(RED, BLUE)
    iptc = b"8BIM\x04\x04\0\0\0\0\0\x19\x1c\x02\x78\0\x14Caf\xc3\xa9 by the harbour\0"
    (tmp_path / "xmp.jpg").write_bytes(encoded(picture, xmp=XMP.encode()))
    (tmp_path / "xmp.png").write_bytes(encoded(picture, "PNG", pnginfo=_png_text("XML:com.adobe.xmp", XMP)))
    (tmp_path / "text.png").write_bytes(encoded(picture, "PNG", pnginfo=_png_text("Description", "Two halves")))
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[0x10E] = "A scan"
    (tmp_path / "scan.tif").write_bytes(encoded(picture, "TIFF", tiffinfo=info))
    content = encoded(picture)
    marker = b"Photoshop 3.0\0" + iptc
    segment = b"\xff\xed" + (len(marker) + 2).to_bytes(2, "big") + marker
    (tmp_path / "iptc.jpg").write_bytes(content[:2] + segment + content[2:])
    (tmp_path / "utf8.jpg").write_bytes(encoded(picture, exif=exif(description="Straße".encode())))
    assert {name: contents.details.caption for name, contents in read().items()} == {
        "xmp.jpg": "Rain & snow",
        "xmp.png": "Rain & snow",
        "text.png": "Two halves",
        "scan.tif": "A scan",
        "iptc.jpg": "Café by the harbour",
        "utf8.jpg": "Straße",
    }


def _png_text(key: str, text: str) -> Any:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt(key, text)
    return info


def test_a_caption_beside_a_picture_is_its_second_part(read: Any, tmp_path: Path) -> None:
    content = encoded(left_and_right(RED, BLUE), exif=exif(description="from inside"))
    for stem in ("a", "b", "c", "d", "e"):
        (tmp_path / f"{stem}.jpg").write_bytes(content)
    (tmp_path / "a.txt").write_text("  From\n beside. ")
    (tmp_path / "b.jpg.txt").write_bytes("\ufeffMit Umlaut: ü".encode())
    (tmp_path / "c.xmp").write_text(XMP)
    (tmp_path / "d.txt").write_text(" \n")
    found = read()
    assert sorted(found) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"]
    captions = ["From beside.", "Mit Umlaut: ü", "Rain & snow", "from inside", "from inside"]
    assert [found[name].details.caption for name in sorted(found)] == captions
    assert [[part.text for part in found[name].parts] for name in sorted(found)] == [[None, said] for said in captions]
    assert len({contents.digest for contents in found.values()}) == 1  # the picture's own bytes


def test_raw_is_its_preview(read: Any) -> None:
    contents = read("a.dng", dng(encoded(left_and_right(RED, BLUE, 640, 480), quality=95)))
    assert halves(contents) == ("red", "blue")
    assert contents.details == Details(512, 384, "2020-02-03T04:05:06", camera="Maker X100")


def test_raw_stands_upright(read: Any) -> None:
    preview = left_and_right(RED, BLUE, 640, 480).transpose(Image.Transpose.ROTATE_90)
    content = dng(encoded(preview, quality=95), preview_size=(480, 640), orientation=6)
    contents = read("a.dng", content)
    assert halves(contents) == ("red", "blue")
    assert (contents.details.width, contents.details.height) == (384, 512)
    told = encoded(left_and_right(RED, BLUE, 640, 480), quality=95, exif=exif(orientation=1))
    told = told[:2] + told[20:]  # without JFIF's header, as cameras write it
    assert halves(read("b.dng", dng(told, orientation=6))) == ("red", "blue")  # the preview's own word is heard


@pytest.mark.parametrize("preview", [None, encoded(Image.new("RGB", (16, 12), RED))])
def test_raw_without_a_useful_preview_is_developed(read: Any, preview: bytes | None) -> None:
    contents = read("a.dng", dng(preview, preview_size=(16, 12)))
    assert contents.failure is None
    pixels = contents.parts[0].pixels
    assert pixels.std() < 2  # the sensor's even grey
    assert np.ptp(pixels.mean((0, 1))) < 20


def test_another_picture_under_a_raw_name(read: Any) -> None:
    assert halves(read("a.cr2", encoded(left_and_right(RED, BLUE)))) == ("red", "blue")


def test_video(read: Any, tmp_path: Path) -> None:
    metadata = {"creation_time": "2024-05-01T12:30:00Z", "location": "-33.8568+151.2153/"}
    path = video(tmp_path / "a.mp4", [RED, GREEN, BLUE, WHITE], seconds_each=2, metadata=metadata)
    contents = read()["a.mp4"]
    assert contents.digest == hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
    assert colours(contents) == ["red", "green", "blue", "white"]
    assert [part.at_s for part in contents.parts] == [1.0, 3.0, 5.0, 7.0]
    assert contents.details == Details(160, 120, "2024-05-01T12:30:00", -33.8568, 151.2153, duration_s=8.0)


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "libx264"), ("a.webm", "libvpx"), ("a.avi", "mpeg4")])
def test_containers(read: Any, tmp_path: Path, name: str, codec: str) -> None:
    video(tmp_path / name, [RED, BLUE], seconds_each=2, codec=codec)
    assert colours(read()[name]) == ["red", "red", "blue", "blue"]


def test_few_keyframes_still_show_all(read: Any, tmp_path: Path) -> None:
    video(tmp_path / "a.mp4", [RED, GREEN, BLUE, WHITE], seconds_each=2, keyframe_every=1000)
    assert colours(read()["a.mp4"]) == ["red", "green", "blue", "white"]


@pytest.mark.parametrize(("name", "codec"), [("a.mpg", "mpeg1video"), ("a.mts", "libx264")])
def test_a_stream_with_one_keyframe_is_read(read: Any, tmp_path: Path, name: str, codec: str) -> None:
    video(tmp_path / name, [RED, GREEN, BLUE, WHITE], rate=25, codec=codec, keyframe_every=1000)
    assert colours(read()[name])[:3] == ["red", "green", "blue"]  # FFmpeg guesses how long such a stream is


def test_a_long_video_has_more_frames(read: Any, tmp_path: Path) -> None:
    video(tmp_path / "a.mp4", [RED, GREEN] * 10, seconds_each=5, rate=2)
    contents = read()["a.mp4"]
    assert colours(contents) == ["red", "green"] * 10
    assert contents.details.duration_s == 100


def test_a_video_stands_upright(read: Any, tmp_path: Path) -> None:
    turned(video(tmp_path / "a.mp4", [RED]))
    details = read()["a.mp4"].details
    assert (details.width, details.height) == (120, 160)


def test_quicktime_says_more(read: Any, tmp_path: Path) -> None:
    said = {
        "com.apple.quicktime.creationdate": "2024-05-01T14:30:00+0200",
        "com.apple.quicktime.location.ISO6709": "+48.8566+002.3522+035.000/",
        "com.apple.quicktime.make": "Apple",
        "com.apple.quicktime.model": "iPhone 15",
    }
    from diptych.media.content.videos import _details

    assert _details(said | {"creation_time": "2024-05-01T12:30:00.000000Z"}, (1, 2), 3.0) == Details(
        1, 2, "2024-05-01T14:30:00", 48.8566, 2.3522, "Apple iPhone 15", None, 3.0
    )
    assert _details({"creation_time": "1904-01-01T00:00:00.000000Z"}, (1, 2), 3.0).taken_at is None


def test_texts(read: Any) -> None:
    contents = read("a.txt", "First\nparagraph.\n\n\nSecond, with \u00fc.\n")
    assert [(part.line, part.text) for part in contents.parts] == [(1, "First paragraph."), (5, "Second, with ü.")]
    assert contents.details == Details()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_text_encodings(read: Any, encoding: str) -> None:
    assert [part.text for part in read("a.md", "Grüße aus Köln.".encode(encoding)).parts] == ["Grüße aus Köln."]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jpg", b"", "empty file"),
        ("a.txt", b"", "empty file"),
        ("a.mp4", b"", "empty file"),
        ("a.jpg", b"<html>", "not an image"),
        ("a.dng", b"<html>" * 500, "not an image"),
        ("a.heic", b"\0\0\0\x18ftypheic" + b"\0" * 50, "not an image"),
        ("a.jpg", encoded(Image.effect_noise((99, 99), 50))[:-2000], "truncated"),
        ("a.mp4", b"<html>", "not a video"),
        ("a.mp4", b"#EXTM3U\n#EXTINF:10.0,\n/etc/passwd\n#EXT-X-ENDLIST\n", "not a video"),
        ("a.mp4", b"ffconcat version 1.0\nfile /etc/passwd\n", "not a video"),
        ("a.txt", b"\x7fELF\0\0\0", "not a text"),
        ("a.md", b" \n\n", "no text"),
    ],
)
def test_failures_have_a_short_reason(read: Any, name: str, content: bytes, reason: str) -> None:
    contents = read(name, content)
    assert contents.failure is not None
    assert contents.failure.reason == reason
    assert contents.failure.message.startswith(f"{contents.file.path}: {reason}. ")
    assert contents.digest == hashlib.blake2b(content, digest_size=16).digest()
    assert not contents.parts


def test_a_video_cut_short_shows_what_is_left(read: Any, tmp_path: Path) -> None:
    path = video(tmp_path / "a.mkv", [RED, GREEN, BLUE, WHITE], seconds_each=2)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    contents = read()["a.mkv"]
    assert contents.failure is not None or colours(contents)[0] == "red"
    whole = video(tmp_path / "b.mp4", [RED, GREEN])
    whole.write_bytes(whole.read_bytes()[:-200])
    assert read()["b.mp4"].failure.reason == "truncated"


def test_sound_alone_is_no_video(read: Any, tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "a.m4v"), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert read()["a.m4v"].failure.reason == "no pictures"


@pytest.mark.parametrize(("code", "reason"), [(errno.EACCES, "no permission"), (errno.EIO, "unreadable")])
def test_what_the_system_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, reason: str) -> None:
    def refuse(*_: object) -> int:
        raise OSError(code, "refused")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UnreadableFileError) as caught:
        read_file(str(tmp_path), "a.jpg", "picture", SPEC)
    assert (caught.value.reason, caught.value.digest) == (reason, b"")


def test_a_reader_loads_neither_torch_nor_openvino() -> None:
    code = (
        "import sys, diptych.media.reading.reader_process, diptych.media.reading.file\n"
        "print([name for name in ('torch', 'openvino', 'faiss', 'av', 'rawpy', 'pillow_heif') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
