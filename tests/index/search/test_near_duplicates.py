"""Groups of near-duplicate pictures."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_fixtures import Searched, TableModel, noise, unit

from diptych.index.search import near_duplicates
from diptych.index.search.near_duplicates import find_duplicates, group_alike
from diptych.media.items import Part


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
    assert find_duplicates(index) == ([], 0)
    index.put("alone.jpg", noise(1))
    assert find_duplicates(index) == ([], 1)
    with pytest.raises(ValueError, match=r"threshold is 1\.1; wanted a cosine"):
        find_duplicates(index, threshold=1.1)
