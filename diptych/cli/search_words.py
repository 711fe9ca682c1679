"""Tells the text to search for from the folders to search in, on the command line of a search."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import NamedTuple

import click

from diptych.cli.options import print_status
from diptych.index.stores.uri import is_store_uri

_IMAGE = "Wanted folders to search in; --image FILE searches by a picture."
_QUOTES = 'Put a sentence of several words in quotes: diptych search "a red star" photos/'


class SearchWords(NamedTuple):
    """TEXT, if any, and the folders as the user typed them."""

    text: str | None
    folders: list[str]


def split_text_and_folders(words: Sequence[str], *, has_terms: bool) -> SearchWords:
    """TEXT is the only word that is not a folder or an address of a store, at any position. If all words are, there is
    no TEXT if the query has other terms; otherwise TEXT is the first word. Raises UsageError for anything else."""
    folders = [word for word in words if _is_index(word)]
    others = [word for word in words if not _is_index(word)]
    if missing := _missing_folder(others):
        if os.path.exists(missing):
            raise click.UsageError(f"{missing} is not a folder. {_IMAGE}")
        advice = "" if any(" " in word for word in others) else f" {_QUOTES}"
        raise click.UsageError(f"Directory {missing!r} does not exist.{advice or ' Check the path.'}")
    if others:
        if os.path.isfile(others[0]):
            print_status(
                f"searching for the words {others[0]!r}; --image {others[0]} searches by the picture in that file"
            )
        return SearchWords(others[0], folders)
    if has_terms or not words:
        return SearchWords(None, folders)
    first, *rest = words
    if not rest or _is_path(first):
        raise click.UsageError(
            f'{first} is a folder. Add a text to search for: diptych search "a red star" {first}. To search for the '
            f"word itself: --text {os.path.basename(os.path.abspath(first))}."
        )
    print_status(f"searching for {first!r} in {', '.join(rest)}; the folder of that name is ./{first}")
    return SearchWords(first, rest)


def _is_index(word: str) -> bool:
    """Whether a word is a folder, or the address of a store."""
    return is_store_uri(word) or os.path.isdir(word)


def no_such_option(error: click.NoSuchOption, words: Sequence[str]) -> str | None:
    """A hint for words that begin with a dash, as in `search -dog`; None for what looks like a mistyped option."""
    word = next((word for word in words if word.startswith("-") and not word.startswith("--")), None)
    if error.option_name.startswith("--") or word is None or len(word) < 3:
        return None
    without = shlex.quote(word.lstrip("-"))
    return (
        f"{word} is not an option. Put words that begin with a dash after --: diptych search -- {shlex.quote(word)}. "
        f"To search for the opposite: --minus {without}"
    )


def _missing_folder(others: Sequence[str]) -> str | None:
    """Among words that are not folders, the one that was probably meant as a folder."""
    paths = [word for word in others if _is_path(word)]
    if paths or len(others) < 2:
        return paths[0] if paths else None
    return next((word for word in (*others[1:], others[0]) if " " not in word), others[1])


def _is_path(word: str) -> bool:
    return word.startswith(("/", "./", "../", "~/")) or word.endswith("/") or word in (".", "..", "~")
