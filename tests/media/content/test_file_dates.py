"""Searching by date where pictures do not say theirs; and what a search says that it passed over."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from drawn_files import BLUE, RED, encoded, exif, left_and_right
from index_model import InlineReaders
from search_fixtures import Searched, TableModel, noise

from diptych.cli import NOTHING, OK, USAGE
from diptych.index.filters.filters import DateCounts, Filters, count_dated
from diptych.media.items import CatalogEntry, Details, File, FileContents, Part
from diptych.media.reading import readers
from tests.conftest import Cli

MARCH_2020 = time.mktime((2020, 3, 15, 12, 0, 0, 0, 0, -1))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """One picture with a date of 2012, one without, and one that was changed when it was indexed, all of 2020; a
    text."""
    index = Searched(tmp_path_factory.mktemp("dated"), TableModel())
    part = Part(pixels=np.zeros((1, 1, 3), np.uint8))
    for name, taken_at in (("said.jpg", "2012-05-01T00:00:00"), ("silent.jpg", None), ("young.jpg", None)):
        contents = FileContents(
            File(name, "picture", 1, int(MARCH_2020) * 10**9), b"", Details(taken_at=taken_at), (part,)
        )
        index.catalog.put([CatalogEntry(contents, noise(1).astype(np.float16), settled=name != "young.jpg")])
    index.put("words.txt", noise(1), kind="text")
    index.catalog.set_facts({"updated_at": "2021-06-07T08:09:10"})
    return index


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(since="2000"), {"said.jpg"}),
        (Filters(since="2000", file_dates=True, kind="picture"), {"said.jpg", "silent.jpg", "young.jpg"}),
        (Filters(since="2020-03", until="2020-03", file_dates=True), {"silent.jpg"}),
        (Filters(since="2020-03-15T12", until="2020-03-15T12:00", file_dates=True), {"silent.jpg"}),
        (Filters(until="2019", file_dates=True, kind="picture"), {"said.jpg"}),
        (Filters(since="2021-06-07", file_dates=True), {"young.jpg"}),
    ],
)
def test_a_file_without_a_date_goes_by_its_last_change(index: Searched, filters: Filters, expected: set[str]) -> None:
    condition, parameters = filters.condition()
    assert {item.path for item in index.catalog.items(index.catalog.matching(condition, parameters))} == expected


def test_how_many_say_when_they_were_taken(index: Searched) -> None:
    assert count_dated(index.catalog, Filters(since="2024")) == DateCounts(3, 1)
    assert count_dated(index.catalog, Filters(until="2024", path="s*.jpg")) == DateCounts(2, 1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two pictures of March 2020 that say nothing, and a spreadsheet."""
    monkeypatch.setattr(readers, "ReaderPool", InlineReaders)
    for name, colours in (("a.jpg", (RED, BLUE)), ("b.jpg", (BLUE, RED))):
        (tmp_path / name).write_bytes(encoded(left_and_right(*colours)))
        os.utime(tmp_path / name, (MARCH_2020, MARCH_2020))
    (tmp_path / "sums.xlsx").write_text("1")
    return tmp_path


def test_search_says_that_no_picture_has_a_date(cli: Cli, tiny_model: Path, folder: Path) -> None:
    arguments = ("search", "a star", folder, "--model", tiny_model)
    said = cli(*arguments, "--since", "2020")
    assert said.code == NOTHING
    assert "none of the 2 pictures in the index pass the filters" in said.err
    assert "no file here records a date. --file-dates uses the time of a file's last change" in said.err
    assert "--file-dates" not in cli(*arguments, "--camera", "Leica").err
    assert cli(*arguments, "--since", "2020-03", "--file-dates").code == OK
    late = cli(*arguments, "--since", "2020-04", "--file-dates")
    assert late.code == NOTHING
    assert "--file-dates" not in late.err
    (folder / "c.jpg").write_bytes(encoded(left_and_right(RED, RED), exif=exif(taken="2012:05:01 12:30:00")))
    assert "only 1 of these 3 files record a date" in cli(*arguments, "--since", "2020").err
    assert cli(*arguments, "--since", "soon", "--file-dates").code == USAGE


def test_search_says_what_it_passed_over_when_that_is_new(cli: Cli, tiny_model: Path, folder: Path) -> None:
    arguments = ("search", "a star", folder, "--model", tiny_model)
    assert "skipped: 1 of another kind" in cli(*arguments).err
    assert "skipped" not in cli(*arguments).err
    (folder / "c.jpg").write_bytes(encoded(left_and_right(RED, RED)))
    assert "skipped" not in cli(*arguments).err
    (folder / "notes.pdf").write_text("2")
    (folder / ".d.jpg").write_text("3")
    assert "skipped: 2 of another kind, 1 hidden" in cli(*arguments).err
    assert "skipped" not in cli(*arguments).err
    (folder / "notes.pdf").unlink()
    assert "skipped" not in cli(*arguments).err
    assert "skipped: " in cli("index", folder).err  # which says so every time
