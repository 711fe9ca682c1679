"""What an error says, on the command line: the library's arguments are flags there."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from diptych.errors import DiptychError, MessageParts, Setting, Wording, format_message, python_wording

if TYPE_CHECKING:
    from diptych.failures import Failure

# Functions that errors name, and the commands that do the same; capitals stand for what the reader has to put there.
COMMANDS = {
    "index.update": "index FOLDER",
    "diptych.open_index": "index FOLDER",
    "diptych.doctor": "doctor FOLDER",
    "diptych.train": "train",
    "diptych.convert": "convert MODEL TARGET",
}


def in_flags(command: click.Command | None) -> Wording:
    """Settings as flags of `command`, the one at hand; of another command where that one has no such flag."""

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
    """What to say of an error, for the command at hand; its class where it says nothing."""
    said = error.format(_wording(command)) if isinstance(error, DiptychError) else str(error)
    return said or type(error).__name__


def notice(words: MessageParts) -> str:
    """What is no error, for the command at hand."""
    return format_message(words, _wording(None))


def failure_message(failure: Failure) -> str:
    """What to say of an input that was left out."""
    return format_message(failure.words, _wording(None)) if failure.words else failure.message


def _wording(command: click.Command | None) -> Wording:
    context = click.get_current_context(silent=True)
    return in_flags(command or (context.command if context else None))


def _flag(command: click.Command | None, name: str) -> str | None:
    """The long flag of `command` that sets this argument."""
    options = [option for option in command.params if isinstance(option, click.Option)] if command else []
    if any(_dashed(name) in option.opts for option in options):  # before an option that sets it under another flag
        return _dashed(name)
    option = next((option for option in options if option.name == name), None)
    return next((flag for flag in option.opts if flag.startswith("--")), option.opts[0]) if option else None


def _dashed(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _value(value: object) -> str:
    if value is None or value is True:
        return ""
    return f" {value if isinstance(value, str) and value.isupper() else shlex.quote(str(value))}"
