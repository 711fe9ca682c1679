"""Whole pictures, small, for people: of files and of films."""

import io
from pathlib import Path

import numpy as np
import pytest
from drawn_files import dng, turned, video
from PIL import Image

from diptych.errors import ImageError
from diptych.media.content.photographs import read_whole
from diptych.media.content.videos import read_frame


def encoded(size: tuple[int, int], form: str, **options: object) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize(size, Image.Resampling.NEAREST).save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_picture_is_fitted_and_looks_the_same(form: str) -> None:
    content = encoded((1600, 1200), form)
    whole = read_whole(content, f"a.{form.lower()}", 160)
    assert (whole.image.size, whole.size) == ((160, 120), (1600, 1200))
    with Image.open(io.BytesIO(content)) as picture:
        wanted = np.asarray(picture.convert("RGB").resize((160, 120), Image.Resampling.LANCZOS), float)
    assert np.abs(np.asarray(whole.image, float) - wanted).mean() < 6


def test_a_turned_picture_stands_upright_and_none_is_enlarged() -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    whole = read_whole(encoded((1600, 1200), "JPEG", exif=exif), "a.jpg", 160)
    assert (whole.image.size, whole.size) == ((120, 160), (1200, 1600))
    assert read_whole(encoded((40, 30), "PNG"), "a.png", 160).image.size == (40, 30)


def test_what_is_no_picture_says_why() -> None:
    with pytest.raises(ImageError) as failed:
        read_whole(b"nothing that is a picture", "a.png", 160)
    assert failed.value.reason == "not an image"


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_raw_file_is_drawn_from_its_preview_or_its_data(orientation: int) -> None:
    upright = (80, 60) if orientation == 1 else (60, 80)
    preview = io.BytesIO()
    Image.new("RGB", (640, 480), "red").save(preview, "JPEG")
    red = read_whole(dng(preview.getvalue(), orientation=orientation), "a.dng", 80)
    assert red.image.size == upright
    assert np.asarray(red.image).mean((0, 1)) @ (1, -1, -1) > 150
    grey = read_whole(dng(None, orientation=orientation), "a.dng", 80)
    assert grey.image.size == upright
    assert np.ptp(np.asarray(grey.image).mean((0, 1))) < 20


@pytest.mark.parametrize(("at_s", "colour"), [(0.0, 0), (0.95, 0), (1.0, 1), (2.5, 2), (99.0, 2)])
@pytest.mark.parametrize("keyframe_every", [10, 1000])
def test_the_frame_of_a_film_is_the_one_of_its_time(
    tmp_path: Path, at_s: float, colour: int, keyframe_every: int
) -> None:
    colours = [(220, 20, 20), (20, 220, 20), (20, 20, 220)]
    path = video(tmp_path / "a.mp4", colours, keyframe_every=keyframe_every)
    with path.open("rb") as file:
        frame = read_frame(file, "a.mp4", at_s, 64)
    assert frame.pixels.shape == (120, 160, 3)
    assert int(frame.pixels.mean((0, 1)).argmax()) == colour


def test_a_film_held_upright_stands_so(tmp_path: Path) -> None:
    path = turned(video(tmp_path / "a.mp4", [(220, 20, 20)]))
    with path.open("rb") as file:
        assert read_frame(file, "a.mp4", 0.5, 64).pixels.shape == (160, 120, 3)


def test_what_is_no_film_says_why() -> None:
    with pytest.raises(ImageError):
        read_frame(io.BytesIO(b"nothing"), "a.mp4", 0.0, 64)
