"""JSON of strangers: what is JSON is read as Python's reader has it, and nothing else ends a program."""

import ast
import contextlib
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.errors import JSONError
from diptych.untrusted import json as untrusted_json
from diptych.untrusted.json import MAX_DEPTH, parse_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_json_comes_back(value: object) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")) == value


@given(st.binary(max_size=300) | st.text('[]{}",:\\0', max_size=300))
def test_anything_else_is_a_json_error(content: bytes | str) -> None:
    with contextlib.suppress(JSONError):
        parse_json(content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[" * 100_000, "nested deeper than 64 levels"),
        ("[" * 100_000 + "]" * 100_000, "nested deeper than 64 levels"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested deeper than 64 levels"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nested deeper than 64 levels"),
        ("9" * 5000, "4300 digits"),
        (b"\xff\xfe", "codec can't decode"),
        ("[1, 2", "Expecting"),
        ('"' + '\\"' * 200_000, "Unterminated string"),
    ],
    ids=["open", "lists", "objects", "a-level-too-deep", "digits", "no-text", "cut", "unterminated"],
)
def test_what_is_refused_says_why(content: str | bytes, words: str) -> None:
    with pytest.raises(JSONError, match=words) as caught:
        parse_json(content)
    assert "sys.set_int_max_str_digits" not in str(caught.value)  # no advice for whoever is attacked


def test_brackets_in_strings_are_no_levels() -> None:
    deep = "[" * MAX_DEPTH + '"' + "[{" * 500 + '\\"["' + "]" * MAX_DEPTH
    found = parse_json(deep)
    for _ in range(MAX_DEPTH):
        [found] = found
    assert found == "[{" * 500 + '"['


def test_numbers_that_are_none() -> None:
    assert parse_json('[NaN, Infinity, -Infinity, {"caption": NaN}]') == [None, None, None, {"caption": None}]
    assert parse_json("1e999") == math.inf


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(JSONError, match="it has 6 bytes; at most 5 are read"):
        parse_json("[1, 2]", max_bytes=5)
    monkeypatch.setattr(untrusted_json, "MAX_VALUES", 10)
    assert parse_json("[" + "1," * 8 + "1]") == [1] * 9
    with pytest.raises(JSONError, match="has more than 10 values"):
        parse_json("[" + "1," * 10 + "1]")


# Where a program reads what it has just written itself: to a process of its own, of a library's object, of its own key.
OWN = {
    "collect/caption_passes.py", "collect/lists/preparers.py", "collect/lists/preparing_process.py",
    "collect/pages/child/crawl_process.py", "checkpoint/pipelines/tokenizer_files.py",
    "engines/converted.py", "evaluation/results.py", "media/reading/child_process.py", "index/trust/trusted_indexes.py",
    "media/reading/reader_process.py", "media/reading/decoder_process.py", "serve/library/overview/umap_process.py",
    "text/tokenizer.py", "untrusted/json.py",
}  # fmt: skip


def test_nothing_else_reads_json() -> None:
    package = Path(untrusted_json.__file__).parents[1]
    readers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("loads", "load") and ast.unparse(node.value) == "json"
    }
    assert readers == OWN
