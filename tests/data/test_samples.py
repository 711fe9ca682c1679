"""Sources and augmentation: every layout is read, what is none is said, captions stay true. The loader: test_loader."""

import io
import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from diptych.data.loading.augmentation import NONE, Augmentation, augment_picture, crop_box, drop_words, mirror_caption
from diptych.data.loading.loader import Loader, MixtureSource
from diptych.data.samples import captions_of
from diptych.data.sources.opening import all_captions, open_source
from diptych.errors import DataError
from diptych.training.scene_source import SceneSource, photographs
from tests.conftest import write_tar


def jpeg(colour: tuple[int, int, int] = (200, 30, 30), size: tuple[int, int] = (40, 30)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "JPEG")
    return file.getvalue()


def test_shards_of_every_layout(tmp_path: Path) -> None:
    captions = json.dumps({"captions": ["one", " two "]}).encode()
    write_tar(
        tmp_path / "0.tar", {"a.jpg": jpeg(), "a.json": captions, "b.c.png": jpeg(), "b.c.txt": b"three\n\nfour\n"}
    )
    write_tar(
        tmp_path / "1.tar", {"d/e.jpg": jpeg(), "d/e.json": b'{"caption": "five"}', "f.jpg": jpeg(), "g.json": captions}
    )
    source = open_source(tmp_path)
    assert [source[i].key for i in range(len(source))] == ["a", "b.c", "d/e"]
    assert list(all_captions(source)) == ["one", "two", "three", "four", "five"]
    assert source.skipped == {"no caption": 1, "no picture": 1}
    assert [source.key(i) for i in range(3)] == ["a in 0.tar", "b.c in 0.tar", "d/e in 1.tar"]
    assert source[0].image == jpeg()
    assert len(open_source(tmp_path / "0.tar")) == 2
    assert len(open_source(str(tmp_path / "*.tar"))) == 3


def test_folder_with_captions_beside(tmp_path: Path) -> None:
    for name, content in {
        "a.jpg": jpeg(),
        "a.txt": b"a red thing",
        "b.png": jpeg(),
        "b.json": b'{"captions": ["x", "y"]}',
        "c.jpg": jpeg(),
    }.items():
        (tmp_path / name).write_bytes(content)
    source = open_source(tmp_path)
    assert [source[i].captions for i in range(len(source))] == [("a red thing",), ("x", "y")]
    assert source.skipped == {"no caption": 1}


def test_sources_that_are_none_say_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a folder"):
        open_source(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"holds no pairs; wanted a folder of tar shards"):
        open_source(tmp_path)
    (tmp_path / "broken.tar").write_bytes(b"not a tar file" * 100)
    with pytest.raises(DataError, match=r"broken\.tar cannot be read"):
        open_source(tmp_path)


def test_captions_of_sidecars() -> None:
    assert captions_of(b'{"caption": "one"}', True, "k") == ("one",)
    assert captions_of(b'{"captions": ["a ", " "]}', True, "k") == ("a",)
    assert captions_of(b"\xef\xbb\xbf a \n\nb", False, "k") == ("a", "b")


@pytest.mark.parametrize(
    "sidecar", [b'{"captions": []}', b"[1]", b'{"captions": [null]}', b'{"captions": 3}', b'{"capt']
)
def test_damaged_sidecars_name_their_sample(sidecar: bytes) -> None:
    with pytest.raises(DataError, match="dog 7"):
        captions_of(sidecar, True, "dog 7")


def test_mirrored_captions_swap_sides() -> None:
    assert (
        mirror_caption("a dog left of the leftmost cat , Right hand up")
        == "a dog right of the rightmost cat , Left hand up"
    )
    assert mirror_caption("he left brightly") == "he right brightly"  # the verb is the price of a rule of one line
    assert mirror_caption("a bright cleft") == "a bright cleft"


