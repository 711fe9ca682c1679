"""Help in sections, names that are none, and what a shell completes."""

import importlib
from collections.abc import Iterator

import click
import pytest
from click.shell_completion import BashComplete

from diptych.cli import COMPLETION_ENV, USAGE
from diptych.cli import diptych as group
from diptych.cli.sections import Sectioned
from tests.conftest import Cli


@pytest.mark.parametrize("name", ["train", "search"])
def test_every_option_is_in_one_section(name: str, cli: Cli) -> None:
    command = group.get_command(click.Context(group), name)
    assert isinstance(command, Sectioned)
    listed = [option for names in command.sections.values() for option in names]
    options = [each.name for each in command.params if isinstance(each, click.Option)]
    assert sorted(listed) == sorted(options)
    shown = cli(name, "--help").out
    for title in command.sections:
        assert f"\n{title}:\n  -" in shown
    assert shown.index("Other options:\n  -h, --help") > shown.index(title)


def commands(group: click.Group, *above: str) -> Iterator[tuple[str, ...]]:
    """The names of all commands, and of theirs."""
    for name in group.list_commands(click.Context(group)):
        yield (*above, name)
        if isinstance(command := group.get_command(click.Context(group), name), click.Group):
            yield from commands(command, *above, name)


@pytest.mark.parametrize("names", [(), *commands(group)], ids=" ".join)
def test_help_fits_a_terminal_of_80_columns(names: tuple[str, ...], cli: Cli) -> None:
    said = cli(*names, "--help")
    assert said.code == 0
    assert [line for line in said.out.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("serch", "Did you mean: diptych search"), ("trian", "diptych train"), ("Index", "diptych index"),
        ("find", "diptych search"), ("eval", "diptych evaluate"), ("export", "diptych convert"),
        ("a dog", "To find pictures: diptych search 'a dog'"), ("frobnicate", "The commands are search, serve, "),
    ],
)  # fmt: skip
def test_what_was_meant_by_no_command(cli: Cli, typed: str, meant: str) -> None:
    said = cli(typed, "x")
    assert said.code == USAGE
    assert meant in said.err


def test_what_was_meant_by_no_option(cli: Cli) -> None:
    assert "--limit" in cli("search", "--limt", "3", "a dog").err
    assert "'inspect'" in cli("data", "inspekt", "x").err


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("se", ("plain", "search")), ("search --relev", ("plain", "--relevant")),
        ("search --find te", ("plain", "texts")), ("train --data p", ("file", "p")), ("classify p", ("file", "p")),
        ("data inspect p", ("file", "p")),
    ],
)  # fmt: skip
def test_a_shell_completes_commands_options_and_paths(
    monkeypatch: pytest.MonkeyPatch, line: str, completed: tuple[str, str]
) -> None:
    words = line.split()
    commands = [importlib.import_module(f"diptych.cli.{name}").command for name in ("train", "classify", "data")]
    for each in (each for command in commands for each in _parameters(command)):
        monkeypatch.setattr(each, "type", each.type)  # to be set back
    monkeypatch.setenv(COMPLETION_ENV, "bash_complete")
    shell = BashComplete(group, {}, "diptych", COMPLETION_ENV)
    found = [(each.type, each.value) for each in shell.get_completions(words[:-1], words[-1])]
    assert completed in found


def _parameters(command: click.Command) -> list[click.Parameter]:
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return [*command.params, *(each for one in below for each in _parameters(one))]
