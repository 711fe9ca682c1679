"""Files told by their bytes, whatever they are called."""

from __future__ import annotations

import io
import os
from pathlib import Path

import av
import numpy as np
import pillow_heif
import pytest
from drawn_files import BLUE, RED, dng, encoded, left_and_right, video
from index_model import SPEC, InlineReaders, PixelModel

from diptych.errors import ImageError
from diptych.index.filters.filters import Filters
from diptych.index.local import open_index
from diptych.media.images import open_image
from diptych.media.items import FileContents, FileKind
from diptych.media.reading import readers
from diptych.media.scanning.file_kind import detected_kind, kind_of
from diptych.media.scanning.scan import scan

PICTURE = left_and_right(RED, BLUE)


def heic() -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(PICTURE).save(file)
    return file.getvalue()


def film(folder: Path, name: str, codec: str = "mpeg4") -> bytes:
    return video(folder / name, [RED, BLUE], seconds_each=1, rate=4, codec=codec).read_bytes()


def read(folder: Path) -> dict[str, FileContents]:
    with InlineReaders(folder, SPEC) as readers:
        return {contents.file.path: contents for contents in readers.read(scan(folder))}


PICTURES = {
    "JPEG": encoded(PICTURE),
    "PNG": encoded(PICTURE, "PNG"),
    "GIF": encoded(PICTURE, "GIF"),
    "WEBP": encoded(PICTURE, "WEBP"),
    "BMP": encoded(PICTURE, "BMP"),
    "TIFF": encoded(PICTURE, "TIFF"),
    "AVIF": encoded(PICTURE, "AVIF"),
    "JPEG2000": encoded(PICTURE, "JPEG2000"),
    "QOI": encoded(PICTURE, "QOI"),
    "HEIC": heic(),
}
FILMS = ["a.mp4", "a.mov", "a.mkv", "a.avi", "a.flv", "a.mpg", "a.ts", "a.wmv", "a.3gp"]


@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_is_one_under_any_name(tmp_path: Path, kind: str) -> None:
    for name in ("a.mp4", "b.MOV", "c.txt", "d.jpg", "e.webm"):
        (tmp_path / name).write_bytes(PICTURES[kind])
    for contents in read(tmp_path).values():
        assert contents.failure is None, contents.failure
        assert contents.file.kind == "picture"
        assert (contents.details.width, contents.details.height, contents.details.duration_s) == (160, 120, None)
        assert len(contents.parts) == 1


@pytest.mark.parametrize("name", FILMS)
def test_a_film_is_one_under_any_name(tmp_path: Path, name: str) -> None:
    codec = {"a.flv": "flv", "a.mpg": "mpeg1video", "a.wmv": "wmv2"}.get(name, "mpeg4")
    content = film(tmp_path, name) if name not in ("a.flv", "a.mpg", "a.wmv") else b""
    if not content:
        rate = 25 if name == "a.mpg" else 4
        content = video(tmp_path / name, [RED, BLUE], rate=rate, codec=codec).read_bytes()
    (tmp_path / name).unlink()
    for other in ("a.gif", "b.jpg", "c.txt", "d.mp4"):
        (tmp_path / other).write_bytes(content)
    for contents in read(tmp_path).values():
        assert contents.failure is None, contents.failure
        assert contents.file.kind == "video"
        assert contents.details.duration_s
        assert all(part.at_s is not None for part in contents.parts)


def test_whoever_wants_a_picture_is_told_of_the_film(tmp_path: Path) -> None:
    film(tmp_path, "a.mp4")
    (tmp_path / "a.mp4").rename(tmp_path / "a.gif")
    with pytest.raises(ImageError, match=r"a\.gif: not an image\. It is a video, whatever its name says"):
        open_image(tmp_path / "a.gif")


