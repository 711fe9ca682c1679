"""Films as a player shows them: colours, transparency, shape, and what comes after a black beginning."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from drawn_files import BLUE, GREEN, RED, hlg, left_and_right, pq, srgb_light, turned, video
from PIL import Image, ImageDraw

from diptych.media.content.videos import Video, read_video
from diptych.media.pixels.tone_mapping import BT2020, HLG, PQ
from diptych.media.preprocessing import Preprocess

SIDE = 48
SPEC = Preprocess(SIDE, mode="squash")  # all of it, whatever its shape
_TO_BT2020 = np.array(((0.6274, 0.3293, 0.0433), (0.0691, 0.9195, 0.0114), (0.0164, 0.0880, 0.8956)))  # BT.2087


def drawing(width: int = 96, height: int = 96) -> np.ndarray:
    """Four strong colours on a grey ramp: (h, w, 3) uint8."""
    picture = Image.new("RGB", (width, height))
    picture.paste(Image.linear_gradient("L").resize((width, height)).convert("RGB"))
    paint = ImageDraw.Draw(picture)
    for index, colour in enumerate((RED, GREEN, BLUE, (220, 200, 40))):
        left, top = (index % 2) * width // 2 + width // 12, (index // 2) * height // 2 + height // 12
        paint.rectangle((left, top, left + width // 3, top + height // 3), fill=colour)
    return np.asarray(picture)


def film(path: Path, values: np.ndarray, layout: str, codec: str = "libx265", **tags: Any) -> Path:
    """One picture for two seconds. `values` are uint8 or uint16 RGB or RGBA, `layout` is FFmpeg's name of what the
    codec takes; tags are H.273's numbers for `matrix`, `transfer`, `primaries` and `range`, `named` the matrix that it
    says it has (2: it says nothing), and `metadata` of its stream."""
    height, width, planes = values.shape
    source = {(1, 3): "rgb24", (1, 4): "rgba", (2, 3): "rgb48le", (2, 4): "rgba64le"}[values.itemsize, planes]
    matrix, color_range = tags.get("matrix", 1), tags.get("range", 1)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=2)
        stream.width, stream.height, stream.pix_fmt = width, height, layout
        stream.metadata.update(tags.get("metadata", {}))
        if codec == "libx265":
            stream.options = {"x265-params": "log-level=none", "preset": "ultrafast", "crf": "8"}
        if codec == "libvpx":
            stream.options = {"auto-alt-ref": "0"}  # which transparency does not go with
        frame = av.VideoFrame.from_ndarray(values, source).reformat(
            format=layout, dst_colorspace=None if layout in ("argb", "rgba") else matrix, dst_color_range=color_range
        )
        context = stream.codec_context
        named = tags.get("named", matrix)
        for thing in (context, frame):
            thing.colorspace, thing.color_range = named, color_range if named != 2 else 0
            thing.color_trc, thing.color_primaries = tags.get("transfer", 2), tags.get("primaries", 2)
        for index in range(4):
            frame.pts, frame.time_base = index, Fraction(1, 2)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def read(path: Path) -> Video:
    with path.open("rb") as file:
        return read_video(file, path.name, SPEC)


def first(path: Path) -> np.ndarray:
    return read(path).frames[0].pixels.astype(int)


def seen(values: np.ndarray) -> np.ndarray:
    """A picture of 8 bits as the tower sees it."""
    from diptych.media.preprocessing import resized_and_cropped

    return resized_and_cropped(values, SPEC).astype(int)


def apart(found: np.ndarray, wanted: np.ndarray) -> float:
    """How far two pictures are from each other, a value on average."""
    return float(np.abs(found - wanted).mean())


@pytest.mark.parametrize("name", ["pq.mp4", "hlg.mp4", "pq.mov", "hlg.mkv"])
def test_high_dynamic_range_looks_as_the_same_in_the_ordinary_one(tmp_path: Path, name: str) -> None:
    nits = 203 * srgb_light(drawing() / 255) @ _TO_BT2020.T
    coded, transfer = (pq(nits), PQ) if name.startswith("pq") else (hlg(nits), HLG)
    codec, layout = ("prores_ks", "yuv422p10le") if name.endswith("mov") else ("libx265", "yuv420p10le")
    path = film(
        tmp_path / name, np.rint(coded * 65535).astype(np.uint16), layout, codec,
        matrix=9, transfer=transfer, primaries=BT2020,
    )  # fmt: skip
    found = first(path)
    assert apart(found, seen(drawing())) < 6
    assert np.corrcoef(found.ravel(), seen(drawing()).ravel())[0, 1] > 0.98


def test_a_large_film_of_high_dynamic_range_says_its_own_size(tmp_path: Path) -> None:
    nits = 203 * srgb_light(drawing(320, 240) / 255)
    path = film(
        tmp_path / "a.mp4", np.rint(pq(nits) * 65535).astype(np.uint16), "yuv420p10le", matrix=9, transfer=PQ,
        primaries=BT2020,
    )  # fmt: skip
    details = read(path).details
    assert (details.width, details.height) == (320, 240)


@pytest.mark.parametrize(("size", "matrix"), [((1280, 64), 1), ((64, 578), 1), ((720, 576), 5), ((96, 96), 5)])
def test_colours_that_a_film_does_not_name_are_those_of_its_size(
    tmp_path: Path, size: tuple[int, int], matrix: int
) -> None:
    values = drawing(*size)
    path = film(tmp_path / "a.mp4", values, "yuv420p", matrix=matrix, named=2)
    assert apart(first(path), seen(values)) < 3


@pytest.mark.parametrize("matrix", [1, 5, 6, 7, 9])
@pytest.mark.parametrize("color_range", [1, 2])
@pytest.mark.parametrize("layout", ["yuv420p", "yuv444p10le"])
def test_colours_that_a_film_names(tmp_path: Path, matrix: int, color_range: int, layout: str) -> None:
    path = film(tmp_path / "a.mp4", drawing(), layout, matrix=matrix, range=color_range)
    assert apart(first(path), seen(drawing())) < 3


@pytest.mark.parametrize("named", [3, 8, 10, 14])
def test_a_matrix_that_cannot_be_had_costs_no_film(tmp_path: Path, named: int) -> None:
    path = film(tmp_path / "a.mkv", drawing(), "yuv420p", "ffv1", matrix=5, named=named)
    assert np.corrcoef(first(path).ravel(), seen(drawing()).ravel())[0, 1] > 0.95


CLEAR = [
    ("a.webm", "libvpx-vp9", "yuva420p"),
    ("b.webm", "libvpx", "yuva420p"),
    ("a.mov", "qtrle", "argb"),
    ("b.mov", "prores_ks", "yuva444p10le"),
    ("c.mov", "png", "rgba"),
    ("a.mkv", "ffv1", "yuva420p"),
]


@pytest.mark.parametrize(("name", "codec", "layout"), CLEAR)
def test_what_is_transparent_is_white(tmp_path: Path, name: str, codec: str, layout: str) -> None:
    alpha = np.zeros((96, 96), np.uint8)
    alpha[24:72, 24:72] = 255
    alpha[24:72, 72:84] = 128
    hidden = np.dstack((drawing(), alpha))
    metadata = {"alpha_mode": "1"} if name.endswith("webm") else {}
    path = film(tmp_path / name, hidden, layout, codec, matrix=5, named=2, metadata=metadata)
    on_white = Image.alpha_composite(Image.new("RGBA", (96, 96), "white"), Image.fromarray(hidden)).convert("RGB")
    frames = read(path).frames
    assert len(frames) > 1
    assert all(apart(frame.pixels.astype(int), seen(np.asarray(on_white))) < 3 for frame in frames)


def test_a_film_that_is_nothing_but_transparent_shows_its_colours(tmp_path: Path) -> None:
    """Programs that do not know what the fourth number of a pixel means leave it at 0."""
    hidden = np.dstack((drawing(), np.zeros((96, 96), np.uint8)))
    path = film(tmp_path / "a.mov", hidden, "argb", "qtrle", named=2)
    assert apart(first(path), seen(drawing())) < 3


def test_what_is_not_there_yet_is_blank(tmp_path: Path) -> None:
    """An overlay that comes in after half a second, with a colour hidden in what is clear before."""
    with av.open(str(tmp_path / "a.mov"), "w") as container:
        stream: Any = container.add_stream("qtrle", rate=4)
        stream.width, stream.height, stream.pix_fmt = 96, 96, "argb"
        for index in range(16):
            alpha = np.full((96, 96), 0 if index < 2 else 255, np.uint8)
            frame = av.VideoFrame.from_ndarray(np.dstack((drawing(), alpha)), "rgba").reformat(format="argb")
            frame.pts, frame.time_base = index, Fraction(1, 4)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert read(tmp_path / "a.mov").frames[0].at_s > 0


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=2)
        stream.width, stream.height, stream.pix_fmt = 90, 72, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(16, 15)
        frame = av.VideoFrame.from_image(left_and_right(RED, BLUE, 90, 72))
        for index in range(4):
            frame.pts, frame.time_base = index, Fraction(1, 2)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    details = read(path).details
    assert (details.width, details.height) == (96, 72)


# How a frame's x and y go over to the screen's, and where its upper left corner comes to lie, as (row, column)
TURNS = [
    ((1, 0, 0, 1), (0, 0)),
    ((0, 1, -1, 0), (0, 1)),
    ((-1, 0, 0, -1), (1, 1)),
    ((0, -1, 1, 0), (1, 0)),
    ((-1, 0, 0, 1), (0, 1)),
    ((1, 0, 0, -1), (1, 0)),
    ((0, 1, 1, 0), (0, 0)),
    ((0, -1, -1, 0), (1, 1)),
]


@pytest.mark.parametrize(("matrix", "corner"), TURNS)
def test_films_stand_upright_and_are_mirrored_as_they_say(
    tmp_path: Path, matrix: tuple[int, int, int, int], corner: tuple[int, int]
) -> None:
    values = np.full((96, 128, 3), 40, np.uint8)
    values[:48, :64] = 220
    path = film(tmp_path / "a.mp4", values, "yuv420p", "libx264")
    a, b, c, d = (number << 16 for number in matrix)
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 44
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    video = read(path)
    quarters = video.frames[0].pixels.reshape(2, SIDE // 2, 2, SIDE // 2, 3).mean((1, 3, 4))
    assert np.unravel_index(quarters.argmax(), (2, 2)) == corner
    assert (video.details.width, video.details.height) == ((128, 96) if matrix[0] else (96, 128))


def faded(path: Path, seconds_black: float, seconds: float, colour: int = 16) -> Path:
    """Black, with the noise of a tape, and then a picture."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 96, 96, "yuv420p", 1000
        for index in range(round(seconds * 10)):
            values = (
                drawing() if index >= seconds_black * 10 else rng.integers(colour, colour + 4, (96, 96, 3), np.uint8)
            )
            frame = av.VideoFrame.from_ndarray(values, "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("black_s", "times_s"), [(0, [0, 3, 5, 7]), (0.5, [1, 3, 5, 7]), (1.5, [1.5, 3, 5, 7]), (2.5, [2.5, 5, 7])]
)
@pytest.mark.parametrize("colour", [0, 16, 250])
def test_a_blank_beginning_is_passed_over(tmp_path: Path, black_s: float, times_s: list[float], colour: int) -> None:
    """The first quarter of this film is two seconds long: where all of it is blank, it has no frame."""
    frames = read(faded(tmp_path / "a.mp4", black_s, 8, colour)).frames
    assert [frame.at_s for frame in frames] == times_s
    assert all(frame.pixels.std() > 20 for frame in frames)


def test_a_film_of_nothing_but_black_is_one(tmp_path: Path) -> None:
    frames = read(faded(tmp_path / "a.mp4", 2, 2)).frames
    assert [frame.at_s for frame in frames] == [0.0, 0.8, 1.3, 1.8]


def test_a_turned_film_is_what_it_was(tmp_path: Path) -> None:
    details = read(turned(video(tmp_path / "a.mp4", [RED]))).details
    assert (details.width, details.height) == (120, 160)


def test_a_blank_frame_is_kept_where_the_film_is_damaged_after_it() -> None:
    from av.error import InvalidDataError

    from diptych.media.content.videos import _next_frame

    black = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), "rgb24")

    def damaged() -> Any:
        yield black
        raise InvalidDataError(1, "damaged")

    assert _next_frame(damaged(), -1, 1, 2) is black


def test_words_in_the_bytes_of_another_time(tmp_path: Path) -> None:
    path = video(tmp_path / "a.avi", [RED], codec="mpeg4", metadata={"title": "Café on the hill"})
    content = path.read_bytes()
    assert content.count("Café on".encode()) == 1
    path.write_bytes(content.replace("Café on".encode(), "Café  on".encode("cp1252")))
    assert read(path).details.caption == "Café on the hill"
