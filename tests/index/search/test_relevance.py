"""`--relevant` with what a model's files say of its training: the words that it saw, the pictures that say how
near a text comes."""

from pathlib import Path

import numpy as np
import pytest

from diptych.index.search.query import Query
from diptych.index.search.relevance import BackgroundStatistics, reference_statistics, top_k_for
from diptych.scoring.reference_pictures import ReferencePictures
from diptych.text.known_words import KnownWords
from tests.search_fixtures import DIM, Searched, TableModel, noise, search, unit

DOG, AXIS = unit(np.eye(DIM)[0]), unit(np.eye(DIM)[1])


@pytest.fixture
def index(tmp_path: Path) -> Searched:
    """Pictures in all directions, five of them of dogs."""
    model = TableModel({"a dog": DOG, "dogs": DOG, "snow": AXIS, "dog.jpg": DOG})
    searched = Searched(tmp_path, model)
    for number, vector in enumerate([*noise(35), *unit(DOG + 0.3 * noise(5, seed=1))]):
        searched.put(f"{number}.jpg", vector)
    return searched


def test_models_that_do_not_say_what_they_saw_find_as_before(index: Searched) -> None:
    found = search(index, index.model, "a dog", relevant=True)
    assert found.unseen is None
    assert found.hits


def test_nothing_is_relevant_to_words_that_were_never_seen(index: Searched) -> None:
    index.model.known_words = KnownWords("dogs\nsnow\n")  # type: ignore[attr-defined]
    never = search(index, index.model, "a quantum theory", relevant=True, threshold=-100.0)
    assert never.hits == []
    assert never.unseen == (("quantum", "theory"), True)
    assert search(index, index.model, "a quantum theory").hits  # only said, where relevance is not asked for
    some = search(index, index.model, "a quantum dog", relevant=True, threshold=-100.0)
    assert some.unseen == (("quantum",), False)
    assert some.hits
    assert search(index, index.model, "a dog", relevant=True).unseen == ((), False)
    assert search(index, index.model, "in the", relevant=True, threshold=-100.0).hits  # no content word at all


def test_pictures_and_sums_are_no_guess(index: Searched) -> None:
    index.model.known_words = KnownWords("dog\nsnow\n")  # type: ignore[attr-defined]
    picture = Query.image("dog.jpg")
    assert search(index, index.model, picture, relevant=True).unseen is None
    both = search(index, index.model, picture + "quantum", relevant=True, threshold=-100.0)
    assert both.unseen == (("quantum",), False)
    assert both.hits
    minus = search(index, index.model, Query.text("dogs") - "quantum", relevant=True, threshold=-100.0)
    assert minus.unseen == (("quantum",), False)
    assert minus.hits


def test_more_is_expected_of_some_texts(index: Searched) -> None:
    """The same hits are not relevant where texts like this one come as near to most pictures. Queries with pictures are
    left alone."""
    plain = search(index, index.model, "a dog", relevant=True).relevance_z
    picture = search(index, index.model, Query.image("dog.jpg"), relevant=True).relevance_z
    dogs = unit(DOG + 0.3 * noise(300, seed=2))
    index.model.reference_pictures = ReferencePictures.of(dogs, -0.7)  # type: ignore[attr-defined]
    more = search(index, index.model, "a dog", relevant=True)
    assert plain is not None
    assert more.relevance_z is not None
    assert more.relevance_z < plain - 1
    assert (more.hits, more.threshold) == ([], -0.7)
    assert search(index, index.model, "snow", relevant=True).threshold == -0.7
    assert search(index, index.model, "snow", relevant=True, threshold=-2.5).threshold == -2.5
    assert search(index, index.model, Query.image("dog.jpg"), relevant=True).relevance_z == picture


def test_the_mean_of_the_best_is_compared_in_deviations() -> None:
    assert BackgroundStatistics(0.5, 0.25, 2, -1.0).relevance_z(np.array([0.9, 0.8, 0.1])) == pytest.approx(1.4)


@pytest.mark.parametrize("size", [20, 200, 1000])
def test_what_is_expected_follows_the_size_of_the_index(size: int) -> None:
    """Among pictures of the same kind as the reference pictures, texts find what is expected of them."""
    pictures, texts = noise(3000, seed=4), noise(300, seed=5)
    reference, sentences, found = ReferencePictures.of(pictures[1000:], -1.0), noise(64, seed=6), []
    drawn = np.random.default_rng(7)
    for text in texts:
        expected = reference_statistics(reference, text, size, sentences)
        assert expected.top_k == top_k_for(size, 100, 10)
        found.append(expected.relevance_z(np.sort(pictures[drawn.choice(1000, size, replace=False)] @ text)[::-1]))
    assert abs(np.mean(found)) < 0.1


def test_a_part_of_a_small_index_is_averaged() -> None:
    assert [top_k_for(size, 100, 10) for size in (5, 40, 240, 2000)] == [1, 4, 24, 100]
    assert [top_k_for(size) for size in (10, 40, 200, 1000)] == [1, 2, 10, 10]
