"""The command line: one file per command, opened only when it is called."""

import importlib
import io
import os
import sys
from collections.abc import Sequence

import click

from diptych import __version__
from diptych.cli.exit_codes import FAILED, INTERRUPTED, OK, USAGE
from diptych.cli.exit_codes import NOTHING as NOTHING
from diptych.cli.exit_codes import PARTLY as PARTLY
from diptych.cli.renamed_flags import with_new_flags
from diptych.cli.wording import message_of
from diptych.display.escaping import harmless
from diptych.errors import DiptychError
from diptych.extras import EXTRAS

COMPLETING = "_DIPTYCH_COMPLETE"  # set by a shell that asks how a line may go on

# Command -> what it does. The module diptych.cli.NAME holds a click command `command`.
COMMANDS = {
    "search": "Find pictures by a sentence.",
    "index": "Make or update the index of a folder.",
    "embed": "Write the vectors of many pictures to files.",
    "classify": "Say which label fits each picture.",
    "locate": "Show where in a picture something is.",
    "difference": "Name what one picture has and another has not.",
    "compare": "Score pictures against sentences, as a table and a heat map.",
    "train": "Train a model on (picture, caption) pairs.",
    "data": "Look at training data.",
    "evaluate": "Measure models on data sets.",
    "probe": "Train a linear classifier on a model's vectors.",
    "convert": "Change a model's file format.",
    "models": "List the architectures that can be trained or read.",
    "doctor": "Say what is wrong with an index or an installation, and mend it.",
}


# What goes wrong through no fault of the program: said in a line. Anything else keeps its traceback.
EXPECTED = (DiptychError, ValueError, OSError, ArithmeticError, MemoryError)


class _Commands(click.Group):
    """Lists commands without importing them, so that `diptych --help` is immediate."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"diptych.cli.{cmd_name}").command
        if COMPLETING in os.environ:
            from diptych.cli.sections import complete_paths

            complete_paths(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and args[0][:1] != "-" and not ctx.resilient_parsing:
            from diptych.cli.sections import no_such_command

            raise click.UsageError(no_such_command(args[0], COMMANDS), ctx)
        return super().resolve_command(ctx, [args[0], *with_new_flags(args[0], args[1:], quiet=ctx.resilient_parsing)])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="diptych %(version)s")
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
    except click.exceptions.NoArgsIsHelpError as error:
        _complain(error.format_message())
        return USAGE
    except click.UsageError as error:
        _complain(_with_usage(error))
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        _complain("diptych: interrupted")
        return INTERRUPTED
    except SystemExit:  # how click and rich leave when the reader of our results had enough: no error of ours
        _close_quietly()
        return OK
    except Exception as error:
        message = _in_words(error, arguments)
        if message is None:
            raise
        _complain(f"diptych: {_harmless(message)}")
        return FAILED


def _command_of(arguments: Sequence[str]) -> click.Command | None:
    """The command that these arguments call; None where they call none."""
    command: click.Command | None = diptych
    for argument in arguments:
        if not isinstance(command, click.Group):
            action = getattr(command, "action", None)  # what `diptych index` does beside indexing
            return (action and action(argument)) or command
        command = command.get_command(click.Context(command), argument)
    return command


def _harmless(message: str) -> str:
    """On one line, whatever is in it."""
    return harmless(message, terminal=sys.stderr.isatty())


def _with_usage(error: click.UsageError) -> str:
    """What click says of a wrong command line, below how it is used."""
    said = io.StringIO()
    click.UsageError(_harmless(error.format_message()), error.ctx).show(said)
    return said.getvalue().rstrip("\n")


def _complain(text: str) -> None:
    from diptych.cli.terminal import print_error

    print_error(text)


def _in_words(error: Exception, arguments: Sequence[str]) -> str | None:
    """What to say of an error that a person can do something about; None for a mistake of the program's own."""
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # the latter is PyTorch's
        return f"out of memory ({str(error).partition('. ')[0] or 'the machine has no more'}); close other programs."
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
        return f"this command needs {error.name}, which is not installed: pip install 'diptych[{EXTRAS[error.name]}]'"
    if not isinstance(error, EXPECTED):
        return None
    if isinstance(error, OSError) and isinstance(error.filename, str | bytes) and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror.lower()}."
    return message_of(error, _command_of(arguments))


def _close_quietly() -> None:
    """Let what is still in the buffers of a closed pipe go nowhere, so that Python does not complain at its exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
