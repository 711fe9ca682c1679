"""Texts that are no UTF-8: each byte is what it is in Windows-1252, in files and in bytes alike."""

from pathlib import Path

import pytest

from diptych.text import encoding
from diptych.text.encoding import BadLines, decoded, open_text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"caf\xe9 \x80", "caf\xe9 \u20ac"), (b"\xe2\x82", "\xe2\u201a"), (b"\x81\x9d", "\ufffd\ufffd"),
        ("\u20ac\U0001f600".encode(), "\u20ac\U0001f600"), (b"\xef\xbb\xbfa\xff", "a\xff"),
        (b"\xed\xa0\x80", "\xed\xa0\u20ac"),
        (b"\xc3\xa9\xe9", "\xe9\xe9"), (b"\xff\xfea\0\0\xd8", "a\ufffd"), (b"", ""),
    ],
)  # fmt: skip
def test_any_bytes_are_text(tmp_path: Path, data: bytes, text: str) -> None:
    assert decoded(data) == text
    (tmp_path / "a").write_bytes(data)
    lines, _ = open_text(tmp_path / "a")
    with lines:
        assert "".join(lines) == text


def test_a_character_that_two_reads_part_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_CHUNK", 1)
    (tmp_path / "a").write_bytes(b"\xe9" + "\u20ac".encode() * 9000 + b"\xe2\x82")
    lines, said = open_text(tmp_path / "a")
    with lines:
        assert "".join(lines) == "\xe9" + "\u20ac" * 9000 + "\xe2\u201a"
    assert said == "Windows-1252"


def test_bad_lines_are_said_with_the_first() -> None:
    bad = BadLines()
    for reason, number in (("damage", 7), ("damage", 9), ("length", 8)):
        bad.note(reason, number)
    assert list(bad.counts()) == [("damage (first in line 7)", 2), ("length (line 8)", 1)]
    assert list(bad.counts("row")) == [("damage (first in row 7)", 2), ("length (row 8)", 1)]
