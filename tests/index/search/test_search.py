"""Searching an index with given vectors."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_fixtures import DIM, Searched, TableModel, noise, search, unit

from diptych.index.filters.filters import Filters
from diptych.index.search.query import Query
from diptych.index.search.relevance import (
    BACKGROUND_SENTENCES,
    BackgroundStatistics,
    background_statistics,
    sentence_vectors,
    top_k_for,
)
from diptych.index.search.results import SearchResult
from diptych.index.search.search import search_all
from diptych.index.stores.local import LocalSelection
from diptych.media.items import Part


def leaning(towards: np.ndarray, cosine: float, seed: int) -> np.ndarray:
    """A unit vector with exactly this cosine to another."""
    away = noise(1, seed)[0]
    away = unit(away - (away @ towards) * towards)
    return cosine * towards + np.sqrt(1 - cosine**2) * away


DOG, SNOW = unit(np.eye(DIM)[0]), unit(np.eye(DIM)[1])


@pytest.fixture
def index(tmp_path: Path) -> Searched:
    """Thirty unrelated pictures, three dogs that match better and better, and a video whose third frame matches."""
    index = Searched(tmp_path, TableModel({"a dog": DOG, "snow": SNOW, "dog.jpg": DOG}))
    for number in range(30):
        index.put(f"other-{number}.jpg", leaning(DOG, 0.05, number), width=40, height=30)
    for number, cosine in enumerate((0.5, 0.6, 0.7)):
        index.put(
            f"dogs/{number}.jpg", leaning(DOG, cosine, 90), width=30, height=40, taken_at=f"2024-0{number + 1}-01"
        )
    frames = [leaning(DOG, cosine, seed) for seed, cosine in enumerate((0.1, 0.62, 0.65, 0.61))]
    index.put("clip.mp4", frames, kind="video", parts=[Part(np.zeros((1, 1, 3)), at_s=2.5 * at) for at in range(4)])
    return index


def test_hits_are_ranked_and_have_all_metadata(index: Searched) -> None:
    found = search(index, index.model, "a dog", limit=3)
    assert [hit.path for hit in found.hits] == [index.root / name for name in ("dogs/2.jpg", "clip.mp4", "dogs/1.jpg")]
    assert [hit.score for hit in found.hits] == pytest.approx([0.7, 0.65, 0.6], abs=2e-3)
    first, video, _ = found.hits
    assert (first.width, first.height, first.taken_at, first.at_s) == (30, 40, "2024-03-01", None)
    assert (video.kind, video.at_s) == ("video", 5.0)
    assert found.searched == 37
    cosines = index.nearest("picture").stored @ DOG
    assert first.z == pytest.approx((first.score - cosines.mean()) / cosines.std(), rel=1e-3)


def test_a_query_may_be_anything(index: Searched) -> None:
    expected = search(index, index.model, "a dog").hits
    assert search(index, index.model, Query.image("dog.jpg")).hits == expected
    assert search(index, index.model, DOG).hits == expected
    assert search(index, index.model, Query.text("a dog") - 0.1 * Query.text("snow")).hits != expected


def test_a_video_is_one_hit_however_many_frames_match(index: Searched) -> None:
    frames = [leaning(DOG, 0.8, seed) for seed in range(60)]
    index.put("long.mp4", frames, kind="video", parts=[Part(np.zeros((1, 1, 3)), at_s=float(at)) for at in range(60)])
    found = search(index, index.model, "a dog", limit=4)
    assert [hit.path.name for hit in found.hits] == ["long.mp4", "2.jpg", "clip.mp4", "1.jpg"]


def test_filters_exclude_items_from_hits_and_count(index: Searched) -> None:
    found = search(index, index.model, "a dog", filters=Filters(until="2024-02"))
    assert [hit.path.name for hit in found.hits] == ["1.jpg", "0.jpg"]
    assert found.searched == 2
    assert search(index, index.model, "a dog", filters=Filters(path="nowhere/*")) == SearchResult([], 0)


def test_a_limit_above_the_number_of_items(index: Searched) -> None:
    assert len(search(index, index.model, "a dog", limit=1000).hits) == 34


def test_texts_rank_beside_pictures_by_z(index: Searched) -> None:
    """Every text has a higher cosine than the best picture, but only one text has a high z."""
    lines = [leaning(DOG, 0.8 + 0.004 * (number % 5), number) for number in range(20)] + [leaning(DOG, 0.95, 99)]
    parts = [Part(text=f"paragraph {number}", line=3 * number + 1) for number in range(21)]
    index.put("notes.txt", lines, kind="text", parts=parts)
    assert {hit.kind for hit in search(index, index.model, "a dog", limit=30).hits} == {"picture", "video"}
    texts = search(index, index.model, "a dog", limit=2, modality="text").hits
    assert (texts[0].text, texts[0].line, texts[0].modality) == ("paragraph 20", 61, "text")
    assert [hit.path.name for hit in texts] == ["notes.txt"] * 2
    both = search(index, index.model, "a dog", limit=5, modality="both")
    assert both.searched == 37 + 21
    assert [hit.modality for hit in both.hits] == ["text", "picture", "picture", "picture", "picture"]
    heights = [hit.z for hit in both.hits if hit.z is not None]
    assert heights == sorted(heights, reverse=True)


def test_diverse_hits_are_not_three_of_a_kind(index: Searched) -> None:
    for number in range(3):
        index.put(f"burst-{number}.jpg", leaning(DOG, 0.9 - 0.001 * number, 7))
    assert sum("burst" in hit.path.name for hit in search(index, index.model, "a dog", limit=3).hits) == 3
    diverse = search(index, index.model, "a dog", limit=3, diverse=0.7).hits
    assert diverse[0].path.name == "burst-0.jpg"
    assert sum("burst" in hit.path.name for hit in diverse) == 1


def test_relevant_keeps_relevant_hits_and_may_keep_none(index: Searched) -> None:
    found = search(index, index.model, "a dog", relevant=True)
    assert found.relevance_z is not None
    assert found.threshold is not None
    assert found.relevance_z > found.threshold
    assert [hit.path.name for hit in found.hits[:2]] == ["2.jpg", "clip.mp4"]
    absent = unit(-index.nearest("picture").stored.mean(axis=0))  # as far from all of them as can be
    nothing = search(index, index.model, absent, relevant=True)
    assert nothing.hits == []
    assert nothing.relevance_z is not None
    assert nothing.threshold is not None
    assert nothing.relevance_z < nothing.threshold
    lower = search(index, index.model, absent, relevant=True, threshold=nothing.relevance_z - 1)
    assert (bool(lower.hits), lower.relevance_z) == (True, nothing.relevance_z)
    higher = search(index, index.model, "a dog", relevant=True, threshold=found.relevance_z + 1)
    assert (higher.hits, higher.threshold) == ([], found.relevance_z + 1)


def test_few_items_are_always_relevant(index: Searched) -> None:
    """With one picture the standard deviation is 0, so a z-score would be meaningless."""
    only = search(index, index.model, "a dog", filters=Filters(path="2.jpg"))
    assert only.searched == 1
    found = search(index, index.model, "a dog", filters=Filters(path="2.jpg"), relevant=True)
    assert found == only


def test_background_sentences_are_embedded_once(index: Searched) -> None:
    search(index, index.model, "a dog", relevant=True)
    asked = index.model.asked
    search(index, index.model, "a dog", relevant=True)
    assert index.model.asked == asked + 1
    (kept,) = index.index_dir.glob("background-*.npy")
    kept.write_bytes(kept.read_bytes()[:100])  # damaged: made again
    again = sentence_vectors(index.model, index.index_dir, "a")
    assert again == pytest.approx(index.model.embed_texts(BACKGROUND_SENTENCES))
    assert len(np.load(kept)) == len(BACKGROUND_SENTENCES)
    sentence_vectors(index.model, index.index_dir / "gone", "a")  # not writable: still an answer
    assert len({*BACKGROUND_SENTENCES}) == len(BACKGROUND_SENTENCES) == 64


def test_background_pictures_do_not_find_themselves(index: Searched) -> None:
    """The background of a picture query: the cosines of each picture with the others."""
    nearest = index.nearest("picture")
    found = background_statistics(Query.image("dog.jpg"), nearest.sample(64), LocalSelection(nearest), noise(64, 3))
    ids, vectors = nearest.sample(64)
    likeness = vectors @ nearest.stored.T
    likeness[np.arange(len(ids)), [nearest.ids.tolist().index(one) for one in ids]] = -1
    best = np.sort(likeness, axis=1)[:, ::-1][:, : top_k_for(len(nearest))].mean(axis=1)
    best = best[np.arange(64) % len(ids)]
    assert (found.mean, found.std) == pytest.approx((best.mean(), best.std()), abs=1e-4)


@pytest.mark.parametrize("count", [10, 37])
def test_substitutes_that_cancel_out_are_left_out(tmp_path: Path, count: int) -> None:
    """The substitutes for both pictures of a difference may be the same item, or copies."""
    index = Searched(tmp_path, TableModel({"dog.jpg": DOG, "snow.jpg": SNOW}))
    for number in range(count):
        index.put(f"{number}.jpg", leaning(DOG, 0.05, number))
    found = search(index, index.model, Query.image("dog.jpg") - Query.image("snow.jpg"), relevant=True)
    assert found.relevance_z is not None
    assert np.isfinite(found.relevance_z)


def test_searched_and_exhaustive_statistics_agree(index: Searched, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without a filter."""
    nearest, query = index.nearest("picture"), Query.image("dog.jpg") - Query.text("snow")
    for allowed_ids in (None, nearest.ids[::2]):
        monkeypatch.setattr("diptych.index.stores.local._BLOCK", 7)
        at_once = background_statistics(query, nearest.sample(64), LocalSelection(nearest, allowed_ids), noise(64, 3))
        with monkeypatch.context() as context:
            context.setattr("diptych.index.stores.local.MAX_EXHAUSTIVE_ITEMS", 0)
            other = background_statistics(query, nearest.sample(64), LocalSelection(nearest, allowed_ids), noise(64, 3))
        assert other == pytest.approx(at_once, abs=1e-5)