@pytest.mark.parametrize(
    "text",
    [
        "GIF89a is a format.",
        "BM is short for Bergmann.",
        "RIFF, said she. WEBP, he.",
        "Go ftyp free!",
        "GG" * 150,
        "OggS",
    ],
)
def test_words_are_words(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    (contents,) = read(tmp_path).values()
    assert contents.file.kind == "text"
    assert contents.failure is None


def test_what_bytes_do_not_tell_is_what_its_name_says(tmp_path: Path) -> None:
    kinds: tuple[FileKind, ...] = ("picture", "video", "text")
    for kind in kinds:
        assert kind_of(b"<html>" * 100, kind) == kind
        assert kind_of(b"", kind) == kind
    assert kind_of(dng(None)[:1024], "picture") == "picture"
    for name, content in {"a.jpg": b"<html>", "b.mp4": b"<html>"}.items():
        (tmp_path / name).write_bytes(content)
    reasons = {path: contents.failure.reason for path, contents in read(tmp_path).items() if contents.failure}
    assert reasons == {"a.jpg": "not an image", "b.mp4": "not a video"}


def test_a_sound_called_as_a_picture(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.m4a"), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (tmp_path / "a.m4a").rename(tmp_path / "a.jpg")
    (contents,) = read(tmp_path).values()
    assert contents.failure is not None
    assert contents.failure.reason == "no pictures"


def test_an_index_knows_such_files_by_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "ReaderPool", InlineReaders)
    (tmp_path / "a.gif").write_bytes(film(tmp_path, "made.mp4"))
    (tmp_path / "made.mp4").unlink()
    (tmp_path / "b.mp4").write_bytes(PICTURES["GIF"])
    (tmp_path / "c.txt").write_text("Words.")
    for path in tmp_path.iterdir():
        os.utime(path, (1_600_000_000, 1_600_000_000))
    model = PixelModel()
    with open_index(tmp_path, model=model) as index:
        assert index.update().added == 3
        kinds = {path: known.kind for path, known in index.catalog.files().items()}
        assert kinds == {"a.gif": "video", "b.mp4": "picture", "c.txt": "text"}
        embedded = model.embedded
        assert index.update().is_unchanged  # though names say otherwise still
        (tmp_path / "a.gif").rename(tmp_path / "a.mp4")
        (tmp_path / "b.mp4").rename(tmp_path / "b.jpg")
        (tmp_path / "c.txt").rename(tmp_path / "c.jpg")
        done = index.update()
        assert (done.renamed, done.forgotten, list(done.failures)) == (2, 1, ["c.jpg"])
        assert model.embedded == embedded
        found = index.catalog.items(index.catalog.matching(*Filters(kind="video").condition()))
        assert {item.path for item in found} == {"a.mp4"}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM", "ICO", "QOI"])
def test_a_picture_is_opened_as_one_whatever_it_is_called(tmp_path: Path, kind: str) -> None:
    file = io.BytesIO()
    PICTURE.save(file, kind)
    (tmp_path / "a.jpg").write_bytes(file.getvalue())
    assert detected_kind(tmp_path / "a.jpg") == "picture"


def test_other_kinds_are_opened_as_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(heic())
    (tmp_path / "a.dng").write_bytes(dng(encoded(PICTURE), preview_size=(96, 64)))
    (tmp_path / "notes.md").write_text("# A dog\n\n<p align=center>in the snow</p>")
    video(tmp_path / "b.mp4", [RED, BLUE])
    kinds = {path.name: detected_kind(path) for path in tmp_path.iterdir()}
    assert kinds == {"a.heic": "picture", "a.dng": "picture", "notes.md": "text", "b.mp4": "video"}


@pytest.mark.parametrize(
    "content",
    [
        b"[Desktop Entry]\nType=Application\nExec=true\n", b"#!/bin/sh\ntrue\n", b"<!DOCTYPE html><title>x</title>",
        b"\n <HTML>", b"\x7fELF\x02\x01\x01", b"MZ\x90\0", b"PK\x03\x04", b"%PDF-1.7", b"\xca\xfe\xba\xbe", b"words",
        b"",
    ],
)  # fmt: skip
def test_a_program_under_a_pictures_name_is_not_opened(tmp_path: Path, content: bytes) -> None:
    for name in ("a.jpg", "a.mp4", "a.png"):
        (tmp_path / name).write_bytes(content)
        assert detected_kind(tmp_path / name) is None
    if content.lstrip()[:1] in (b"[", b"#", b"<"):
        (tmp_path / "a.txt").write_bytes(content)
        assert detected_kind(tmp_path / "a.txt") is None


@pytest.mark.skipif(os.name != "posix", reason="pipes have no names")
def test_a_pipe_in_the_place_of_a_picture_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(OSError, match="a pipe"):
        detected_kind(tmp_path / "a.jpg")
