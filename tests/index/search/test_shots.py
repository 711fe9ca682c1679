"""Copies, links, and the RAW, HEIC and JPEG files of one shot count once among the hits."""

from pathlib import Path

import numpy as np
import pytest
from search_fixtures import DIM, Searched, TableModel, noise, search, unit

from diptych.errors import ArgumentError, IndexModelError
from diptych.index.filters.filters import Filters
from diptych.index.search.results import Hit
from diptych.index.search.search import search_all
from diptych.media.items import Part

DOG = unit(np.eye(DIM)[0])
NOON = "2024-05-01T12:00:00"


def near(cosine: float, seed: int = 0) -> np.ndarray:
    away = noise(1, seed)[0]
    away = unit(away - (away @ DOG) * DOG)
    return cosine * DOG + np.sqrt(1 - cosine**2) * away


@pytest.fixture
def index(tmp_path: Path) -> Searched:
    return filled(tmp_path)


def filled(folder: Path) -> Searched:
    """Ten pictures that match worse and worse."""
    index = Searched(folder, TableModel({"a dog": DOG}))
    for number in range(10):
        index.put(f"{number}.jpg", near(0.5 - 0.01 * number, number))
    return index


def named(hit: Hit) -> tuple[str, list[str]]:
    return hit.path.name, [path.name for path in hit.copies]


def test_copies_are_one_hit_and_the_limit_is_filled(index: Searched) -> None:
    for number in range(30):
        index.put(f"copies/{number}.jpg", near(0.9), digest=b"the same")
    found = search(index, index.model, "a dog", limit=3)
    assert [hit.path.name for hit in found.hits] == ["0.jpg", "0.jpg", "1.jpg"]
    assert len(found.hits[0].copies) == 29
    assert found.hits[1].copies == ()
    each = search(index, index.model, "a dog", limit=32, copies=True)
    assert [hit.path.parent.name for hit in each.hits[:31]] == ["copies"] * 30 + [index.root.name]
    assert not any(hit.copies for hit in each.hits)


def test_a_file_represents_its_links_and_the_least_deep_copy_the_others(index: Searched) -> None:
    for path in ("b/deep.jpg", "a-link.jpg", "c.jpg", "d.jpg"):
        index.put(path, near(0.9), digest=b"the same")
    (index.root / "c.jpg").touch()
    (index.root / "a-link.jpg").symlink_to("c.jpg")
    (hit,) = search(index, index.model, "a dog", limit=1).hits
    assert named(hit) == ("c.jpg", ["a-link.jpg", "deep.jpg", "d.jpg"])
    assert search(index, index.model, "a dog", limit=1, filters=Filters(path="b/")).hits[0].copies == ()


@pytest.mark.parametrize(
    ("one", "other", "is_one"),
    [
        (("IMG_1.CR2", NOON, 0.9), ("IMG_1.JPG", NOON, 0.7), True),
        (("IMG_1.heic", NOON, 0.9), ("IMG_1.jpeg", NOON, 0.8), True),
        (("a/IMG_1.dng", NOON, 0.9), ("b/IMG_1.jpg", NOON, 0.8), True),  # sorted into folders
        (("a/IMG_1.dng", None, 0.9), ("b/IMG_1.jpg", None, 0.9), False),
        (("IMG_1.dng", None, 0.9), ("IMG_1.jpg", NOON, 0.9), True),
        (("IMG_1.dng", None, 0.9), ("IMG_1.jpg", None, 0.6), False),  # they do not look alike
        (("IMG_1.CR2", NOON, 0.9), ("IMG_1.JPG", "2024-05-01T12:00:09", 0.9), False),
        (("IMG_1.jpeg", NOON, 0.9), ("IMG_1.jpg", NOON, 0.9), False),  # two JPEGs of one name are two pictures
        (("IMG_1.png", NOON, 0.9), ("IMG_1.jpg", NOON, 0.9), False),
        (("IMG_1.CR2", NOON, 0.9), ("IMG_12.JPG", NOON, 0.9), False),
    ],
)
def test_the_files_that_a_camera_writes_for_one_shot(index: Searched, one: tuple, other: tuple, is_one: bool) -> None:
    for name, taken_at, cosine in (one, other):
        index.put(name, near(cosine, 99), taken_at=taken_at, camera="Canon R6")
    first, second = search(index, index.model, "a dog", limit=2).hits
    assert first.path == index.root / one[0]
    assert second.path == index.root / ("0.jpg" if is_one else other[0])
    if is_one and Path(one[0]).parent == Path(other[0]).parent:
        assert [path.name for path in first.copies] == [Path(other[0]).name]


def test_copies_of_camera_files_are_listed_too(index: Searched) -> None:
    for folder in ("", "backup/"):
        for name, digest in (("I.CR2", b"raw"), ("I.JPG", b"jpeg")):
            index.put(f"{folder}{name}", near(0.9), digest=digest, taken_at=NOON)
    (hit,) = search(index, index.model, "a dog", limit=1).hits
    assert len(hit.copies) == 3
    assert {hit.path, *hit.copies} == {
        index.root / path for path in ("I.CR2", "I.JPG", "backup/I.CR2", "backup/I.JPG")
    }  # fmt: skip


