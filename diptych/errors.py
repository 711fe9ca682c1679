"""What goes wrong through no fault of the program: errors that each face can word in its own way."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias


class Setting(NamedTuple):
    """An argument of this library in what an error says, which each face words in its own way: `truncate=True` in
    Python, `--truncate` on the command line.

    `value` None stands for the argument itself, and a word in capitals for what the reader has to put there. `call` is
    the function that takes it, where that is not the one that raised, such as "index.update".
    """

    name: str
    value: object = None
    call: str = ""


Words: TypeAlias = "str | Sequence[str | Setting]"
Wording: TypeAlias = Callable[[Setting], str]


def in_python(setting: Setting) -> str:
    """A setting as a caller writes it."""
    name, value, call = setting
    shown = value if isinstance(value, str) and value.isupper() else repr(value)
    argument = name if value is None else f"{name}={shown}"
    return f"{call}({argument})" if call else argument


def worded(words: Words, wording: Wording = in_python) -> str:
    """Words with each setting as `wording` has it."""
    parts = [words] if isinstance(words, str) else words
    return "".join(part if isinstance(part, str) else wording(part) for part in parts)


def as_warning(words: Words) -> None:
    """Something that a caller should know and that is no error, as a warning of Python's."""
    warnings.warn(worded(words), stacklevel=3)


class DiptychError(Exception):
    """What goes wrong through no fault of the program; all errors that this package raises on purpose are such.

    `problem` says what came and what was wanted, `remedy` what to do next ("" where the problem says it), `argument`
    names the argument at fault, if one is. `str(error)` words both for Python, `error.worded(wording)` for other faces.
    """

    argument: str | None = None
    remedy: Words = ""

    def __init__(self, problem: Words = "", *, remedy: Words = "", argument: str | None = None):
        super().__init__(problem)
        self.problem = problem
        if remedy:
            self.remedy = remedy
        if argument:
            self.argument = argument

    def worded(self, wording: Wording = in_python) -> str:
        """The whole message, with each argument as `wording` has it."""
        return " ".join(worded(words, wording) for words in (self.problem, self.remedy) if words)

    def __str__(self) -> str:
        return self.worded()


class ArgumentError(DiptychError, ValueError):
    """An argument that is of no use here, or contradicts another."""


class ArgumentTypeError(ArgumentError, TypeError):
    """An argument of a class that is of no use here."""
