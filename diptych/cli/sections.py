"""Help in sections, and what was probably meant by a name that is none."""

import difflib
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

# What other programs call what is a command here.
_CALLED = {
    "find": "search", "query": "search", "scan": "index", "add": "index", "update": "index", "label": "classify",
    "tag": "classify", "finetune": "train", "fine-tune": "train", "fit": "train", "export": "convert",
    "inspect": "data inspect", "eval": "evaluate", "benchmark": "evaluate", "dedupe": "index duplicates",
    "duplicates": "index duplicates", "check": "doctor", "encode": "embed", "diff": "difference", "list": "models",
    "help": "--help", "version": "--version",
}  # fmt: skip


class Sectioned(click.Command):
    """A command whose --help lists its options in sections: `sections` has, by title, the names of their parameters.
    Those in none come last, as "Other options"."""

    def __init__(self, *arguments: Any, sections: Mapping[str, Sequence[str]], **attributes: Any):
        super().__init__(*arguments, **attributes)
        self.sections = sections

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections."""
        shown = {
            each.name: each.get_help_record(ctx) for each in self.get_params(ctx) if isinstance(each, click.Option)
        }
        sections = [(title, [shown.pop(name, None) for name in names]) for title, names in self.sections.items()]
        for title, records in [*sections, ("Other options", list(shown.values()))]:
            if there := [record for record in records if record]:
                with formatter.section(title):
                    formatter.write_dl(there)


def no_such_command(name: str, commands: Iterable[str]) -> str:
    """What is said of a word that is no command, with the one that is nearest."""
    known = list(commands)
    said = f"there is no command {name!r}."
    if name.lower() in _CALLED:
        return f"{said} Did you mean: diptych {_CALLED[name.lower()]}"
    if near := difflib.get_close_matches(name.lower(), known, n=2, cutoff=0.7):
        return f"{said} Did you mean: diptych {' or '.join(near)}"
    if " " in name or os.path.exists(name):
        return f"{said} To find pictures: diptych search {shlex.quote(name)}"
    return f"{said} There are {', '.join(known)}."


def complete_paths(command: click.Command) -> None:
    """Let a shell complete paths for whatever is text: most of it is a file, a folder or a source of data."""
    for each in command.params:
        if isinstance(each.type, type(click.STRING)) and each.metavar != "TEXT":
            each.type = click.Path()
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        complete_paths(below)
