"""docs/security.md: every test that it names exists, and every option and limit that it speaks of."""

import ast
import re
from pathlib import Path

import click
import pytest

from diptych.cli import diptych

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"\b((?:\w+/)*test_\w+\.py)(?:::(\w+))?", PAGE)))


def test_it_names_tests() -> None:
    assert len(NAMED) > 50


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED}))
def test_every_test_that_is_named_exists(file: str) -> None:
    tree = ast.parse((ROOT / "tests" / file.removeprefix("tests/")).read_text(encoding="utf-8"))
    tests = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert {name for each, name in NAMED if each == file and name} - tests == set()


def test_every_promise_is_shown_by_a_test() -> None:
    rows = [
        line.split("|")[1:3] for line in PAGE.partition("## What you can do")[0].splitlines() if line.startswith("| ")
    ]
    promises = {promise.strip(): shown for promise, shown in rows if promise.strip() != "promised"}
    assert len(promises) > 30
    assert [promise for promise, shown in promises.items() if "test_" not in shown] == []


def test_every_option_that_is_named_exists() -> None:
    options = {
        name for name in re.findall(r"`(?:[^`]* )?(--[a-z-]+)", PAGE) if name not in ("--require-hashes", "--minutes")
    }
    assert options >= {"--trust", "--follow-links", "--allow-outside"}
    assert options - _options_of(diptych) == set()


def _options_of(command: click.Command) -> set[str]:
    found = {name for parameter in command.params for name in parameter.opts}
    if isinstance(command, click.Group):
        context = click.Context(command)
        below = (command.get_command(context, name) for name in command.list_commands(context))
        found = found.union(*(_options_of(each) for each in below if each))
    return found


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\bDIPTYCH_\w+", PAGE))))
def test_every_limit_that_is_named_is_read(name: str) -> None:
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "diptych").rglob("*.py"))
    assert any(name in source for source in sources)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_others_lead_to_it(page: str) -> None:
    assert "(docs/security.md)" in (ROOT / page).read_text(encoding="utf-8")
