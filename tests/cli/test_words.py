"""What a search's words are taken for, and what is said where that is not what was meant."""

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from conftest import Cli

from diptych.cli import USAGE
from diptych.cli.words import told_apart


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
def test_what_words_are_taken_for(words: str, has_terms: bool, expected: tuple) -> None:
    assert told_apart(words.split("|") if words else [], has_terms=has_terms) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("pics", 'pics is a folder, and nothing says what to look for in it: diptych search "a red star" pics'),
        ("pics", "The word itself is looked for by --text pics"),
        ("./pics|snow", "nothing says what to look for"),
        ("pics/|snow/", "nothing says what to look for"),
        ("a dog|gone", "Directory 'gone' does not exist"),
        ("gone|a dog", "Directory 'gone' does not exist"),
        ("gone/|a dog", "Directory 'gone/' does not exist"),
        ("/gone", "Directory '/gone' does not exist"),
        (
            "/dev/null|a dog",
            "/dev/null is no folder. Wanted folders to look in; a picture to be like is named by --image",
        ),
        ("a|red|star", "Put a sentence of several words in quotes"),
    ],
)
def test_words_that_cannot_be_meant(words: str, message: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        told_apart(words.split("|"), has_terms=False)
    assert message in str(caught.value)


def test_what_is_told_of_words_that_may_be_meant_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    told_apart(["snow", "pics"], has_terms=False)
    assert "looking for 'snow' in pics; the folder of that name is ./snow" in capsys.readouterr().err
    told_apart(["dog.jpg", "pics"], has_terms=False)
    assert "dog.jpg is a file, and looked for as words; --image dog.jpg looks for pictures like it" in (
        capsys.readouterr().err
    )


def test_words_that_begin_with_a_dash(cli: Cli) -> None:
    for word, shown in (("-dog", "dog"), ("-snow on trees", "'snow on trees'")):
        said = cli("search", "a cat", word)
        assert (said.code, said.out) == (USAGE, "")
        assert f"come after --: diptych search -- {shlex.quote(word)}." in said.err
        assert f"--minus {shown}" in said.err
    assert "come after --" not in cli("search", "a cat", "--dog").err
    assert "Directory 'gone' does not exist" in cli("search", "gone", "--", "-a dog").err
