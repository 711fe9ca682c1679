"""The command line: one module per command, imported only when the command runs."""

import errno
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
from diptych.display.escaping import escape_control_characters
from diptych.errors import DiptychError
from diptych.extras import EXTRAS

COMPLETION_ENV = "_DIPTYCH_COMPLETE"  # set by a shell that completes a command line

# Command -> description. The module diptych.cli.NAME has a click command `command`.
COMMANDS = {
    "search": "Find pictures by a sentence.",
    "serve": "Serve a page and an API that find pictures.",
    "index": "Make or update the index of a folder.",
    "embed": "Write the vectors of many pictures to files.",
    "classify": "Assign a label to each picture.",
    "locate": "Show where in a picture something is.",
    "difference": "Describe how two pictures differ.",
    "compare": "Score pictures against sentences, as a table and a heat map.",
    "train": "Train a model on (picture, caption) pairs.",
    "data": "Inspect training data.",
    "generate": "Draw pictures of a sentence, or train what draws them.",
    "collect": "Collect pictures with captions from the web.",
    "evaluate": "Measure models on data sets.",
    "probe": "Train a linear classifier on a model's vectors.",
    "convert": "Convert a model to another file format.",
    "models": "List architectures, or pretrained models by their short names.",
    "doctor": "Check an index or the installation, and repair an index.",
}


# Errors that the user can fix: printed as one line. All others keep their traceback.
HANDLED_ERRORS = (DiptychError, ValueError, OSError, ArithmeticError, MemoryError)
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class _Commands(click.Group):
    """Lists the commands without importing them, so that `diptych --help` is immediate."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"diptych.cli.{cmd_name}").command
        if COMPLETION_ENV in os.environ:
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
        _print_error(error.format_message())
        return USAGE
    except click.UsageError as error:
        _print_error(_with_usage(error))
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        _print_error("diptych: interrupted")
        return INTERRUPTED
    except SystemExit:  # click and rich exit so when the reader of a pipe has closed it, which is not an error
        _discard_output()
        return OK
    except Exception as error:
        message = _error_text(error, arguments)
        if message is None:
            raise
        _print_error(f"diptych: {_escaped(message)}")
        return FAILED


def _command_of(arguments: Sequence[str]) -> click.Command | None:
    """The command that these arguments run; None if there is none."""
    command: click.Command | None = diptych
    for argument in arguments:
        if not isinstance(command, click.Group):
            action = getattr(command, "action", None)  # such as `diptych index duplicates`
            return (action and action(argument)) or command
        command = command.get_command(click.Context(command), argument)
    return command


def _escaped(message: str) -> str:
    """The message on one line."""
    return escape_control_characters(message, terminal=sys.stderr.isatty())


def _with_usage(error: click.UsageError) -> str:
    """Click's message about a wrong command line, below the usage."""
    file = io.StringIO()
    click.UsageError(_escaped(error.format_message()), error.ctx).show(file)
    return file.getvalue().rstrip("\n")


def _print_error(text: str) -> None:
    from diptych.cli.terminal import print_error
    from diptych.index.stores.uri import without_passwords

    print_error(without_passwords(text))


def _error_text(error: Exception, arguments: Sequence[str]) -> str | None:
    """The message for an error that the user can fix; None for a bug of the program."""
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # PyTorch's
        return f"out of memory ({str(error).partition('. ')[0] or 'none is left'}); close other programs."
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
        return f"this command needs {error.name}, which is not installed: pip install 'diptych[{EXTRAS[error.name]}]'"
    if not isinstance(error, HANDLED_ERRORS):
        return None
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return f"{where}the disk is full; make room on it, then repeat the command."
    if isinstance(error, OSError) and isinstance(error.filename, str | bytes) and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror.lower()}."
    return message_of(error, _command_of(arguments))


def _discard_output() -> None:
    """Send the buffered output for a closed pipe to the null device, so that Python reports no error when it exits."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(null, stream.fileno())
