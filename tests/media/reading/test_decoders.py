"""Single pictures, decoded in processes that may die."""

import io
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, wait
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diptych.errors import ImageError, ReaderProcessError
from diptych.media.preprocessing import Preprocess, resized_and_cropped
from diptych.media.reading.decoders import DecodedPicture, DecoderPool

SPEC = Preprocess(size_px=16)


def png(width: int = 60, height: int = 40, seed: int = 0) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(png())
    (tmp_path / "out.png").write_bytes(png())
    return tmp_path / "in"


@pytest.fixture
def pool(folder: Path) -> Iterator[DecoderPool]:
    made = DecoderPool(folder, SPEC, processes=1)
    yield made
    made.close()


def jpeg_size(decoded: DecodedPicture) -> tuple[int, int]:
    with Image.open(io.BytesIO(decoded.jpeg or b"")) as picture:
        return picture.size


def test_what_is_decoded(pool: DecoderPool, folder: Path) -> None:
    """In one process: a square for the tower, a whole picture from bytes and from a file, both, and what fails."""
    square = pool.square(png()).result(300)
    assert square.size == (60, 40)
    np.testing.assert_array_equal(square.square, resized_and_cropped(png(), SPEC, decode="fast"))
    whole = pool.whole(png(), 30).result(300)
    assert (whole.size, jpeg_size(whole), whole.square) == ((60, 40), (30, 20), None)
    assert jpeg_size(pool.file("a.png", 30).result(300)) == (30, 20)
    both = pool.upload(png(), 30).result(300)
    assert (both.square is not None and both.square.shape, jpeg_size(both)) == ((16, 16, 3), (30, 20))
    assert jpeg_size(pool.whole(png(), 300).result(300)) == (60, 40), "never enlarged"
    for content, reason in ((b"", "empty file"), (b"nothing", "not an image"), (png()[:500], "truncated")):
        with pytest.raises(ImageError) as failed:
            pool.square(content).result(300)
        assert failed.value.reason == reason
    reasons = []
    for name in ("none.png", "../out.png", str(folder.parent / "out.png")):
        with pytest.raises(ImageError) as failed:
            pool.file(name, 30).result(300)
        reasons.append(failed.value.reason)
    assert reasons == ["missing", "leads out of the folder", "leads out of the folder"]


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_process_that_dies_costs_one_picture(pool: DecoderPool) -> None:
    pool.square(png()).result(300)
    (worker,) = pool._workers
    assert worker._process is not None
    os.kill(worker._process.pid, signal.SIGSTOP)  # so that the picture is under way when it dies
    under_way = pool.square(png(seed=1))
    wait([under_way], 0.2)
    os.kill(worker._process.pid, signal.SIGKILL)
    with pytest.raises(ImageError) as failed:
        under_way.result(300)
    assert failed.value.reason == "crashed"
    assert pool.square(png(seed=2)).result(300).size == (60, 40)


def test_a_picture_that_takes_too_long_is_given_up(folder: Path) -> None:
    pool = DecoderPool(folder, SPEC, processes=1, timeout_s=0.0)
    try:
        with pytest.raises(ImageError) as failed:
            pool.square(png(3000, 3000)).result(300)
        assert failed.value.reason == "timed out"
    finally:
        pool.close()


def test_a_closed_pool_takes_none(folder: Path) -> None:
    pool = DecoderPool(folder, SPEC)
    pool.close()
    with pytest.raises(ReaderProcessError):
        pool.square(png())


def test_what_nobody_waits_for_is_not_decoded(pool: DecoderPool) -> None:
    futures: list[Future[DecodedPicture]] = [pool.square(png(seed=number)) for number in range(4)]
    cancelled = [future for future in futures if future.cancel()]
    assert cancelled
    assert {future.result(300).size for future in futures if future not in cancelled} <= {(60, 40)}
