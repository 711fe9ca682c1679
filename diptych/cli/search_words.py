"""Which of the words on a search's command line say what to look for, and which name the folders to look in."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import NamedTuple

import click

from diptych.cli.options import say

_IMAGE = "Wanted folders to look in; a picture to be like is named by --image."
_QUOTES = 'Put a sentence of several words in quotes: diptych search "a red star" photos/'


class Words(NamedTuple):
    """TEXT, if any, and the folders as they were typed."""

    text: str | None
    folders: list[str]


def told_apart(words: Sequence[str], *, has_terms: bool) -> Words:
    """The one word that is no folder is TEXT, wherever it stands. Where all are folders, TEXT is left out if other
    terms say what to look for, and else the first. Raises UsageError where that cannot be meant."""
    folders, others = (
        [word for word in words if os.path.isdir(word)],
        [word for word in words if not os.path.isdir(word)],
    )
    if missing := _missing(others):
        if os.path.exists(missing):
            raise click.UsageError(f"{missing} is no folder. {_IMAGE}")
        advice = "" if any(" " in word for word in others) else f" {_QUOTES}"
        raise click.UsageError(f"Directory {missing!r} does not exist.{advice or ' Check the path.'}")
    if others:
        if os.path.isfile(others[0]):
            say(f"{others[0]} is a file, and looked for as words; --image {others[0]} looks for pictures like it")
        return Words(others[0], folders)
    if has_terms or not words:
        return Words(None, folders)
    first, *rest = words
    if not rest or _is_path(first):
        raise click.UsageError(
            f'{first} is a folder, and nothing says what to look for in it: diptych search "a red star" {first}. The '
            f"word itself is looked for by --text {os.path.basename(os.path.abspath(first))}."
        )
    say(f"looking for {first!r} in {', '.join(rest)}; the folder of that name is ./{first}")
    return Words(first, rest)


def no_such_option(error: click.NoSuchOption, words: Sequence[str]) -> str | None:
    """What to say where words begin with a dash, as in `search -dog`; None for what is rather a mistyped option."""
    word = next((word for word in words if word.startswith("-") and not word.startswith("--")), None)
    if error.option_name.startswith("--") or word is None or len(word) < 3:
        return None
    without = shlex.quote(word.lstrip("-"))
    return (
        f"{word} is no option. Words that begin with a dash come after --: diptych search -- {shlex.quote(word)}. What "
        f"to turn away from is said with --minus: --minus {without}"
    )


def _missing(others: Sequence[str]) -> str | None:
    """Of the words that are no folder the one that was rather meant as one."""
    paths = [word for word in others if _is_path(word)]
    if paths or len(others) < 2:
        return paths[0] if paths else None
    return next((word for word in (*others[1:], others[0]) if " " not in word), others[1])


def _is_path(word: str) -> bool:
    return word.startswith(("/", "./", "../", "~/")) or word.endswith("/") or word in (".", "..", "~")
