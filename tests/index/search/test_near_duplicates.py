"""Groups of near-duplicate pictures."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from search_fixtures import Searched, TableModel, noise, unit

from diptych.index.search import near_duplicates, small_greys
from diptych.index.search.near_duplicates import find_duplicates, group_alike
from diptych.media.items import Part
from diptych.storage.user.cache_folder import cache_folder


def groups_by_definition(vectors: np.ndarray, threshold: float) -> list[list[int]]:
    """Connected components, one walk at a time."""
    alike, left, groups = vectors @ vectors.T >= threshold, set(range(len(vectors))), []
    while left:
        group, new = set(), {min(left)}
        while new:
            group |= new
            new = {int(other) for one in new for other in np.flatnonzero(alike[one])} - group
        left -= group
        groups += [sorted(group)] if len(group) > 1 else []
    return groups


@given(st.integers(0, 40), st.integers(1, 6), st.floats(0, 0.6), st.integers(0, 999))
def test_groups_by_their_definition(count: int, centres: int, spread: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    vectors = unit(noise(centres, seed)[random.integers(0, centres, count)] + spread * noise(count, seed + 1))
    cosines = vectors @ vectors.T
    margin = np.abs(cosines - 0.9 + near_duplicates._ROUNDING)
    if count and margin.min() < 1e-5:
        return  # on the edge, where rounding decides
    expected = groups_by_definition(vectors, 0.9 - near_duplicates._ROUNDING)
    before, near_duplicates.BLOCK = near_duplicates.BLOCK, 7  # several blocks
    try:
        found = group_alike(vectors, 0.9)
    finally:
        near_duplicates.BLOCK = before
    assert sorted(sorted(group.tolist()) for group in found) == expected


def test_thousands_of_one_picture_are_one_group() -> None:
    vectors = np.repeat(noise(2, dim=32), (5000, 3), axis=0)
    assert [len(group) for group in group_alike(vectors, 0.95)] == [5000, 3]


def on_disk(index: Searched) -> None:
    """Files that cannot be read as pictures: vectors alone decide."""
    for path in index.catalog.files():
        (index.root / path).touch()


def names(index: Searched) -> list[list[str]]:
    return [[copy.path.name for copy in group] for group in find_duplicates(index).groups]


def test_the_file_to_keep_exists(tmp_path: Path) -> None:
    """Deleting the rest of each group loses no picture."""
    index = Searched(tmp_path, TableModel())
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        index.put(name, noise(1))
    on_disk(index)
    (tmp_path / "a.jpg").unlink()
    assert names(index) == [["b.jpg", "c.jpg"]]
    (tmp_path / "b.jpg").unlink()
    assert names(index) == []


def test_a_file_of_two_names_is_no_copy_of_itself(tmp_path: Path) -> None:
    index = Searched(tmp_path, TableModel())
    for name in ("a-link.jpg", "file.jpg", "hard.jpg", "other.jpg"):
        index.put(name, noise(1))
    for name in ("file.jpg", "other.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "a-link.jpg").symlink_to("file.jpg")
    (tmp_path / "hard.jpg").hardlink_to(tmp_path / "file.jpg")
    assert names(index) == [["file.jpg", "other.jpg"]]
    (tmp_path / "other.jpg").unlink()
    assert names(index) == []


def test_each_group_starts_with_the_one_to_keep(tmp_path: Path) -> None:
    index = Searched(tmp_path, TableModel())
    one, other, alone = noise(3, 5)
    index.put("small.jpg", one, width=100, height=80, size=900)
    index.put("large.jpg", one, width=400, height=320, size=500)
    index.put("large-heavy.jpg", unit(one + 0.1 * alone), width=400, height=320, size=800)
    index.put("unknown.jpg", other)
    index.put("also unknown.jpg", other)
    index.put("alone.jpg", alone, width=9, height=9)
    on_disk(index)
    progress = []
    found = find_duplicates(index, progress=lambda done, total: progress.append((done, total)))
    assert found.searched == 6
    names = [[copy.path.name for copy in group] for group in found.groups]
    assert names == [["large-heavy.jpg", "large.jpg", "small.jpg"], ["also unknown.jpg", "unknown.jpg"]]
    first = found.groups[0]
    assert [copy.cosine for copy in first] == pytest.approx([1, 0.995, 0.995], abs=5e-3)
    assert (first[0].width, first[0].size) == (400, 800)
    assert progress == [(1, 1)]


def test_frames_of_one_video_are_no_duplicates_but_copies_of_it_are(tmp_path: Path) -> None:
    index = Searched(tmp_path, TableModel())
    parts = [Part(np.zeros((1, 1, 3)), at_s=float(at)) for at in range(3)]
    for name, digest in (("a.mp4", b"1" * 16), ("b.mp4", b"1" * 16), ("c.mp4", b"2" * 16)):
        index.put(name, np.repeat(noise(1), 3, axis=0), kind="video", parts=parts, digest=digest)
    on_disk(index)
    assert [[copy.path.name for copy in group] for group in find_duplicates(index).groups] == [["a.mp4", "b.mp4"]]


def test_nothing_to_compare(tmp_path: Path) -> None:
    index = Searched(tmp_path, TableModel())
    assert find_duplicates(index) == ([], 0, 0)
    index.put("alone.jpg", noise(1))
    assert find_duplicates(index) == ([], 1, 0)
    with pytest.raises(ValueError, match=r"threshold is 1\.1; wanted a cosine"):
        find_duplicates(index, threshold=1.1)


# --- what the pixels decide


def drawing(seed: int) -> Image.Image:
    """Blobs, no two pictures of which are the same."""
    small = np.random.default_rng(seed).integers(0, 256, (9, 12, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((240, 180), Image.Resampling.BICUBIC)


def put(index: Searched, name: str, image: Image.Image, vector: np.ndarray) -> None:
    image.save(index.root / name)
    content = (index.root / name).read_bytes()
    digest = hashlib.blake2b(content, digest_size=16).digest()
    index.put(name, unit(vector), digest=digest, width=image.width, height=image.height, size=len(content))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Searched:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "pictures").mkdir()
    return Searched(tmp_path / "pictures", TableModel())


def test_scenes_that_are_alike_are_no_copies_and_copies_are_found_further_off(index: Searched) -> None:
    one, other, turned = np.linalg.qr(noise(3, 5).T)[0].T
    first, another = drawing(1), drawing(2)
    put(index, "first.png", first, one)
    put(index, "another.png", another, one)  # of the same vector
    put(index, "small.jpg", first.resize((90, 68)), one + 0.5 * other)  # cosine 0.89
    put(index, "cropped.png", first.crop((12, 9, 228, 171)), one + 0.1 * turned)
    put(index, "mirrored.png", ImageOps.mirror(another), one)
    found = find_duplicates(index)
    assert [[copy.path.name for copy in group] for group in found.groups] == [
        ["first.png", "cropped.png", "small.jpg"],
        ["another.png", "mirrored.png"],
    ]
    assert found.unread == 0
    assert [copy.cosine for copy in found.groups[0]] == pytest.approx([1, 0.995, 0.894], abs=5e-3)
    assert len(find_duplicates(index, threshold=0.92).groups[0]) == 2


def test_every_picture_of_a_group_is_a_copy_of_its_first(index: Searched) -> None:
    """A panorama in parts: each overlaps with the next, the first and the last have nothing in common."""
    wide = Image.fromarray(np.random.default_rng(3).integers(0, 256, (9, 40, 3)).astype(np.uint8))
    wide, vector = wide.resize((800, 180), Image.Resampling.BICUBIC), noise(1)
    for part in range(5):
        put(index, f"{part}.png", wide.crop((36 * part, 0, 36 * part + 300, 180)), vector)
    groups = names(index)
    assert max(map(len, groups), default=1) < 4
    for group in groups:
        places = [int(name[0]) for name in group]
        assert all(abs(place - places[0]) <= 2 for place in places)


def test_a_copy_of_a_copy_is_compared_with_the_first(index: Searched) -> None:
    """Its vector is near that of the copy alone."""
    one, other = np.linalg.qr(noise(2, 5).T)[0].T
    for name, share, size in (("large.png", 0.0, 240), ("middle.png", 0.6, 120), ("small.png", 1.4, 60)):
        put(index, name, drawing(1).resize((size, size * 3 // 4)), one + share * other)
    assert names(index) == [["large.png", "middle.png", "small.png"]]


def test_vectors_alone_decide_of_what_cannot_be_read(index: Searched) -> None:
    one, other = np.linalg.qr(noise(2, 5).T)[0].T
    for name, share in (("a.png", 0.0), ("b.png", 0.1), ("c.png", 0.5)):  # c: a cosine of 0.89
        put(index, name, drawing(ord(name[0])), one + share * other)
        (index.root / name).write_bytes(b"no picture " + name.encode())
    found = find_duplicates(index)
    assert [[copy.path.name for copy in group] for group in found.groups] == [["a.png", "b.png"]]
    assert found.unread == 3


def test_a_file_that_has_changed_since_the_update_is_judged_by_what_it_shows_now(index: Searched) -> None:
    vector = noise(1)
    for name in ("a.png", "b.jpg"):
        put(index, name, drawing(1), vector)
    assert names(index) == [["a.png", "b.jpg"]]
    drawing(2).save(index.root / "b.jpg")
    shutil.rmtree(cache_folder("greys"))
    assert names(index) == []
    drawing(1).save(index.root / "b.jpg")  # what was read before is not taken for it
    assert names(index) == [["a.png", "b.jpg"]]


def test_pictures_are_read_once(index: Searched, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "b.jpg"):
        put(index, name, drawing(1), noise(1))
    put(index, "alone.png", drawing(2), noise(2, 5)[1])
    read = list[tuple[int, int]]()
    found = find_duplicates(index, on_read=lambda done, total: read.append((done, total)))
    assert read == [(1, 2), (2, 2)]  # what is near none is not read
    with monkeypatch.context() as patched:
        patched.setattr("diptych.media.reading.readers.ReaderPool", None)
        assert find_duplicates(index) == found
    (kept,) = cache_folder("greys").iterdir()
    for content in (b"", kept.read_bytes()[:-5], b"\x93NUMPY" + bytes(99)):
        kept.write_bytes(content)
        assert find_duplicates(index) == found


def test_the_cache_is_bounded(index: Searched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_greys, "KEPT", 3)
    for number in range(4):
        put(index, f"{number}.jpg", drawing(1).resize((100 + number, 80)), noise(1))
    assert len(names(index)[0]) == 4
    assert len(small_greys._cached()) == 3
