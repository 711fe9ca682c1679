"""Expressions say what filters say, or let more pass, and no text in them ends early."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.index.filters.filters import Filters
from diptych.index.filters.geography import GeoBox, GeoCircle
from diptych.index.stores.milvus.expressions import Expression, expression_of, ids_in, literal

NASTY = ("\"", "'", "\\", "\\\\\"", "%", "_", "a\nb", "\r", "\t", "{x}", "}{", "\u2028", "ü", "\U0001f600", "\x01", "",
         '" or id > 0 or path == "', "trailing\\")  # fmt: skip


def read_back(text: str) -> list[Any]:
    """The tokens of Milvus Lite's own parser."""
    tokens = pytest.importorskip("milvus_lite.search.filter.tokens")
    return tokens.tokenize(text)


@pytest.mark.parametrize("text", NASTY)
def test_a_text_is_one_token(text: str) -> None:
    token, end = read_back(literal(text))
    assert (token.kind.name, token.value, end.kind.name) == ("STRING", text, "EOF")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_one_token(text: str) -> None:
    token, end = read_back(literal(text))
    assert (token.value, end.kind.name) == (text, "EOF")


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_lists_have_as_many_texts_as_were_given(texts: list[str]) -> None:
    found = [token.value for token in read_back(literal(texts)) if token.kind.name == "STRING"]
    assert found == texts


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(1 << 63), (1 << 63) - 1))
def test_numbers_come_back(number: float) -> None:
    *sign, token, end = read_back(literal(number))
    assert token.value == abs(number)
    assert [one.text for one in sign] == (["-"] if str(number).startswith("-") else [])
    assert end.kind.name == "EOF"


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), b"bytes", {"a": 1}])
def test_what_is_no_value_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="wanted"):
        literal(value)


def test_values_are_put_where_they_are_named_and_nowhere_else() -> None:
    both = Expression("path == {a}", {"a": "{b} {a}"}) & Expression("kind == {b}", {"b": "{a}"})
    assert both.text == '(path == "{b} {a}") and (kind == "{a}")'
    assert both.arguments(True) == {"filter": "(path == {a}) and (kind == {b})", "filter_params": both.values}
    assert both.arguments(False) == {"filter": both.text}
    assert (Expression() & ids_in([3, 4])).text == "id in [3, 4]"
    assert Expression().arguments(True) == {"filter": ""}


FILTERS = [
    Filters(since="2024-05", until="2024"), Filters(since="2020", file_dates=True), Filters(until="2020-02-29T12"),
    Filters(box=GeoBox(-1, 170, 2, -170)), Filters(near=GeoCircle(89, 0, 2000)), Filters(camera='Canon "x" \\ %'),
    Filters(camera="%"), Filters(subfolder="a'b\"c\\d", path="*.JPG"), Filters(path="x/**"), Filters(path="[a]*"),
    Filters(min_width=2.5, min_height=0, min_megapixels=1.5, orientation="portrait", kind="video"),
    Filters(subfolder="a/\udcff/b"), Filters(subfolder="\udcff"), Filters(path="e\u0301/*.png"),
]  # fmt: skip


@pytest.mark.parametrize("filters", FILTERS, ids=repr)
@pytest.mark.parametrize("has_infix", [False, True])
def test_all_texts_of_an_expression_are_values(filters: Filters, has_infix: bool) -> None:
    found = expression_of(filters, updated_at="2024-01-01T00:00:00", has_infix=has_infix)
    assert "'" not in found.template
    assert '"' not in found.template
    assert "\udcff" not in found.text
    given = [value for value in dataclasses.asdict(filters).values() if isinstance(value, str) and value]
    assert not any(value in found.template for value in given)


@pytest.mark.parametrize(
    ("filters", "is_exact"),
    [(Filters(), True), (Filters(path="*.jpg"), True), (Filters(path="a/**"), True), (Filters(path="a*"), False),
     (Filters(camera="x"), False), (Filters(near=GeoCircle(0, 0, 1)), False), (Filters(since="2020"), True),
     (Filters(since="2020", file_dates=True), False), (Filters(subfolder="\udcff"), False)],
    ids=repr,
)  # fmt: skip
def test_an_expression_knows_whether_it_says_all(filters: Filters, is_exact: bool) -> None:
    assert expression_of(filters).is_exact is is_exact


@pytest.mark.parametrize(
    "filters",
    [
        Filters(min_width=1 << 70),
        Filters(min_height=10**300),
        Filters(min_megapixels=1e300),
        Filters(since="9999-12-31", file_dates=True),
        Filters(until="0001", file_dates=True),
    ],
)
def test_numbers_fit_into_64_bits_in_every_store(filters: Filters) -> None:
    numbers = [value for value in expression_of(filters).values.values() if isinstance(value, int)]
    numbers += [value for value in filters.condition()[1] if isinstance(value, int)]
    assert numbers
    assert all(-(1 << 63) <= number < 1 << 63 for number in numbers)
