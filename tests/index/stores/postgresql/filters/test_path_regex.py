"""The server's regular expression of a pattern matches the paths that Python's does."""

import os
from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from diptych.errors import PatternError
from diptych.index.stores.postgresql.filters.path_regex import path_regex
from diptych.index.stores.postgresql.texts import escaped
from diptych.media.scanning.path_patterns import fits, within
from tests.postgresql import server

LETTERS = "aAbkKsSiIzéÉßẞǅΣςσıİſK-^]![~&|.*?/\\ {}()+$%'\"\n_0\u0301\udcff"
PIECES = st.one_of(
    st.sampled_from(LETTERS),
    st.sampled_from(
        ("*", "**", "**/", "/", ".", "?", "[a-k]", "[!a-k]", "[]]", "[^]a]", "[--a]", "[a-]", "[K-z]", "[.-0]", "[é-ž]",
         "\\[", "\\*")
    ),
)  # fmt: skip
PATTERNS = st.lists(PIECES, max_size=8).map("".join)
PATHS = st.text(st.sampled_from(LETTERS + "//..ab"), min_size=1, max_size=8).map(lambda text: text.replace("\0", "a"))


@pytest.fixture(scope="module")
def connection() -> Iterator[psycopg.Connection]:
    with psycopg.connect(server().address(), autocommit=True, client_encoding="UTF8") as connection:
        yield connection


def matched(connection: psycopg.Connection, pattern: str, paths: list[str]) -> list[bool]:
    rows = "unnest(%s::text[]) WITH ORDINALITY AS p(path, n)"
    statement = f'SELECT (normalize(path, NFC) COLLATE "C") ~ %s FROM {rows} ORDER BY n'
    stored = [escaped(path) for path in paths]
    return [row[0] for row in connection.execute(statement, [path_regex(escaped(pattern)), stored])]


@settings(max_examples=300)
@given(pattern=PATTERNS, paths=st.lists(PATHS, min_size=1, max_size=12))
@example(pattern="*.JPG", paths=["a.jpg", "a.Jpg", "a.jpeg", "b/c.JPG", ".jpg"])
@example(pattern="a*.s[i-k]", paths=["a.sk", "aa.ſK", "a.SK", "b.sk", "a.sı", "a.Sİ"])
@example(pattern="a/**/b?.tif", paths=["a/b1.tif", "a/x/y/b2.TIF", "a/b.tif", "ab1.tif"])
@example(pattern="drafts/", paths=["drafts/a", "x/drafts/b", "drafts", "mydrafts/a"])
@example(pattern="e\u0301*", paths=["\u00e9t\u00e9", "e\u0301", "e"])
@example(pattern="?", paths=["\udcff", "\udcff\udcfe", "e\u0301"])
@example(pattern="[!\\]a]x", paths=["]x", "\\x", "bx", "/x"])
def test_both_match_the_same_paths(connection: psycopg.Connection, pattern: str, paths: list[str]) -> None:
    try:
        within(pattern)
    except PatternError:
        with pytest.raises(PatternError):
            path_regex(pattern)
        return
    expected = [fits(os.fsencode(path), 0, os.fsencode(pattern)) for path in paths]
    assert matched(connection, pattern, paths) == expected


@pytest.mark.parametrize("pattern", ["*a" * 400, "**/a/" * 150 + "b", "[a-z]" * 190 + ".[a-z]"])
def test_the_longest_patterns_are_understood(connection: psycopg.Connection, pattern: str) -> None:
    assert matched(connection, pattern, ["b/a", "a" * 400]) == [
        fits(os.fsencode(path), 0, os.fsencode(pattern)) for path in ("b/a", "a" * 400)
    ]
