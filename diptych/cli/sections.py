"""Help in sections, hints for unknown commands, and completion of paths."""

import difflib
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

# Names of the commands in other programs.
_OTHER_NAMES = {
    "find": "search", "query": "search", "scan": "index", "add": "index", "update": "index", "label": "classify",
    "tag": "classify", "finetune": "train", "fine-tune": "train", "fit": "train", "export": "convert",
    "inspect": "data inspect", "eval": "evaluate", "benchmark": "evaluate", "dedupe": "index duplicates",
    "duplicates": "index duplicates", "check": "doctor", "encode": "embed", "diff": "difference", "list": "models",
    "help": "--help", "version": "--version",
}  # fmt: skip


class Sectioned(click.Command):
    """A command whose --help lists its options in sections: title -> names of parameters. The rest come last, as "Other
    options"."""

    def __init__(self, *arguments: Any, sections: Mapping[str, Sequence[str]], **attributes: Any):
        super().__init__(*arguments, **attributes)
        self.sections = sections

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections."""
        options = [option for option in self.get_params(ctx) if isinstance(option, click.Option)]
        records = {option.name: option.get_help_record(ctx) for option in options}
        sections = [(title, [records.pop(name, None) for name in names]) for title, names in self.sections.items()]
        for title, rows in [*sections, ("Other options", list(records.values()))]:
            if visible := [row for row in rows if row]:
                with formatter.section(title):
                    formatter.write_dl(visible)


def no_such_command(name: str, commands: Iterable[str]) -> str:
    """The message for an unknown command, with the most similar one."""
    known = list(commands)
    message = f"there is no command {name!r}."
    if name.lower() in _OTHER_NAMES:
        return f"{message} Did you mean: diptych {_OTHER_NAMES[name.lower()]}"
    if near := difflib.get_close_matches(name.lower(), known, n=2, cutoff=0.7):
        return f"{message} Did you mean: diptych {' or '.join(near)}"
    if " " in name or os.path.exists(name):
        return f"{message} To find pictures: diptych search {shlex.quote(name)}"
    return f"{message} The commands are {', '.join(known)}."


def complete_paths(command: click.Command) -> None:
    """Let a shell complete paths for every text parameter: most of them are files, folders or sources of data."""
    for parameter in command.params:
        if isinstance(parameter.type, type(click.STRING)) and parameter.metavar != "TEXT":
            parameter.type = click.Path()
    for child in command.commands.values() if isinstance(command, click.Group) else ():
        complete_paths(child)
