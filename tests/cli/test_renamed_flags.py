"""Old flags keep their meaning for one version: the new flag is set, and a line on stderr names it."""

from pathlib import Path

import click
import pytest

from diptych.cli import FAILED, OK, USAGE, diptych, renamed_flags
from diptych.cli.renamed_flags import RENAMED, RENAMED_VALUES, with_new_flags
from tests.conftest import Cli

BOX = "--place is now --box; the old name works until version 0.3\n"
PATCHES = "--method places is now --method patches; the old name works until version 0.3\n"


@pytest.fixture
def renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renamed_flags, "RENAMED", {"search": {"--place": "--box"}})
    monkeypatch.setattr(renamed_flags, "RENAMED_VALUES", {"locate": {("--method", "places"): "patches"}})


@pytest.mark.usefixtures("renamed")
@pytest.mark.parametrize(
    ("command", "old", "new", "warning"),
    [
        ("search", "dog --place 1,2,3,4 .", "dog --box 1,2,3,4 .", BOX),
        ("search", "dog --place=1,2,3,4", "dog --box=1,2,3,4", BOX),
        ("search", "--place 1 --place 2", "--box 1 --box 2", BOX),
        ("search", "-- --place x", "-- --place x", ""),
        ("search", "--places --placed --place-of", "--places --placed --place-of", ""),
        ("search", "--box 1 place", "--box 1 place", ""),
        ("classify", "--place x", "--place x", ""),
        ("locate", "a.png cup --method places", "a.png cup --method patches", PATCHES),
        ("locate", "--method=places", "--method=patches", PATCHES),
        ("locate", "places --method windows places", "places --method windows places", ""),
        ("locate", "-- --method places", "-- --method places", ""),
    ],
)
def test_old_flags_become_new_ones(
    command: str, old: str, new: str, warning: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert with_new_flags(command, old.split()) == new.split()
    assert capsys.readouterr() == ("", warning)
    assert with_new_flags(command, old.split(), quiet=True) == new.split()
    assert capsys.readouterr() == ("", "")


def test_an_old_flag_does_what_the_new_one_does(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renamed_flags, "RENAMED", {"models": {"--former": "--json"}})
    new, old = cli("models", "--json"), cli("models", "--former")
    assert (old.code, old.out) == (OK, new.out)
    assert old.err == "--former is now --json; the old name works until version 0.3\n"
    assert "--former" not in cli("models", "--help").out
    assert cli("convert", "--former", tmp_path, tmp_path).code == USAGE  # the flag of another command
    assert cli("convert", tmp_path / "none", tmp_path / "new").code == FAILED


def flags_of(name: str) -> set[str]:
    """Every flag of a command and of the commands below it."""
    command = diptych.get_command(click.Context(diptych), name)
    assert command is not None
    below = list(command.commands.values()) if isinstance(command, click.Group) else []
    return {flag for each in [command, *below] for option in each.params for flag in option.opts}


@pytest.mark.parametrize(("name", "old", "new"), [(name, *pair) for name in RENAMED for pair in RENAMED[name].items()])
def test_only_the_new_flag_is_declared(name: str, old: str, new: str) -> None:
    assert new in flags_of(name)
    assert old not in flags_of(name)


@pytest.mark.parametrize(
    ("name", "flag", "old", "new"),
    [(name, *pair, new) for name, values in RENAMED_VALUES.items() for pair, new in values.items()],
)
def test_only_the_new_value_is_declared(name: str, flag: str, old: str, new: str) -> None:
    command = diptych.get_command(click.Context(diptych), name)
    assert command is not None
    option = next(each for each in command.params if flag in each.opts)
    assert isinstance(option.type, click.Choice)
    assert new in option.type.choices
    assert old not in option.type.choices
