"""`--relevant` with what a model's files say of its training: the words that it saw, the cosine to expect of a text."""

from pathlib import Path

import numpy as np
import pytest

from diptych.index.search.query import Query
from diptych.index.search.search import search
from diptych.scoring.expected_cosine import ExpectedCosine
from diptych.text.known_words import KnownWords
from tests.search_fixtures import DIM, Searched, TableModel, noise, unit

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
    """The same hits are not relevant where texts like this one come as near to any pictures. Queries with pictures are
    left alone."""
    plain = search(index, index.model, "a dog", relevant=True).relevance_z
    picture = search(index, index.model, Query.image("dog.jpg"), relevant=True).relevance_z
    index.model.expected_cosine = ExpectedCosine(DOG, 0.0, -0.7)  # type: ignore[attr-defined]
    more = search(index, index.model, "a dog", relevant=True)
    assert plain is not None
    assert more.relevance_z is not None
    assert more.relevance_z < plain - 1
    assert (more.hits, more.threshold) == ([], -0.7)
    assert search(index, index.model, "snow", relevant=True).threshold == -0.7
    assert search(index, index.model, Query.image("dog.jpg"), relevant=True).relevance_z == picture


def test_a_constant_expectation_changes_nothing(index: Searched) -> None:
    plain = search(index, index.model, "a dog", relevant=True)
    index.model.expected_cosine = ExpectedCosine(np.zeros(DIM, np.float32), 0.3, -0.33)  # type: ignore[attr-defined]
    same = search(index, index.model, "a dog", relevant=True)
    assert same.relevance_z == pytest.approx(plain.relevance_z)
    assert same.hits == plain.hits
