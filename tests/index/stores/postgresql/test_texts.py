"""Texts that PostgreSQL cannot hold come back as they were."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.index.stores.postgresql.texts import escaped, unescaped


@given(st.text(st.characters(exclude_categories=("Cs",)) | st.sampled_from("\0\U0010f700\U0010f7ff\U0010f780")))
def test_a_text_comes_back(text: str) -> None:
    assert unescaped(escaped(text)) == text
    assert "\0" not in escaped(text)
    escaped(text).encode()


@given(st.binary())
def test_a_name_of_bytes_comes_back(name: bytes) -> None:
    path = os.fsdecode(name)
    assert unescaped(escaped(path)) == path
    escaped(path).encode()


@pytest.mark.parametrize("value", [None, 5, 2.5, b"\xff", True])
def test_other_values_stay(value: object) -> None:
    assert escaped(value) is unescaped(value) is value


def test_a_byte_is_one_character_and_a_lone_surrogate_a_question_mark() -> None:
    assert len(escaped("a\udcff\udcfeb")) == 4
    assert escaped("a\ud800b") == "a?b"
