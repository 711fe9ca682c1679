"""Queries: terms of any kind are added up to one unit vector."""

from pathlib import Path

import numpy as np
import pytest
from drawn_files import BLUE, RED, dng, encoded, left_and_right
from hypothesis import given
from hypothesis import strategies as st
from search_fixtures import DIM, TableModel, noise, unit

import diptych
from diptych.errors import QueryError
from diptych.index.search.query import Query, Term

MODEL = TableModel({"a dog": noise(1, 1)[0], "snow": noise(1, 2)[0], "a.jpg": noise(1, 3)[0]})


def test_terms_add_up_by_weight() -> None:
    query = Query.text("a dog") + 0.5 * Query.image("a.jpg") - Query.text("snow") / 4
    expected = MODEL.known["a dog"] + 0.5 * MODEL.known["a.jpg"] - 0.25 * MODEL.known["snow"]
    assert query.embed(MODEL) == pytest.approx(unit(expected), abs=1e-6)
    assert repr(query) == "Query.text('a dog') + 0.5 * Query.image('a.jpg') - 0.25 * Query.text('snow')"
    assert eval(repr(query), {"Query": diptych.Query}).terms == query.terms


def test_signs_and_weights_go_through_sums() -> None:
    query = -(2 * (Query.text("a dog") - 3 * Query.text("snow")))
    assert [term.weight for term in query.terms] == [-2, 6]
    assert repr(query) == "-2 * Query.text('a dog') + 6 * Query.text('snow')"


@given(st.lists(st.floats(-4, 4).filter(lambda weight: abs(weight) > 0.05), min_size=1, max_size=5), st.integers(0, 99))
def test_every_query_is_a_unit_vector_and_only_proportions_count(weights: list[float], seed: int) -> None:
    vectors = noise(len(weights), seed)
    query = Query(tuple(Term("vector", vector, weight) for vector, weight in zip(vectors, weights, strict=True)))
    made = query.embed(MODEL)
    assert np.linalg.norm(made) == pytest.approx(1, abs=1e-5)
    assert (3 * query).embed(MODEL) == pytest.approx(made, abs=1e-5)
    assert (-query).embed(MODEL) == pytest.approx(-made, abs=1e-5)


def test_a_raw_file_is_embedded_by_its_preview(tmp_path: Path, tiny_model: Path) -> None:
    model, preview = diptych.load(tiny_model), encoded(left_and_right(RED, BLUE, 640, 480), quality=95)
    path = tmp_path / "a.DNG"
    path.write_bytes(dng(preview))
    cosine = Query.image(path).embed(model) @ Query.image(preview).embed(model)
    assert cosine == pytest.approx(1, abs=1e-3)


def test_a_vector_of_any_length() -> None:
    vector = noise(1)[0]
    for factor in (7, 1e38, 1e-38, 1e300):  # beyond float32, whose squares overflow already at 1e20
        scaled = vector.astype(np.float64) * factor
        assert Query.vector(scaled).embed(MODEL) == pytest.approx(vector, abs=1e-6)
    assert Query.vector(np.full(DIM, 1e38, np.float32)).embed(MODEL) == pytest.approx(DIM**-0.5)
    assert Query.of(vector.astype(np.float64)).terms[0].kind == "vector"
    assert Query.of("a dog").terms[0].kind == "text"
    assert Query.of(np.zeros((4, 4, 3), np.uint8)).terms[0].kind == "picture"
    assert repr(Query.of(b"123")) == "Query.image(<bytes>)"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (Query.text("a dog") - Query.text("a dog"), "terms cancel out"),
        (Query.text("a dog") - (1 + 1e-6) * Query.text("a dog"), "terms cancel out"),
        (Query(()), "no terms"),
        (Query.text("a dog") * 0, "a weight is 0"),
        (Query.text("a dog") * float("nan"), "a weight is nan"),
        (Query.vector(np.zeros(DIM)), "has the length 0; wanted finite"),
        (Query.vector(np.full(DIM, np.inf)), "has the length inf; wanted finite"),
        (Query.vector(np.ones(3)), r"\(3,\); this index has vectors of shape \(16,\)"),
    ],
)
def test_invalid_queries_are_refused(query: Query, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        query.embed(MODEL)


def test_a_text_is_no_number() -> None:
    with pytest.raises(TypeError):
        Query.text("a") * "b"  # type: ignore[operator]
    with pytest.raises(TypeError):
        Query.text("a") + 3  # type: ignore[operator]
