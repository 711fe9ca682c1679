"""Looking at a source: what is counted is there, what is twice is found, and nothing else is."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from diptych.data.duplicates import nearly_same, repeated, same, small_grey
from diptych.data.inspection import Quantiles, Speed, inspect_source, loader_rate
from diptych.data.samples import Source, Stream
from diptych.data.sources.opening import open_source
from diptych.errors import DataError
from diptych.scenes.scene import Scenes


def encoded(image: Image.Image, form: str = "JPEG", **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def scenes() -> list[Image.Image]:
    return [scene.image for scene in Scenes(60, size_px=96)]


@pytest.fixture
def mess(tmp_path: Path, scenes: list[Image.Image]) -> Path:
    """Eight pictures with captions; b is a, file for file; c is a, smaller and in worse quality; g is broken, h has no
    caption."""
    good = encoded(scenes[0], quality=95)
    again = encoded(scenes[0].resize((70, 70)), quality=60)
    others = {name: encoded(scenes[i], "PNG") for i, name in enumerate("def", 1)}
    for name, data in {"a": good, "b": good, "c": again, **others, "g": b"nonsense", "h": good}.items():
        (tmp_path / f"{name}.jpg").write_bytes(data)
    for name, captions in {
        "a": ["one two", "x"],
        "b": ["one two"],
        "c": ["three"],
        "d": ["one two"],
        "e": ["a " * 30],
    }.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"captions": captions}))
    (tmp_path / "f.txt").write_text(" ")
    (tmp_path / "g.txt").write_text("broken")
    return tmp_path


def test_a_source_is_counted(mess: Path) -> None:
    found = inspect_source(open_source(mess), "mess")
    assert (found.total, found.looked, found.usable) == (7, 7, 5)
    assert found.skipped == {"no caption": 1}
    assert {Path(key).name: bad.reason for key, bad in found.broken.items()} == {
        "f.jpg": "no caption", "g.jpg": "not an image",
    }  # fmt: skip
    assert found.formats == {"JPEG": 3, "PNG": 2}
    assert found.short_side_px == Quantiles(70, 96, 96, 96)
    assert found.captions_per_picture == Quantiles(1, 1, pytest.approx(1.8), 2)
    assert (found.words.least, found.words.most, found.characters.most) == (1, 30, 59)
    names = [[Path(key).stem for key in group] for group in found.same_pictures + found.near_pictures]
    assert names == [["a", "b"], ["a", "c"]]
    assert found.same_captions == [("one two", 3)]
    assert [caption for _, caption in found.sheet] == ["one two", "one two", "three", "one two", "a " * 29 + "a"]
    assert max(found.sheet[0][0].size) <= 160


def test_large_sources_are_looked_at_here_and_there(shards: Path) -> None:
    found = inspect_source(open_source(shards), "shards", limit=10, shown=4)
    assert (found.total, found.looked, found.usable, len(found.sheet)) == (96, 10, 10, 4)


def test_streams_are_looked_at_shard_by_shard(shards: Path) -> None:
    fetched: list[str] = []

    def fetch(shard: str, folder: Path) -> Source:
        fetched.append(shard)
        if shard == "lost":
            raise DataError("lost is gone", "not found")
        source = open_source(shard)
        assert not isinstance(source, Stream)
        return source

    paths = [str(path) for path in sorted(shards.glob("*.tar"))]
    stream = Stream(["lost", *paths], fetch, "a test")
    found = inspect_source(stream, "stream", limit=20)
    assert (found.total, found.usable, found.looked) == (None, 20, 21)
    assert found.broken["lost"].reason == "not found"
    assert fetched == ["lost", paths[0]]
    assert inspect_source(stream, "stream").usable == 96


def test_a_source_without_one_usable_sample_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"nonsense")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"not one of 1 samples of here can be used: .*a\.jpg: Wanted JPEG"):
        inspect_source(open_source(tmp_path), "here")


def test_changed_pictures_are_near_and_others_are_not(scenes: list[Image.Image]) -> None:
    """Saved again at a third of the quality, at half the size, brighter: near. Sixty drawn scenes: none is."""
    changed = [
        Image.open(io.BytesIO(encoded(scenes[0], quality=30))),
        scenes[1].resize((48, 48)),
        ImageEnhance.Brightness(scenes[2]).enhance(1.03),
    ]
    greys = np.stack([small_grey(image) for image in (*scenes, *changed)])
    assert nearly_same(greys[:60]) == []
    assert nearly_same(greys) == [[0, 60], [1, 61], [2, 62]]
    assert nearly_same(greys[:1]) == []


def test_near_is_found_across_blocks_and_not_in_white_pages() -> None:
    """1,500 noisy greys with a copy far down; pages that are white but for a dot are near only where the dot is one."""
    rng = np.random.default_rng(0)
    greys = rng.integers(0, 256, (1500, 16, 16)).astype(np.uint8)
    greys[1400] = np.clip(greys[3].astype(int) + rng.integers(-4, 5, (16, 16)), 0, 255)
    greys[700] = np.clip(greys[650].astype(int) + 12, 0, 255)  # too far apart
    assert nearly_same(greys) == [[3, 1400]]
    pages = np.full((4, 16, 16), 250, np.uint8)
    pages[0, 2, 2] = pages[1, 9, 9] = 200
    assert nearly_same(pages) == [[2, 3]]


def test_equal_things() -> None:
    assert same("abcab") == [[0, 3], [1, 4]]
    assert repeated([["a", "a"], ["a", "b"], ["b", "c"], ["b"]]) == [("b", 3), ("a", 2)]


def test_verdicts() -> None:
    wanted = "the loader reads 3.0 times as fast as the device trains: the device will not wait"
    assert Speed(300, 100, 96, 2, 0).verdict == wanted
    assert "without a margin" in Speed(120, 100, 96, 2, 0).verdict
    assert "would wait 60% of the time: use more threads" in Speed(40, 100, 96, 2, 0).verdict
    assert "reading takes about 20% of the time" in Speed(400, 100, 96, 2, 0, shares_cores=True).verdict


def test_the_loaders_rate_is_what_it_brings(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a source that takes 2 ms a sample, one thread reads at most 500 a second."""
    import time

    source = open_source(shards)
    plain = type(source).__getitem__
    monkeypatch.setattr(type(source), "__getitem__", lambda self, i: (time.sleep(0.002), plain(self, i))[1])
    assert 0 < loader_rate(source, 16, threads=1, batch_size=8, seconds=0.5) < 500
