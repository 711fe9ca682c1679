"""Messages of the library for the command line, with flags instead of arguments."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from diptych.errors import DiptychError, MessageParts, Setting, Wording, format_message, python_wording

if TYPE_CHECKING:
    from diptych.failures import Failure

# Functions named in errors, and the commands that do the same. Capitals are placeholders.
COMMANDS = {
    "index.update": "index FOLDER",
    "diptych.open_index": "index FOLDER",
    "diptych.examine": "doctor FOLDER",
    "diptych.train": "train",
    "diptych.convert": "convert MODEL TARGET",
}


def flag_wording(command: click.Command | None) -> Wording:
    """Settings as flags of `command`, or of another command if that one has no such flag."""

    def wording(setting: Setting) -> str:
        flag = _flag(command, setting.name)
        value = _value(setting.value)
        if flag is None and setting.call in COMMANDS:
            name = COMMANDS[setting.call]
            return f"diptych {name} {_dashed(setting.name)}{value}"
        if flag is None and command is not None and command.name == "train":
            return f"--set {setting.name}={setting.value}"
        return f"{flag}{value}" if flag else python_wording(setting)

    return wording


def message_of(error: Exception, command: click.Command | None = None) -> str:
    """The message of an error, for `command` or the one that runs; its class if the message is empty."""
    message = error.format(_wording(command)) if isinstance(error, DiptychError) else str(error)
    return message or type(error).__name__


def notice(words: MessageParts) -> str:
    """A message that is not an error, for the command that runs."""
    return format_message(words, _wording(None))


def failure_message(failure: Failure) -> str:
    """The message about an input that was left out."""
    return format_message(failure.message_parts, _wording(None)) if failure.message_parts else failure.message


def _wording(command: click.Command | None) -> Wording:
    context = click.get_current_context(silent=True)
    return flag_wording(command or (context.command if context else None))


def _flag(command: click.Command | None, name: str) -> str | None:
    """The long flag of `command` that sets this argument."""
    options = [option for option in command.params if isinstance(option, click.Option)] if command else []
    if any(_dashed(name) in option.opts for option in options):  # takes precedence over an option with another flag
        return _dashed(name)
    option = next((option for option in options if option.name == name), None)
    return next((flag for flag in option.opts if flag.startswith("--")), option.opts[0]) if option else None


def _dashed(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _value(value: object) -> str:
    if value is None or value is True:
        return ""
    return f" {value if isinstance(value, str) and value.isupper() else shlex.quote(str(value))}"
