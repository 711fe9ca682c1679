"""A command whose first word may be an action: `diptych index FOLDER`, or `diptych index copy ...`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, ClassVar

import click


class ActionCommand(click.Command):
    """`ACTIONS` has the module of each action, which has its `command` and is imported when it runs. An argument with
    the name of an action is the action."""

    ACTIONS: ClassVar[Mapping[str, str]] = {}

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if args and (action := self.action(args[0])):
            return action.make_context(f"{info_name} {args[0]}", args[1:], parent=parent, **extra)
        return super().make_context(info_name, args, parent=parent, **extra)

    def action(self, word: str) -> click.Command | None:
        """The command of an action; None if the word is not an action."""
        return importlib.import_module(self.ACTIONS[word]).command if word in self.ACTIONS else None
