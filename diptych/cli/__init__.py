"""The command line: one file per command, opened only when it is called."""

import importlib
import os
import sys
from collections.abc import Sequence

import click

OK, FAILED, USAGE, PARTLY, NOTHING, INTERRUPTED = 0, 1, 2, 3, 4, 130

# Command -> what it does. The module diptych.cli.NAME holds a click command `command`.
COMMANDS = {
    "search": "Find pictures by a sentence.",
    "classify": "Say which label fits each picture.",
    "compare": "Score pictures against sentences, as a table and a heat map.",
    "train": "Train a model on (picture, caption) pairs.",
    "convert": "Change a model's file format.",
    "models": "List the architectures that can be trained or read.",
}


class _Commands(click.Group):
    """Lists commands without importing them, so that `diptych --help` is immediate."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(f"diptych.cli.{cmd_name}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="diptych", message="diptych %(version)s")
def diptych() -> None:
    """CLIP, whole: pictures and sentences in one vector space.

    \b
    diptych search "a dog in the snow" ~/Pictures
    diptych classify ~/Pictures --labels cat,dog,bird

    Exit codes: 0 ok, 1 failed, 2 usage, 3 some inputs failed, 4 nothing found, 130 interrupted.
    """


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        return diptych.main(list(arguments), prog_name="diptych", standalone_mode=False) or OK
    except click.UsageError as error:
        error.show()
        return USAGE
    except click.ClickException as error:
        error.show()
        return FAILED
    except (click.Abort, KeyboardInterrupt):
        click.echo("diptych: interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our results had enough: no error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except (ValueError, OSError, ArithmeticError, MemoryError) as error:
        click.echo(f"diptych: {error}", err=True)
        return FAILED