@given(st.text(alphabet="lefright RIGHTLEF,.", max_size=60))
def test_mirroring_twice_is_nothing(caption: str) -> None:
    once = mirror_caption(caption)
    if "left" not in caption.lower() and "right" not in caption.lower():
        assert once == caption
    assert mirror_caption(once).lower() == caption.lower()


@given(st.integers(0, 2**32), st.floats(0.1, 1))
def test_crops_are_nearly_square_and_as_large_as_said(seed: int, scale: float) -> None:
    """Whatever the picture's shape: no box is stretched, and on a square picture its area is what was drawn."""
    rng = np.random.default_rng(seed)
    for size in ((200, 100), (100, 200), (100, 100)):
        left, top, right, bottom = crop_box(size, Augmentation(crop_scale=scale), rng)
        assert 3 / 4 - 1e-9 <= (right - left) / (bottom - top) <= 4 / 3 + 1e-9
    assert (right - left) * (bottom - top) >= 0.7 * scale * 100 * 100
    assert crop_box((200, 100), Augmentation(crop_scale=1), rng) == pytest.approx((50, 0, 150, 100))


@given(st.integers(0, 2**32), st.integers(1, 500), st.integers(1, 500), st.floats(0, 1))
def test_crops_stay_inside(seed: int, width: int, height: int, scale: float) -> None:
    left, top, right, bottom = crop_box((width, height), Augmentation(crop_scale=scale), np.random.default_rng(seed))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def test_no_augmentation_is_a_plain_resize() -> None:
    picture = Image.effect_noise((64, 64), 50).convert("RGB")
    pixels, part, is_mirrored = augment_picture(picture, 32, NONE, np.random.default_rng(0))
    assert (part, is_mirrored) == ((0, 0, 1, 1), False)
    assert np.array_equal(pixels, np.asarray(picture.resize((32, 32), Image.Resampling.BICUBIC, reducing_gap=2)))


def test_flip_erase_and_jitter_do_what_they_say() -> None:
    picture = Image.new("RGB", (32, 32), "black")
    picture.paste("white", (0, 0, 16, 32))
    rng = np.random.default_rng(1)
    pixels, _, is_mirrored = augment_picture(picture, 32, Augmentation(1, 1, 0, 0, 0), rng)
    assert is_mirrored
    assert pixels[:, :12].max() < 10 < 245 < pixels[:, 20:].min()
    erased, _, _ = augment_picture(picture, 32, Augmentation(1, 0, 0, 1, 0), rng)
    assert len({tuple(p) for p in erased.reshape(-1, 3).tolist()}) <= 3  # black, white and one grey
    changed = (erased != np.asarray(picture)).any(axis=2).mean()
    assert 0.01 < changed < 0.25
    grey = Image.new("RGB", (8, 8), (100, 100, 100))
    values = {augment_picture(grey, 8, Augmentation(1, 0, 0.4, 0, 0), rng)[0][0, 0, 0] for _ in range(50)}
    assert min(values) >= 59
    assert max(values) <= 141
    assert len(values) > 10


def test_words_are_dropped_but_never_all() -> None:
    rng = np.random.default_rng(0)
    words = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]
    kept = [len(drop_words(" ".join(words), 0.3, rng).split()) for _ in range(2000)]
    assert np.mean(kept) == pytest.approx(7, abs=0.15)
    assert drop_words("a b", 1.0, rng) in ("a", "b")
    assert drop_words("alone", 1.0, rng) == "alone"
    with pytest.raises(ValueError, match="drop_words is 2"):
        Augmentation(drop_words=2)


def test_scenes_are_fresh_every_epoch_and_drawn_on_photographs(shards: Path) -> None:
    backgrounds = photographs(open_source(shards), 64, count=5)
    assert len(backgrounds) == 5
    part = MixtureSource(SceneSource(40, backgrounds), 8, NONE)
    mixed = Loader([part], batch_size=8, size_px=32)
    first, second = islice(mixed.batches(), 2)
    assert not {p.tobytes() for p in first.pixels} & {p.tobytes() for p in second.pixels}
