"""A tokenizer.json may be anybody's: what it asks for is bounded, and what ends a program ends a child."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from diptych.errors import TokenizerError, TokenizerFileError
from diptych.text import tokenizer_file
from diptych.text.tokenizer import MAX_TEXT, Tokenizer
from diptych.text.tokenizer_file import check, open_tokenizer

CAPTIONS = ["a photo of a cat", "two dogs on the grass"] * 3
SEQUENCE = "Sequence"


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """A small tokenizer.json, and a cache that remembers none."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 1, "cat": 2}, "unk_token": "[UNK]"}
    parts = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder"))
    whitespace = {"type": "WhitespaceSplit"}
    return {"version": "1.0", "added_tokens": [], **parts, "pre_tokenizer": whitespace, "model": model}


def replaced(pattern: str, content: str, kind: str = "String") -> dict[str, Any]:
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def of_parts(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"normalizer": {"type": SEQUENCE, "normalizers": list(parts)}}


def nested(depth: int) -> dict[str, Any]:
    part: dict[str, Any] = {"type": "NFC"}
    for _ in range(depth):
        part = {"type": SEQUENCE, "normalizers": [part]}
    return {"normalizer": part}


def split(pattern: str) -> dict[str, Any]:
    return {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}}


def charsmap(content: bytes) -> dict[str, Any]:
    return {"normalizer": {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(content).decode()}}


def token(at: int, content: str) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return {"id": at, "content": content, **flags}


