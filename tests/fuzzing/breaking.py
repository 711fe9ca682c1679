"""A command that breaks what the fuzzer watches, one promise for each case: what a fuzzer finds must be known to be
findable."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from random import Random
from types import ModuleType

import click

from diptych import cli

from .case import SECRET, Case, write_precious
from .values import DOING

WAYS = ("traceback", "outside", "terminal", "secret", "network", "json", "silent", "ended", "nothing")


class Breaking:
    """A case for each of WAYS, in their order."""

    def __init__(self, home: Path):
        self._home = home
        module = ModuleType("diptych.cli.breaking")
        module.command = command  # type: ignore[attr-defined]
        sys.modules[module.__name__] = module
        cli.COMMANDS["breaking"] = "Break a promise."

    def case(self, folder: Path, choice: Random) -> Case:
        """The case's own, by what it draws."""
        precious, drawn = write_precious(self._home), choice.random()
        way = next(way for number, way in enumerate(WAYS) if Random(f"0 breaking {number}").random() == drawn)
        return Case([way], [["breaking", way, str(precious), *(["--json"] if way == "json" else [])]], [folder / "out"])


@click.command("breaking")
@click.argument("way")
@click.argument("precious")
@click.option("--json", is_flag=True)
def command(way: str, precious: str, json: bool) -> int:
    """Do what no command may."""
    if way == "traceback":
        raise KeyError("broken")
    if way == "outside":
        Path(precious, "notes.txt").write_text("other")
    elif way == "terminal":
        sys.stderr.write(DOING[0])
    elif way == "secret":
        click.echo(SECRET)
    elif way == "network":
        socket.create_connection(("example.invalid", 80))
    elif way == "json":
        click.echo('{"a": NaN}')
    elif way == "ended":
        os._exit(7)
    return 1 if way == "silent" else 0