def test_items_that_the_cache_does_not_have_yet(index: Searched, monkeypatch: pytest.MonkeyPatch) -> None:
    """As while another process updates the index: they are counted but not found, and there is no relevance z-score."""
    before = index.nearest("picture")
    index.put("new.jpg", DOG)
    monkeypatch.setattr(index, "nearest", lambda modality: before)
    found = search(index, index.model, "a dog", filters=Filters(path="new.jpg"), relevant=True)
    assert found == SearchResult([], 1)


def test_how_many_hits_are_averaged() -> None:
    assert [top_k_for(size) for size in (0, 1, 19, 40, 200, 10**6)] == [1, 1, 1, 2, 10, 10]
    assert BackgroundStatistics(0.2, 0.1, 2, 0).relevance_z(np.array([0.5, 0.3, 0.1])) == pytest.approx(2)
    assert BackgroundStatistics(0.2, 0.1, 2, 0).relevance_z(np.empty(0)) == -np.inf


@given(st.integers(-5, 0), st.floats(-3, 3))
def test_bad_numbers_are_named(limit: int, diverse: float) -> None:
    with pytest.raises(ValueError, match=f"limit is {limit}; wanted a whole number, 1 or more"):
        search_all([], "a dog", limit=limit)
    if not 0 <= diverse <= 1:
        with pytest.raises(ValueError, match="diverse is"):
            search_all([], "a dog", diverse=diverse)


def test_an_empty_index(tmp_path: Path) -> None:
    index = Searched(tmp_path, TableModel())
    assert search(index, index.model, "a dog", modality="both", relevant=True) == SearchResult([], 0)
    index.put("one.jpg", DOG)
    (hit,) = (
        search(index, index.model, "a dog", relevant=True, modality="both").hits
        or search(index, index.model, "a dog").hits
    )
    assert hit.z is None