MARK = {"SpecialToken": {"id": "a", "type_id": 0}}
REFUSED = {
    "a text that grows": (of_parts(*[replaced("a", "aaaaaaaa")] * 3), "times by which it lengthens"),
    "a text that grows by a pattern": (of_parts(replaced("", "a" * 65, "Regex")), "times by which it lengthens"),
    "a long beginning": (of_parts(*[{"type": "Prepend", "prepend": "a" * 160}] * 2), "times by which it lengthens"),
    "many parts": (of_parts(*[{"type": "NFC"}] * 64), "has 65 parts; at most 64"),
    "deep parts": (nested(8), "parts within each other; at most 8"),
    "a long pattern": (split("a" * 4097), "4,097 characters in a pattern"),
    "a pattern with nested repetition": (split("(a+)+$"), "with nested repetition"),
    "pieces of length 0": ({"pre_tokenizer": {"type": "FixedLength", "length": 0}}, "pieces of length 0"),
    "a character map that is cut": (charsmap(b"\xff\xff\xff\xfe"), "damaged character map"),
    "a character map that is empty": (charsmap(b""), "damaged character map"),
    "a long added token": ({"added_tokens": [token(3, "a" * 513)]}, "513 characters in a word"),
    "long words looked up": ({"model": {"type": "WordPiece", "vocab": {}, "max_input_chars_per_word": 1001}}, "1,001"),
    "many marks": (
        {"post_processor": {"type": "TemplateProcessing", "single": [MARK] * 257, "special_tokens": {}}},
        "257 tokens around a text",
    ),
    "marks of many tokens": (
        {"post_processor": {"single": [MARK], "special_tokens": {"a": {"ids": [0] * 257}}}},
        "257 tokens around a text",
    ),
    "no model": ({"model": None}, "it has no model"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_takes_memory_or_time_without_bound_is_refused_before_the_library_sees_it(
    name: str, plain: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    change, says = REFUSED[name]
    monkeypatch.setattr(tokenizer_file.tokenizers, "Tokenizer", None)
    monkeypatch.setattr(subprocess, "run", None)
    with pytest.raises(TokenizerFileError) as caught:
        open_tokenizer(json.dumps(plain | change))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("limit", "change"),
    [
        ("MAX_BYTES", {}),
        ("MAX_TOKENS", {}),
        ("MAX_ADDED", {"added_tokens": [token(3 + at, f"t{at}") for at in range(3)]}),
        ("MAX_CHARSMAP", charsmap(b"\0\0\0\0")),
    ],
)
def test_sizes_are_limited(
    limit: str, change: dict[str, Any], plain: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    check(json.dumps(plain | change))
    monkeypatch.setattr(tokenizer_file, limit, 2)
    with pytest.raises(TokenizerFileError):
        check(json.dumps(plain | change))


def test_json_nested_deep_is_no_tokenizer(plain: dict[str, Any]) -> None:
    with pytest.raises(TokenizerFileError, match="nested deeper"):
        open_tokenizer(json.dumps(plain)[:-1] + ', "x": ' + "[" * 100_000 + "]" * 100_000 + "}")


@pytest.mark.parametrize(
    "pattern",
    [
        r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
        r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        r"[^(\s|[.,!?])]+", "(?:a++)+", " {2,}", r"(?:\r?\n)+", r"\(a+\)+",
    ],
)  # fmt: skip
def test_patterns_of_known_tokenizers_are_read(pattern: str, plain: dict[str, Any]) -> None:
    check(json.dumps(plain | split(pattern)))


@pytest.mark.parametrize("pattern", ["(a+)+", "(?:a*|b)*c", "((a|b+)c)*", "(a{2,})+", r"(\w+\s?)*$", "(a+){100}"])
def test_patterns_that_repeat_what_repeats_are_not(pattern: str, plain: dict[str, Any]) -> None:
    with pytest.raises(TokenizerFileError, match="nested repetition"):
        check(json.dumps(plain | split(pattern)))


def test_what_ends_the_child_or_fails_in_it_is_said(plain: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps(plain)
    monkeypatch.setattr(tokenizer_file, "_TRY", "import os; os.abort()")
    with pytest.raises(TokenizerFileError, match="ends the process that opens it"):
        open_tokenizer(text)
    monkeypatch.setattr(tokenizer_file, "_TRY", "import time; time.sleep(600)")
    monkeypatch.setattr(tokenizer_file, "_TRIED_S", 0.2)
    with pytest.raises(TokenizerFileError, match="keeps a process busy"):
        open_tokenizer(text)
    monkeypatch.undo()


def test_a_tokenizer_is_tried_once(plain: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = json.dumps(plain)
    assert open_tokenizer(text).encode("a cat").ids == [1, 2]
    assert len(list((tmp_path / "diptych" / "tokenizers").iterdir())) == 1
    monkeypatch.setattr(tokenizer_file, "_TRY", "raise SystemExit('tried')")
    assert open_tokenizer(text).encode("a cat").ids == [1, 2]
    with pytest.raises(TokenizerFileError, match="tried"):
        open_tokenizer(text + " ")


def test_what_fails_in_the_library_is_no_tokenizer(plain: dict[str, Any]) -> None:
    with pytest.raises(TokenizerError, match=r"this is no tokenizer\.json \(Token `b` out of vocabulary"):
        Tokenizer.from_json(json.dumps(plain | {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}}))


def test_a_text_that_the_library_stumbles_over_costs_itself_alone(plain: dict[str, Any]) -> None:
    unknown = {"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "[UNK]"}}
    reader = Tokenizer.from_json(json.dumps(plain | unknown))
    assert reader(["a", "a a"]).ids.tolist() == [[0, 0], [0, 0]]
    assert list(reader.too_long(["a", "a cat", "a"])) == [1]
    for truncate in (False, True):
        with pytest.raises(TokenizerError, match="cannot read the text 'a cat'"):
            reader(["a", "a cat"], truncate=truncate)


def test_of_a_text_far_too_long_the_beginning_is_read() -> None:
    reader = Tokenizer.train(CAPTIONS, vocab_size=520, context=8)
    long = "a cat " * MAX_TEXT
    assert reader([long], truncate=True).ids.tolist() == reader(["a cat " * 20], truncate=True).ids.tolist()
    assert reader([long, "cat"], truncate=True).truncated == 1
    with pytest.raises(TokenizerError, match=f"{6 * MAX_TEXT:,} characters in text 0"):
        reader([long])
