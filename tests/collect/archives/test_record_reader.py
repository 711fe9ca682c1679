"""Records that are whole, and a count of all that is not."""

import gzip
from collections import Counter
from pathlib import Path

import pytest
from drawn_archives import page, record, response, zipped

from diptych.collect.archives import record_reader
from diptych.collect.archives.record_reader import ArchiveRecord, records

PAGES = [page(number) for number in range(4)]


def read(tmp_path: Path, content: bytes) -> tuple[list[ArchiveRecord], dict[str, int]]:
    path, counts = tmp_path / "archive.warc", Counter[str]()
    path.write_bytes(content)
    return list(records(path, counts)), dict(counts)


def numbers(found: list[ArchiveRecord]) -> list[str]:
    return [each.url.rpartition("page")[2] for each in found]


@pytest.mark.parametrize("content", [b"".join(PAGES), zipped(PAGES), gzip.compress(b"".join(PAGES))])
def test_a_whole_archive_has_no_flaw(tmp_path: Path, content: bytes) -> None:
    found, counts = read(tmp_path, content)
    assert numbers(found) == ["0", "1", "2", "3"]
    assert counts == {}
    assert found[0].time_s == 1_772_366_400
    assert found[0].content.startswith(b"HTTP/1.1 200 OK\r\n")
    assert (found[0].type, found[0].is_truncated) == ("response", False)


@pytest.mark.parametrize("form", ["plain", "members", "one member"])
def test_a_cut_at_any_byte_of_the_last_record_is_counted(tmp_path: Path, form: str) -> None:
    """But one that leaves the record whole and only takes the empty lines after it."""
    make = {"plain": b"".join, "members": zipped, "one member": lambda each: gzip.compress(b"".join(each))}[form]
    whole, start = make(PAGES), len(make(PAGES[:-1])) if form != "one member" else len(make(PAGES)) // 2
    spare = 4 if form == "plain" else 0
    silent = []
    for end in range(start + 1, len(whole) - spare, 3):
        found, counts = read(tmp_path, whole[:end])
        if sum(counts[each] for each in counts if each in ("cut", "damaged")) != 1 or "3" in numbers(found) * spare:
            silent.append((end - start, counts))
    assert silent == []


@pytest.mark.parametrize("make", [b"".join, zipped])
def test_reading_goes_on_after_damage(tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    """Also from one form to another in one file, and from something that is no archive at all."""
    first, second = make(PAGES[:1]), make(PAGES[1:2])
    for between in (b"GARBAGE" * 9, b"\x1f\x8b\x08 no gzip " * 9, second[: len(second) // 2]):
        found, counts = read(tmp_path, first + between + zipped(PAGES[2:3]) + PAGES[3])
        assert numbers(found)[0] == "0"
        assert numbers(found)[-2:] == ["2", "3"]
        assert counts.get("damaged", 0) + counts.get("cut", 0) > 0


def test_a_flipped_bit_costs_its_record(tmp_path: Path) -> None:
    for make in (b"".join, zipped):
        whole, before = bytearray(make(PAGES)), len(make(PAGES[:1]))
        whole[(before + len(make(PAGES[:2]))) // 2 + 40] ^= 0x41
        found, counts = read(tmp_path, bytes(whole))
        assert numbers(found) == ["0", "2", "3"]
        assert sum(counts.values()) == 1


def test_what_is_no_archive_is_counted(tmp_path: Path) -> None:
    assert read(tmp_path, b"<html>no archive</html>" * 100) == ([], {"damaged": 1})
    assert read(tmp_path, b"") == ([], {})


def test_records_of_other_types_and_large_ones_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_reader, "MAX_RECORD_BYTES", 2000)
    info = record("metadata", "", b"software: drawn", "application/warc-fields")
    large = response("https://example.org/large", b"x" * 3000)
    found, counts = read(tmp_path, zipped([info, PAGES[0], large, PAGES[1]]))
    assert numbers(found) == ["0", "1"]
    assert counts == {"of another type": 1, "too large": 1}


def test_a_record_that_its_crawler_cut_says_so(tmp_path: Path) -> None:
    (found,), _ = read(tmp_path, response("https://example.org/", b"x", more=("WARC-Truncated: length",)))
    assert found.is_truncated