@pytest.mark.parametrize(
    "order", ["copy jpeg heic", "heic copy jpeg", "copy heic jpeg", "heic jpeg copy", "jpeg copy heic"]
)
def test_a_renamed_copy_belongs_to_the_shot(index: Searched, order: str) -> None:
    files = {"jpeg": ("I.JPG", b"jpeg"), "copy": ("I (1).JPG", b"jpeg"), "heic": ("I.HEIC", b"heic")}
    for number, what in enumerate(order.split()):
        name, digest = files[what]
        index.put(name, near(0.9 - 0.01 * number), digest=digest, taken_at=NOON)
    hits = search(index, index.model, "a dog", limit=2).hits
    assert {hits[0].path.name, *(path.name for path in hits[0].copies)} == {name for name, _ in files.values()}
    assert hits[0].path.name in ("I.JPG", "I.HEIC")  # the shorter of two names
    assert hits[1].path.name == "0.jpg"


def test_copies_of_videos_and_texts(index: Searched) -> None:
    frames = [Part(np.zeros((1, 1, 3)), at_s=float(at)) for at in range(3)]
    lines = [Part(text=f"paragraph {at}", line=at + 1) for at in range(3)]
    for folder in ("a", "b"):
        index.put(
            f"{folder}/v.mp4", [near(0.6, 1), near(0.9, 2), near(0.7, 3)], kind="video", parts=frames, digest=b"v"
        )
        index.put(f"{folder}/t.txt", [near(0.6, 1), near(0.9, 2), near(0.8, 3)], kind="text", parts=lines, digest=b"t")
    video, _ = search(index, index.model, "a dog", limit=2).hits
    assert (video.path, video.at_s, video.copies) == (index.root / "a/v.mp4", 1.0, (index.root / "b/v.mp4",))
    texts = search(index, index.model, "a dog", modality="text").hits
    assert [(hit.line, hit.copies) for hit in texts] == [(line, (index.root / "b/t.txt",)) for line in (2, 3, 1)]


def test_a_score_is_a_cosine(index: Searched) -> None:
    """float16 rounding makes some stored vectors a little longer than 1."""
    long = np.asarray(DOG, np.float16) * np.float16(1.0005)
    assert float(np.float32(long) @ DOG) > 1
    index.put("same.jpg", long)
    index.put("opposite.jpg", -long)
    assert search(index, index.model, DOG, limit=1).hits[0].score == 1
    assert search(index, index.model, -DOG, limit=1).hits[0].score == 1
    assert search(index, index.model, DOG, limit=99).hits[-1].score == -1


# --- several indexes


def test_several_indexes_are_searched_as_one(tmp_path: Path) -> None:
    one, other = filled(tmp_path / "one"), Searched(tmp_path / "other", TableModel({"a dog": DOG}))
    other.put("best.jpg", near(0.9))
    other.put("worst.jpg", near(0.1))
    other.put("middle.jpg", near(0.495))
    other.put("copy.jpg", near(0.5), digest=one.catalog.items(one.catalog.matching("path = '0.jpg'"))[0].digest)
    found = search_all([one, other], "a dog", limit=4)
    assert [hit.path.relative_to(tmp_path).as_posix() for hit in found.hits] == [
        "other/best.jpg", "one/0.jpg", "other/middle.jpg", "one/1.jpg",
    ]  # fmt: skip
    assert found.searched == 14
    assert found.hits[1].copies == (tmp_path / "other/copy.jpg",)
    assert len(search_all([one, other], "a dog", limit=99).hits) == 13
    assert len(search_all([one, other], "a dog", limit=99, copies=True).hits) == 14
    apart = search_all([one, other], "a dog", limit=5, diverse=0.5)
    assert apart.hits[0].path.name == "best.jpg"
    assert search_all([one, other], "a dog", relevant=True).relevance_z is not None


def test_a_file_of_two_indexes_is_one_hit(tmp_path: Path) -> None:
    """An index within the folder of another."""
    outer, inner = filled(tmp_path), Searched(tmp_path / "inner", TableModel({"a dog": DOG}))
    for index, path in ((outer, "inner/a.jpg"), (inner, "a.jpg")):
        index.put(path, near(0.9), digest=b"a")
    for copies in (False, True):
        hits = search_all([outer, inner], "a dog", limit=3, copies=copies).hits
        assert [named(hit) for hit in hits] == [("a.jpg", []), ("0.jpg", []), ("1.jpg", [])]


def test_indexes_of_two_models_are_not_mixed(tmp_path: Path) -> None:
    one, other = filled(tmp_path / "one"), filled(tmp_path / "other")
    other.catalog.set_facts({"fingerprint": "b", "model": "siglip"})
    with pytest.raises(IndexModelError, match=r"one/\.diptych was made with the bundled model and .* with siglip"):
        search_all([one, other], "a dog")
    with pytest.raises(ArgumentError, match="indexes is empty"):
        search_all([], "a dog")
