"""Terms of several kinds count alike: their weights are in units of the spread of their cosines."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from search_fixtures import DIM, Searched, TableModel, noise, search, unit

from diptych.index.search.query import Query
from diptych.index.search.sampling import standardised_in
from diptych.index.search.search import search_all
from diptych.media.items import Part
from diptych.scoring.reference_pictures import ReferencePictures

WORDS, MORE_WORDS, PICTURE, OTHER = np.eye(DIM, dtype=np.float32)[:4]


def spread(*pairs: tuple[np.ndarray, float], count: int = 40) -> np.ndarray:
    """Unit vectors whose cosines with each of these vectors are this number and its negative, half of them each, and
    that are uncorrelated."""
    signs = [1 - 2 * (np.arange(count) // 2**place % 2) for place in range(len(pairs))]
    vectors = sum(np.outer(sign, cosine * vector) for sign, (vector, cosine) in zip(signs, pairs, strict=True))
    rest = np.sqrt(1 - sum(cosine**2 for _, cosine in pairs))
    return vectors + rest * np.eye(DIM, dtype=np.float32)[-1]


def model(**more: Any) -> TableModel:
    made = TableModel({"red": WORDS, "big": MORE_WORDS, "a.jpg": PICTURE, "b.jpg": unit(PICTURE + OTHER)})
    for name, value in more.items():
        setattr(made, name, value)
    return made


def standardised(query: Query, sample: np.ndarray) -> Query:
    return query.standardised(query.term_vectors(model()), sample)


def test_a_weight_is_divided_by_the_spread_of_its_kind() -> None:
    sample, query = spread((WORDS, 0.1), (PICTURE, 0.4)), Query.text("red") + 3 * Query.image("a.jpg")
    made = standardised(query, sample)
    assert [term.weight for term in made.terms] == pytest.approx([1, 3 * 0.1 / 0.4])
    contributions = sample @ (np.array([[1], [0.75]]) * query.term_vectors(model())).T
    assert contributions.std(axis=0) == pytest.approx([0.1, 0.3], abs=1e-6)  # as 1 to 3
    assert made.combined(query.term_vectors(model())) == pytest.approx(unit(WORDS + 0.75 * PICTURE), abs=1e-6)
    turned = standardised(Query.image("a.jpg") - 0.5 * Query.text("red"), sample)
    assert [term.weight for term in turned.terms] == pytest.approx([1, -0.5 * 0.4 / 0.1])


def test_terms_of_one_kind_keep_their_proportions() -> None:
    """The spread of a kind is the root mean square of those of its terms: that of .1 and .7 is .5."""
    sample = spread((WORDS, 0.1), (MORE_WORDS, 0.7), (PICTURE, 0.2))
    made = standardised(Query.text("red") + 2 * Query.text("big") + Query.image("a.jpg"), sample)
    assert [term.weight for term in made.terms] == pytest.approx([1, 2, 0.5 / 0.2])


@pytest.mark.parametrize("query", [Query.text("red") - 0.5 * Query.text("big"), Query.image("a.jpg"), Query.of("red")])
def test_a_query_of_one_kind_stays_as_it_is(query: Query) -> None:
    assert standardised(query, spread((WORDS, 0.1), (PICTURE, 0.4))) is query
    library = spread((WORDS, 0.1), (PICTURE, 0.4))
    with_reference = model(reference_pictures=ReferencePictures.of(library, 0.0))
    assert query.embed(with_reference).tobytes() == query.embed(model()).tobytes()


def test_copies_of_a_term_do_not_widen_its_spread() -> None:
    sample = spread((WORDS, 0.1), (PICTURE, 0.4))
    copies = unit(PICTURE + 0.1 * noise(8))
    query = Query.text("red") + Query.image("a.jpg")
    made = standardised(query, np.concatenate([copies, sample]))
    assert [term.weight for term in made.terms] == pytest.approx([1, 0.25])


@pytest.mark.parametrize(
    "sample",
    [
        pytest.param(np.empty((0, DIM), np.float32), id="nothing"),
        pytest.param(spread((WORDS, 0.1), (PICTURE, 0.4), count=8), id="eight items"),
        pytest.param(np.repeat(unit(WORDS + OTHER)[None], 40, axis=0), id="items that are all alike"),
        pytest.param(np.repeat(PICTURE[None], 40, axis=0), id="copies alone"),
    ],
)
def test_without_a_spread_weights_stay(sample: np.ndarray) -> None:
    query = Query.text("red") + Query.image("a.jpg")
    assert standardised(query, sample) is query


def test_without_a_library_the_reference_pictures_decide() -> None:
    query, library = Query.text("red") + Query.image("a.jpg"), spread((WORDS, 0.1), (PICTURE, 0.4))
    assert query.embed(model()) == pytest.approx(unit(WORDS + PICTURE), abs=1e-6)
    with_reference = model(reference_pictures=ReferencePictures.of(library, 0.0))
    assert query.embed(with_reference) == pytest.approx(unit(WORDS + 0.25 * PICTURE), abs=2e-3)  # 8 bits


def made_index(folder: Path, vectors: np.ndarray, **more: Any) -> Searched:
    folder.mkdir()
    index = Searched(folder, model(**more))
    for number, vector in enumerate(vectors):
        index.put(f"{number}.jpg", vector)
    return index


def test_the_words_count_in_a_search(tmp_path: Path) -> None:
    """Half of the pictures have what the words say, half are like the picture, a quarter both."""
    library = spread((WORDS, 0.1), (PICTURE, 0.4))
    index = made_index(tmp_path / "a", library)
    found = search(index, index.model, Query.text("red") + 0.5 * Query.image("a.jpg"), limit=40)
    fits = np.array([[library[int(hit.path.stem)] @ each > 0 for each in (WORDS, PICTURE)] for hit in found.hits])
    assert fits.tolist() == 10 * [[True, True]] + 10 * [[True, False]] + 10 * [[False, True]] + 10 * [[False, False]]
    expected = unit(WORDS + 0.125 * PICTURE) @ library[0]
    assert found.hits[0].score == pytest.approx(expected, abs=1e-3)  # a cosine still


def test_small_libraries_use_the_reference_pictures(tmp_path: Path) -> None:
    query, reference = Query.text("red") + Query.image("a.jpg"), spread((WORDS, 0.1), (PICTURE, 0.2))
    terms = query.term_vectors(model())
    weights = {}
    for count in (4, 24, 64):
        index = made_index(tmp_path / str(count), spread((WORDS, 0.1), (PICTURE, 0.4), count=count))
        for name, model_used in (
            ("plain", model()),
            ("reference", model(reference_pictures=ReferencePictures.of(reference, 0.0))),
        ):
            made = standardised_in([index.store], "picture", query, terms, model_used)
            weights[count, name] = round(made.terms[1].weight, 2)
    assert weights == {
        (4, "plain"): 1, (24, "plain"): 0.25, (64, "plain"): 0.25,
        (4, "reference"): 0.5, (24, "reference"): 0.5, (64, "reference"): 0.25,
    }  # fmt: skip


def test_several_indexes_are_searched_with_one_vector(tmp_path: Path) -> None:
    """The spread is that of both: of .1 and .7 the root mean square is .5."""
    indexes = [
        made_index(tmp_path / name, spread((WORDS, 0.1), (PICTURE, cosine)))
        for name, cosine in (("a", 0.1), ("b", 0.7))
    ]
    found = search_all(indexes, Query.text("red") + Query.image("a.jpg"), limit=80)
    vector = unit(WORDS + 0.2 * PICTURE)
    assert found.hits[0].score == pytest.approx(0.1 * vector @ WORDS + 0.7 * vector @ PICTURE, abs=1e-3)


def test_texts_and_pictures_of_an_index_have_spreads_of_their_own(tmp_path: Path) -> None:
    index = made_index(tmp_path / "a", spread((WORDS, 0.1), (PICTURE, 0.4)))
    for number, vector in enumerate(spread((WORDS, 0.6), (PICTURE, 0.3))):
        index.put(f"{number}.txt", vector, kind="text", parts=[Part(text="a note", line=1)])
    query = Query.text("red") + Query.image("a.jpg")
    pictures, texts = (search(index, index.model, query, modality=one, limit=1).hits[0] for one in ("picture", "text"))
    assert pictures.score == pytest.approx(unit(WORDS + 0.25 * PICTURE) @ (0.1 * WORDS + 0.4 * PICTURE), abs=1e-3)
    assert texts.score == pytest.approx(unit(WORDS + 2 * PICTURE) @ (0.6 * WORDS + 0.3 * PICTURE), abs=1e-3)
    both = search(index, index.model, query, modality="both", limit=80).hits
    assert {hit.score for hit in both} >= {pictures.score, texts.score}
    assert search(made_index(tmp_path / "b", np.empty((0, DIM))), index.model, query).hits == []
