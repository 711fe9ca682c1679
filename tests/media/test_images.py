"""Pictures of every odd kind against a reference, and every bad one against its reason."""

from __future__ import annotations

import contextlib
import http.server
import io
import os
import pickle
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile
from safetensors.numpy import load_file

from diptych.errors import ImageError
from diptych.media import download, preprocessing
from diptych.media.images import open_image
from diptych.media.preprocessing import Preprocess, load_pixels, normalise, preprocess
from diptych.media.scanning.image_files import find_images

GOLDEN = Path(__file__).parents[1] / "golden"
PICTURES = GOLDEN / "images"
CLIP = Preprocess(24)
SIGLIP = Preprocess(24, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), mode="squash")
ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return load_file(GOLDEN / "preprocess.safetensors")


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def noise(width: int, height: int, *, smooth: int = 1) -> Image.Image:
    small = np.random.default_rng(0).integers(0, 256, (height // smooth, width // smooth, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def with_orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = value
    return exif


def png_header(width: int, height: int) -> bytes:
    """The first bytes of a PNG that claims a size and breaks off where its pixels begin."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + b"\0\0\xff\xffIDAT"
    )


def cosine(left: np.ndarray, right: np.ndarray) -> float:
    return float((left * right).sum() / np.sqrt((left**2).sum() * (right**2).sum()))


def reason_of(source: Any, **options: Any) -> str:
    with pytest.raises(ImageError) as caught:
        open_image(source, **options)
    return caught.value.reason


# --- the reference


@pytest.mark.parametrize("name", [path.name for path in sorted(PICTURES.iterdir()) if "exif" not in path.name])
def test_pixels_equal_the_reference_to_the_last_bit(golden: dict[str, np.ndarray], name: str) -> None:
    assert np.array_equal(preprocess(PICTURES / name, CLIP), golden[name])
    assert np.array_equal(preprocess(PICTURES / name, SIGLIP), golden[f"{name}/squash"])


def test_every_way_to_hand_in_a_picture_is_the_same(golden: dict[str, np.ndarray]) -> None:
    path = PICTURES / "photo.jpg"
    opened = Image.open(path)
    with path.open("rb") as file:
        file.read(100)  # a file that was read from is rewound
        for source in (
            path,
            str(path),
            path.read_bytes(),
            bytearray(path.read_bytes()),
            file,
            opened,
            np.array(opened),
        ):
            assert np.array_equal(preprocess(source, CLIP), golden["photo.jpg"])
        assert not file.closed
    grey = Image.open(PICTURES / "grey.png")
    assert np.array_equal(preprocess(np.array(grey), CLIP), golden["grey.png"])


def test_orientation_is_applied_where_the_reference_leaves_it(golden: dict[str, np.ndarray]) -> None:
    path = PICTURES / "exif_rotated.jpg"
    lying = Image.fromarray(np.array(Image.open(path)))
    assert np.array_equal(preprocess(lying, CLIP), golden[path.name])
    assert np.array_equal(preprocess(path, CLIP), preprocess(lying.transpose(Image.Transpose.ROTATE_270), CLIP))
    assert not np.array_equal(preprocess(path, CLIP), golden[path.name])


def test_normalise_by_hand() -> None:
    pixels = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    wanted = [[[-1.7922626, 1.9303361]], [[-1.7520971, 2.0748837]], [[-1.4802198, 2.1458972]]]
    assert np.allclose(normalise(pixels, Preprocess()), wanted, rtol=0, atol=1e-6)
    batch = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    both = normalise(batch, CLIP)
    assert both.shape == (2, 3, 4, 5)
    assert both.dtype == np.float32
    assert both.flags.c_contiguous
    assert np.array_equal(both[1], normalise(batch[1], CLIP))


@pytest.mark.parametrize("pixels", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((3, 4, 4), np.uint8)])
def test_normalise_says_what_it_wanted(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"wanted uint8 of shape \(h, w, 3\)"):
        normalise(pixels, CLIP)


@pytest.mark.parametrize(("width", "left"), [(24, 0), (25, 0), (26, 1), (27, 2), (28, 2), (29, 2), (31, 4)])
def test_the_crop_rounds_halves_to_even_as_the_reference_does(width: int, left: int) -> None:
    columns = np.tile(np.arange(width, dtype=np.uint8)[None, :, None], (24, 1, 3))
    assert preprocessing.resized_and_cropped(Image.fromarray(columns), CLIP)[0, 0, 0] == left
    rows = Image.fromarray(columns.transpose(1, 0, 2).copy())
    assert preprocessing.resized_and_cropped(rows, CLIP)[0, 0, 0] == left


def test_squared_is_what_the_tower_sees() -> None:
    picture = Image.open(PICTURES / "alpha.png")
    seen = preprocessing.resized_and_cropped(picture, CLIP)
    assert (seen.dtype, seen.shape, picture.mode, picture.size) == (np.uint8, (24, 24, 3), "RGBA", (90, 70))
    assert np.array_equal(normalise(seen, CLIP), preprocess(PICTURES / "alpha.png", CLIP))


# --- odd pictures


UPRIGHT = {  # what each orientation makes of 1 2 3 / 4 5 6, worked out by hand from EXIF 2.3, table 4
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[4, 1], [5, 2], [6, 3]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[3, 6], [2, 5], [1, 4]],
}


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_eight_orientations(kind: str, orientation: int) -> None:
    stored = Image.fromarray(np.array([[1, 2, 3], [4, 5, 6]], np.uint8)).convert("RGB")
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    picture = open_image(encoded(stored, kind, exif=with_orientation(orientation), **options))
    assert np.asarray(picture)[..., 0].tolist() == UPRIGHT[orientation]
    assert np.asarray(open_image(picture))[..., 0].tolist() == UPRIGHT[orientation]  # turned once, not twice


@pytest.mark.parametrize("exif", [b"Exif\0\0" + b"\xff" * 40, b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_cost_the_picture(exif: bytes) -> None:
    picture = noise(30, 20)
    assert open_image(encoded(picture, "JPEG", exif=exif)).size == (30, 20)


@pytest.mark.parametrize(
    ("kind", "value"),
    [(3, struct.pack("<HH", 0, 0)), (3, struct.pack("<HH", 9, 0)), (2, b"6\0\0\0"), (5, struct.pack("<I", 26))],
)
def test_a_nonsensical_orientation_is_left(kind: int, value: bytes) -> None:
    tag = struct.pack("<HHHI", 1, ORIENTATION, kind, 1) + value + struct.pack("<III", 0, 13, 2)  # 13/2, if a rational
    data = encoded(noise(30, 20), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0" + tag)
    assert Image.open(io.BytesIO(data)).getexif()[ORIENTATION] in (0, 9, "6", 6.5)
    assert open_image(data).size == (30, 20)


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    deep = np.array([[0, 257 * 100, 65535]], np.uint16)
    picture = Image.fromarray(deep)
    for data in (encoded(picture), encoded(picture, "TIFF"), b"P5 3 1 65535\n" + deep.astype(">u2").tobytes()):
        assert np.asarray(open_image(data)).tolist() == [[[0] * 3, [100] * 3, [255] * 3]]
    dark = Image.fromarray(deep // 1000)  # a declared range is kept: nothing is stretched
    assert np.asarray(open_image(encoded(dark))).max() == 0


@pytest.mark.parametrize(
    ("numbers", "grey"),
    [
        (np.array([[0, 100, 255]], np.int32), [0, 100, 255]),
        (np.array([[0, 25700, 65535]], np.int32), [0, 100, 255]),
        (np.array([[-100, 0, 100]], np.int32), [0, 128, 255]),
        (np.array([[0, 0.2, 1]], np.float32), [0, 51, 255]),
        (np.array([[0, 51, 255]], np.float32), [0, 51, 255]),
        (np.array([[np.nan, 1, np.inf]], np.float32), [0, 255, 0]),
        (np.array([[7, 7, 7]], np.float32) * 1e6, [0, 0, 0]),
    ],
)
def test_numbers_of_no_declared_range(numbers: np.ndarray, grey: list[int]) -> None:
    assert np.asarray(open_image(Image.fromarray(numbers)))[0, :, 0].tolist() == grey


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_is_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "lime", "blue")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert open_image(data).getpixel((5, 5)) == pytest.approx((255, 0, 0), abs=3)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV", "LAB", "PA", "I;16", "F"]
)
def test_every_mode_becomes_rgb(mode: str) -> None:
    picture = Image.new(mode, (30, 20))
    assert open_image(picture).mode == "RGB"
    assert preprocess(picture, CLIP).shape == (3, 24, 24)
    assert (picture.mode, picture.size) == (mode, (30, 20))  # the caller's picture is left as it was


def test_a_palette_with_alpha_is_not_resized_by_its_indices() -> None:
    picture = Image.new("P", (40, 1))
    picture.putpalette([255, 0, 0] + [0, 0, 0] * 99 + [255, 0, 0])
    picture.putdata([0] * 20 + [100] * 20)  # both are red; all between them is black
    red = normalise(np.full((24, 24, 3), (255, 0, 0), np.uint8), SIGLIP)
    assert np.array_equal(preprocess(picture.convert("PA"), SIGLIP), red)


def test_a_transparent_palette_opens_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    data = encoded(noise(30, 20).convert("P"), transparency=bytes(range(256)))
    assert open_image(data).mode == "RGB"
    assert preprocess(data, CLIP).shape == (3, 24, 24)
    assert not recwarn.list


def test_an_extreme_shape_does_not_explode(monkeypatch: pytest.MonkeyPatch) -> None:
    column, sizes, resize = np.zeros((60_000, 1), np.uint8), list[tuple[int, int]](), Image.Image.resize
    column[30_000:] = 255

    def noted(image: Image.Image, size: tuple[int, int], *arguments: Any) -> Image.Image:
        sizes.append(size)
        return resize(image, size, *arguments)

    monkeypatch.setattr(Image.Image, "resize", noted)
    pixels = preprocess(column, Preprocess(224, mean=(0, 0, 0), std=(1, 1, 1)))  # the reference would need 9 GB
    assert 0 < max(width * height for width, height in sizes) < 10_000_000
    assert pixels.shape == (3, 224, 224)
    assert pixels.min() < 0.01 < 0.99 < pixels.max()  # the centre, where black meets white


@settings(max_examples=60)
@given(
    width=st.integers(1, 400), height=st.integers(1, 400), size_px=st.integers(1, 40),
    mode=st.sampled_from(["crop", "squash"]), decode=st.sampled_from(["exact", "fast"]),
)  # fmt: skip
def test_any_size_gives_a_square(width: int, height: int, size_px: int, mode: Any, decode: Any) -> None:
    spec = Preprocess(size_px, mode=mode)
    array = np.full((height, width, 3), 200, np.uint8)
    pixels = preprocess(encoded(Image.fromarray(array), "JPEG"), spec, decode=decode)
    assert pixels.shape == (3, size_px, size_px)
    flat = normalise(np.full((size_px, size_px, 3), 200, np.uint8), spec)
    assert np.abs(pixels - flat).max() < 0.05  # no black border: crops lie inside of the picture


# --- fast decoding


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("size", [(1280, 960), (1279, 787), (787, 1279)])
@pytest.mark.parametrize("spec", [Preprocess(64), Preprocess(64, mode="squash")])
def test_fast_decoding_stays_close(size: tuple[int, int], orientation: int, spec: Preprocess) -> None:
    data = encoded(noise(*size, smooth=12), "JPEG", quality=90, exif=with_orientation(orientation))
    exact, fast = preprocess(data, spec), preprocess(data, spec, decode="fast")
    assert not np.array_equal(exact, fast)  # it did take the short cut
    assert cosine(exact, fast) > 0.999  # and half a pixel aside would be 0.95


def test_fast_decoding_keeps_three_times_the_target() -> None:
    data = encoded(noise(1279, 787, smooth=12), "JPEG")
    sizes = {size_px: open_image(data, decode="fast", size_px=size_px).size for size_px in (24, 60, 120, 300)}
    assert sizes == {24: (160, 99), 60: (320, 197), 120: (640, 394), 300: (1279, 787)}
    assert open_image(data, decode="fast").size == (1279, 787)


def test_fast_decoding_leaves_what_is_no_jpeg_and_the_callers_picture() -> None:
    png = encoded(noise(300, 200, smooth=4))
    assert np.array_equal(preprocess(png, Preprocess(64), decode="fast"), preprocess(png, Preprocess(64)))
    mine = Image.open(io.BytesIO(encoded(noise(1280, 960, smooth=12), "JPEG")))
    preprocess(mine, CLIP, decode="fast")
    assert mine.size == (1280, 960)


def test_an_unknown_way_to_decode_fails_by_name() -> None:
    with pytest.raises(ValueError, match="decode='quick'; wanted one of exact, fast"):
        preprocess(PICTURES / "photo.jpg", CLIP, decode="quick")  # type: ignore[arg-type]


# --- bad pictures


def test_each_bad_input_has_its_reason(tmp_path: Path) -> None:
    photo = (PICTURES / "photo.jpg").read_bytes()
    files = {"empty.jpg": b"", "text.jpg": b"dear diary, today I renamed a letter", "cut.jpg": photo[: len(photo) // 2]}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        assert reason_of(data) == reason_of(tmp_path / name)
    assert reason_of(tmp_path / "empty.jpg") == "empty file"
    assert reason_of(tmp_path / "text.jpg") == "not an image"
    assert reason_of(tmp_path / "cut.jpg") == "truncated"
    assert reason_of(tmp_path / "cut.jpg", decode="fast", size_px=24) == "truncated"
    assert reason_of(photo[:30]) == "truncated"
    assert reason_of(tmp_path / "absent.jpg") == "missing"
    assert reason_of(tmp_path / "text.jpg" / "child.jpg") == "missing"
    assert reason_of(str(tmp_path)) == "a folder"
    assert reason_of(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n") == "not an image"  # no interpreter is run
    assert reason_of(Image.new("RGB", (0, 5))) == "not an image"
    assert reason_of(None) == reason_of(["a.jpg"]) == reason_of(io.StringIO("a")) == "unsupported type"
    assert reason_of(np.zeros((4, 4))) == reason_of(np.zeros((5, 6, 5), np.uint8)) == "unsupported array"
    assert reason_of(np.zeros((0, 4, 3), np.uint8)) == "unsupported array"


def test_the_message_names_the_source_and_survives_a_pickle(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"absent\.jpg: missing\. There is no such file; check the path\.") as caught:
        open_image(tmp_path / "absent.jpg")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.reason, copy.source, str(copy)) == ("missing", str(tmp_path / "absent.jpg"), str(caught.value))


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "PPM", "WEBP"])
def test_a_cut_file_of_any_kind_is_an_image_error(kind: str) -> None:
    data = encoded(noise(60, 40), kind)
    assert reason_of(data[: len(data) // 2]) in ("truncated", "damaged")


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    bomb = png_header(30_000, 30_000)  # it holds no pixel: decoding first would call it truncated
    assert reason_of(bomb) == "too large"
    assert reason_of(png_header(2_000, 2_000)) == "truncated"
    with pytest.raises(ImageError, match=r"2000 x 2000 pixels; wanted 1 to 3,999,999"):
        open_image(png_header(2_000, 2_000), max_pixels=3_999_999)
    assert reason_of(noise(20, 20), max_pixels=399) == "too large"
    assert open_image(noise(20, 20), max_pixels=400).size == (20, 20)


def test_import_is_light_and_leaves_pillow_as_it_was() -> None:
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    code = """
import sys, PIL.Image
before = PIL.Image.MAX_IMAGE_PIXELS, dict(PIL.Image.OPEN)
import diptych.media.preprocessing
assert before == (PIL.Image.MAX_IMAGE_PIXELS, PIL.Image.OPEN)
assert not {"torch", "transformers", "urllib.request", "matplotlib"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


# --- many pictures


def test_threads_keep_the_order_and_a_bad_picture_to_itself(golden: dict[str, np.ndarray]) -> None:
    names = [path.name for path in sorted(PICTURES.iterdir()) if "exif" not in path.name] * 4
    sources: list[Any] = [PICTURES / name for name in names]
    sources[3], sources[17] = b"not a picture", "absent.jpg"
    results = list(load_pixels(sources, CLIP, threads=4))
    assert [index for index, _ in results] == list(range(len(names)))
    reasons = {index: result.reason for index, result in results if isinstance(result, ImageError)}
    assert reasons == {3: "not an image", 17: "missing"}
    for name, (_, result) in zip(names, results, strict=True):
        assert isinstance(result, ImageError) or np.array_equal(normalise(result, CLIP), golden[name])


def test_a_kept_error_holds_no_picture() -> None:
    ((_, error),) = load_pixels([b"not a picture"], CLIP)
    assert isinstance(error, ImageError)
    assert error.__traceback__ is error.__cause__ is error.__context__ is None


def test_read_ahead_is_bounded_and_stops_with_the_reader() -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"not a picture"

    stream = load_pixels(endless(), CLIP, threads=2)
    for _ in range(10):
        next(stream)
    assert taken <= 10 + 2 * 2
    threads = threading.active_count()
    stream.close()  # type: ignore[attr-defined]
    assert threading.active_count() < threads


def test_no_sources_no_pixels() -> None:
    assert list(load_pixels([], CLIP)) == []


def test_find_images_sees_pictures_only(tmp_path: Path) -> None:
    wanted = ["a/b.PNG", "a-b/c.webp", "a/z.jpeg", "b.jpg", "linked.tif"]
    others = [".hidden.jpg", "notes.txt", "jpg", ".git/d.jpg", "node_modules/e.png", "a/@eaDir/f.jpg", "g.jpg.part"]
    for name in wanted + others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "up").symlink_to(tmp_path)  # a cycle
    (tmp_path / "0").symlink_to(tmp_path / "a")  # a second way to what is in the tree
    assert find_images(tmp_path) == sorted(tmp_path / name for name in wanted)
    assert find_images(str(tmp_path), recursive=False) == [tmp_path / "b.jpg", tmp_path / "linked.tif"]


def test_find_images_walks_a_linked_folder_once(tmp_path: Path) -> None:
    shelf, photos = tmp_path / "shelf", tmp_path / "photos"
    (shelf / "deep").mkdir(parents=True)
    (shelf / "deep" / "x.jpg").touch()
    photos.mkdir()
    (photos / "first").symlink_to(shelf)
    (photos / "second").symlink_to(shelf)
    assert find_images(photos, follows=lambda path: True) == [photos / "first" / "deep" / "x.jpg"]


def test_find_images_wants_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        find_images(tmp_path / "absent")
    (tmp_path / "a.jpg").touch()
    with pytest.raises(NotADirectoryError):
        find_images(tmp_path / "a.jpg")


# --- the web


class Shelf(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/slow":
            self.server.over.wait()  # type: ignore[attr-defined]
        body = b"<html>" if self.path == "/page" else (PICTURES / "photo.jpg").read_bytes()
        with contextlib.suppress(OSError):  # a reader who has gone
            self.send_response(404 if self.path == "/absent.jpg" else 200)
            self.end_headers()
            while self.path == "/drip" and not self.server.over.wait(0.05):  # type: ignore[attr-defined]
                self.wfile.write(b"drop")
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def shelf() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shelf) as server:
        server.over = threading.Event()  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.over.set()  # type: ignore[attr-defined]
        server.shutdown()


def test_a_url_is_fetched(golden: dict[str, np.ndarray], shelf: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert np.array_equal(preprocess(f"{shelf}/photo.jpg", CLIP), golden["photo.jpg"])
    assert reason_of(f"{shelf}/absent.jpg") == "download failed"
    assert reason_of(f"{shelf}/page") == "not an image"
    assert reason_of("http://127.0.0.1:1/a.jpg") == "download failed"
    assert reason_of("ftp://127.0.0.1/a.jpg") == "missing"  # a path, and fetched from nowhere
    monkeypatch.setattr(download, "URL_MAX_BYTES", 1000)
    with pytest.raises(ImageError, match="more than 1,000 bytes"):
        open_image(f"{shelf}/photo.jpg")


@pytest.mark.parametrize("page", ["slow", "drip"])
def test_a_slow_url_is_given_up(shelf: str, monkeypatch: pytest.MonkeyPatch, page: str) -> None:
    """The server says nothing, or a little for ever: it would not end by itself."""
    monkeypatch.setattr(download, "URL_TIMEOUT_S", 0.15)
    assert reason_of(f"{shelf}/{page}") == "download failed"


# --- what a tower wants, and Hugging Face's file

OPENAI_FILE = {  # of openai/clip-vit-base-patch32
    "crop_size": 224, "do_center_crop": True, "do_normalize": True, "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, "size": 224,
}  # fmt: skip
SIGLIP_FILE = {  # of google/siglip2-base-patch16-512
    "do_convert_rgb": None, "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "SiglipImageProcessor", "image_std": [0.5, 0.5, 0.5], "processor_class": "SiglipProcessor",
    "resample": 2, "rescale_factor": 0.00392156862745098, "size": {"height": 512, "width": 512},
}  # fmt: skip


def test_published_files_are_read() -> None:
    assert Preprocess.from_hugging_face(OPENAI_FILE) == Preprocess(224)
    half = (0.5, 0.5, 0.5)
    wanted = Preprocess(512, mean=half, std=half, mode="squash", interpolation="bilinear")
    assert Preprocess.from_hugging_face(SIGLIP_FILE) == wanted
    assert Preprocess.from_hugging_face({"image_processor_type": "CLIPImageProcessorFast"}) == Preprocess()
    fast = {"data_format": "channels_first", "default_to_square": True, "device": None, "do_pad": False, "size": None}
    assert Preprocess.from_hugging_face({**fast, "image_processor_type": "SiglipImageProcessorPil"}).size_px == 224
    square = {"image_processor_type": "CLIPImageProcessor", "size": {"height": 224, "width": 224}}
    assert Preprocess.from_hugging_face(square) == Preprocess(224, mode="squash")
    plain = Preprocess.from_hugging_face({**OPENAI_FILE, "do_normalize": False})
    assert (plain.mean, plain.std) == ((0, 0, 0), (1, 1, 1))


@settings(max_examples=50)
@given(
    st.builds(
        Preprocess,
        size_px=st.integers(1, 2000),
        mean=st.tuples(*[st.floats(-1, 1)] * 3),
        std=st.tuples(*[st.floats(0.01, 2)] * 3),
        mode=st.sampled_from(["crop", "squash"]),
        interpolation=st.sampled_from(["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]),
    )
)
def test_hugging_face_there_and_back(spec: Preprocess) -> None:
    assert Preprocess.from_hugging_face(spec.to_hugging_face()) == spec


def test_what_is_written_is_what_transformers_expects() -> None:
    written = Preprocess(336).to_hugging_face()
    assert written["size"] == {"shortest_edge": 336}
    assert written["crop_size"] == {"height": 336, "width": 336}
    assert (written["image_processor_type"], written["resample"]) == ("CLIPImageProcessor", 3)
    assert SIGLIP.to_hugging_face()["image_processor_type"] == "SiglipImageProcessor"
    assert SIGLIP.to_hugging_face()["size"] == {"height": 24, "width": 24}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("do_resize", False), ("do_rescale", False), ("do_center_crop", False), ("rescale_factor", 1.0),
        ("resample", 9), ("crop_size", 200), ("crop_size", {"height": 224, "width": 200}), ("size", 256),
        ("size", {"longest_edge": 224}), ("size", {"height": 224, "width": 300}), ("size", {}), ("size", [224, 224]),
        ("do_pad", True), ("fill_color", 127), ("data_format", "channels_last"), ("size", 0), ("image_mean", 0.5),
        ("image_std", [1, 1]), ("feature_extractor_type", "ViTFeatureExtractor"), ("feature_extractor_type", None),
        ("resample", [3]), ("resample", {}), ("size", {"height": "a", "width": 3}), ("size", {"shortest_edge": [224]}),
    ],
)  # fmt: skip
def test_what_cannot_be_expressed_is_refused_by_name(key: str, value: object) -> None:
    name = {"image_mean": "mean", "image_std": "std", "feature_extractor_type": "image_processor_type"}.get(key, key)
    with pytest.raises(ValueError, match=rf"(crop_)?{name}"):
        Preprocess.from_hugging_face({**OPENAI_FILE, key: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size_px", 0), ("size_px", 24.0), ("size_px", True), ("mean", (0.5,)), ("mean", 0.5), ("std", (1, 0, 1)),
        ("std", "abc"), ("mode", "pad"), ("interpolation", "cubic"),
    ],
)  # fmt: skip
def test_an_unknown_value_fails_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{field}="):
        Preprocess(**{field: value})  # type: ignore[arg-type]


def test_a_pipe_among_the_pictures_does_not_hang_and_a_broken_link_is_named(tmp_path: Path) -> None:
    (tmp_path / "a\nb.png").write_bytes(encoded(noise(8, 8, smooth=2)))
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    found = find_images(tmp_path)
    assert [path.name for path in found] == ["a\nb.png", "link.png"]
    assert reason_of(found[1]) == "missing"


def test_find_images_follows_no_link_out_of_the_folder(tmp_path: Path) -> None:
    away, photos = tmp_path / "away", tmp_path / "photos"
    for path in (away / "deep" / "x.jpg", photos / "own.jpg", photos / "a" / "y.jpg"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (photos / "out").symlink_to(away)
    (photos / "x.jpg").symlink_to(away / "deep" / "x.jpg")
    (photos / "b").symlink_to("a")
    (photos / "z.jpg").symlink_to("a/y.jpg")
    left: list[Path] = []
    assert find_images(photos, skipped=left) == [photos / name for name in ("a/y.jpg", "own.jpg", "z.jpg")]
    assert sorted(left) == [photos / "out", photos / "x.jpg"]
    everything = find_images(photos, follows=lambda path: True)
    assert {path.name for path in everything} == {"y.jpg", "own.jpg", "z.jpg", "x.jpg"}
    assert len(everything) == 5
