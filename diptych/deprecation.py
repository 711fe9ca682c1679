"""Old public names. They work until version 0.3, with a DeprecationWarning that names the new one."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

UNTIL = "0.3"
_PASSED_THROUGH = ("diptych", "dataclasses")  # dataclasses.replace() calls __init__ with the old name
P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")


def warn_renamed(old: str, new: str) -> None:
    """Warn that `old` is now called `new`, at the line outside this package that uses it: Python shows a
    DeprecationWarning only for a line of a script or a test."""
    frame, stacklevel = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _PASSED_THROUGH:
        frame, stacklevel = frame.f_back, stacklevel + 1
    message = f"{old} is now {new}; the old name works until version {UNTIL}."
    warnings.warn(message, DeprecationWarning, stacklevel=stacklevel)


class RenamedAttribute:
    """The old name of an attribute, property or method: `old = RenamedAttribute("old", "new")` in a class body."""

    def __init__(self, old: str, new: str):
        self.old, self.new = old, new

    def __get__(self, instance: object, owner: type) -> Any:
        warn_renamed(f"{owner.__name__}.{self.old}", self.new)
        return getattr(owner if instance is None else instance, self.new)


def renamed_attributes(**names: str) -> Callable[[type[C]], type[C]]:
    """A class decorator that adds old names of attributes: `@renamed_attributes(old="new")`."""

    def decorate(owner: type[C]) -> type[C]:
        for old, new in names.items():
            setattr(owner, old, RenamedAttribute(old, new))
        return owner

    return decorate


def renamed_arguments(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator that also accepts the old names of keyword arguments: `@renamed_arguments(old="new")`."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def accepting(*args: P.args, **kwargs: P.kwargs) -> R:
            for old in names.keys() & kwargs.keys():
                warn_renamed(f"{function.__qualname__}({old}=)", f"{names[old]}=")
                kwargs[names[old]] = kwargs.pop(old)
            return function(*args, **kwargs)

        return accepting

    return decorate
