"""The words of a search: which is the text, which are folders, and the hints for anything else."""

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from diptych.cli import USAGE
from diptych.cli.search_words import split_text_and_folders
from tests.conftest import Cli


@pytest.fixture(autouse=True)
def here(tmp_path: Path) -> Iterator[None]:
    """A working folder with two folders and a file."""
    for name in ("pics", "snow", "pics/coco"):
        (tmp_path / name).mkdir()
    (tmp_path / "dog.jpg").touch()
    with contextlib.chdir(tmp_path):
        yield


@pytest.mark.parametrize(
    ("words", "has_terms", "expected"),
    [
        ("", True, (None, [])),
        ("", False, (None, [])),
        ("a dog", False, ("a dog", [])),
        ("a dog|pics", False, ("a dog", ["pics"])),
        ("pics|a dog", False, ("a dog", ["pics"])),
        ("pics|a dog|snow", False, ("a dog", ["pics", "snow"])),
        ("a dog|pics|snow/", False, ("a dog", ["pics", "snow/"])),
        ("pics", True, (None, ["pics"])),
        ("pics|snow", True, (None, ["pics", "snow"])),
        ("a dog|pics", True, ("a dog", ["pics"])),
        ("snow|pics", False, ("snow", ["pics"])),
        ("and/or|pics", False, ("and/or", ["pics"])),
        ("x" * 5000, False, ("x" * 5000, [])),
        ("-|pics", False, ("-", ["pics"])),
    ],
)
def test_text_and_folders_are_told_apart(words: str, has_terms: bool, expected: tuple) -> None:
    assert split_text_and_folders(words.split("|") if words else [], has_terms=has_terms) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("pics", 'pics is a folder. Add a text to search for: diptych search "a red star" pics'),
        ("pics", "To search for the word itself: --text pics"),
        ("./pics|snow", "Add a text to search for"),
        ("pics/|snow/", "Add a text to search for"),
        ("a dog|gone", "Directory 'gone' does not exist"),
        ("gone|a dog", "Directory 'gone' does not exist"),
        ("gone/|a dog", "Directory 'gone/' does not exist"),
        ("/gone", "Directory '/gone' does not exist"),
        (
            "/dev/null|a dog",
            "/dev/null is not a folder. Wanted folders to search in; --image FILE searches by a picture",
        ),
        ("a|red|star", "Put a sentence of several words in quotes"),
    ],
)
def test_words_that_make_no_search(words: str, message: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        split_text_and_folders(words.split("|"), has_terms=False)
    assert message in str(caught.value)


def test_ambiguous_words_get_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    split_text_and_folders(["snow", "pics"], has_terms=False)
    assert "searching for 'snow' in pics; the folder of that name is ./snow" in capsys.readouterr().err
    split_text_and_folders(["dog.jpg", "pics"], has_terms=False)
    hint = "searching for the words 'dog.jpg'; --image dog.jpg searches by the picture in that file"
    assert hint in capsys.readouterr().err


def test_words_that_begin_with_a_dash(cli: Cli) -> None:
    for word, shown in (("-dog", "dog"), ("-snow on trees", "'snow on trees'")):
        said = cli("search", "a cat", word)
        assert (said.code, said.out) == (USAGE, "")
        assert f"after --: diptych search -- {shlex.quote(word)}." in said.err
        assert f"--minus {shown}" in said.err
    assert "after --:" not in cli("search", "a cat", "--dog").err
    assert "Directory 'gone' does not exist" in cli("search", "gone", "--", "-a dog").err
