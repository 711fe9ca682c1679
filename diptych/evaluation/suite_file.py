"""A suite: data sets with their tasks, from a TOML file.

[[dataset]]
name = "digits"
source = "data/digits"     # counts from the suite's own folder; or a known name
kind = "classes"           # or "pairs"; guessed where it is left out
split = "test"             # by default the first of test, val, ... that the set has
tasks = ["zero-shot", "probe", "few-shot", "corruptions"]
templates = "general"      # a name or a file, see zero_shot.templates_of; by default the set's own, or "general"
seed = 0
shift_of = "NAME"          # the data set of this suite whose classes this one has on other pictures; by default known
                           # for named sets, such as imagenet-r beside imagenet-1k
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from diptych.errors import ArgumentError
from diptych.evaluation.sets.dataset import Kind
from diptych.evaluation.sets.named_datasets import NAMED
from diptych.evaluation.tasks.task_table import TASKS


@dataclass(frozen=True)
class Entry:
    """A data set of a suite, as its file says it; see the head of this module. Raises ArgumentError that names what is
    wrong."""

    name: str
    source: str
    kind: Kind | None = None
    split: str | None = None
    tasks: tuple[str, ...] | None = None
    templates: str | None = None
    seed: int = 0
    shift_of: str | None = None
    allow_outside: bool = False

    def __post_init__(self) -> None:
        if self.kind not in (None, "classes", "pairs"):
            raise ArgumentError(f"the data set {self.name!r} is of kind {self.kind!r}; wanted classes or pairs.")
        for name in self.tasks or ():
            if name not in TASKS:
                raise ArgumentError(f"the data set {self.name!r} has the task {name!r}; there are {', '.join(TASKS)}.")


def read_suite(path: str | os.PathLike[str], *, allow_outside: bool = False) -> list[Entry]:
    """The data sets of a suite file, to be opened with `allow_outside`. Raises OSError where it cannot be read, and
    ValueError that names an unknown key or task, a missing one, or a name that comes twice."""
    with open(path, "rb") as file:
        try:
            said = tomllib.load(file)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ArgumentError(f"{path} is no TOML ({error}).") from error
    if unknown := sorted(said.keys() - {"dataset"}):
        raise ArgumentError(f"{path} has the key {unknown[0]!r}; a suite has [[dataset]] tables alone.")
    tables = said.get("dataset")
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise ArgumentError(f"{path} names no data sets; wanted a [[dataset]] table for each, with name and source.")
    entries = [replace(_entry(table, Path(path)), allow_outside=allow_outside) for table in tables]
    names = [entry.name for entry in entries]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ArgumentError(f"{path} has two data sets called {twice[0]!r}; give each a name of its own.")
    bases(entries)  # fails by name
    return entries


def bases(entries: Sequence[Entry]) -> dict[str, Entry]:
    """What each shifted set is a shift of, by the shifted one's name: as the suite says, and else as `named.NAMED`
    knows, where the suite has that set. Raises ArgumentError for a base that it has not."""
    found = {}
    for entry in entries:
        known = NAMED[entry.source].shift_of if entry.source in NAMED else None
        if entry.shift_of is not None:
            base = next((each for each in entries if each.name == entry.shift_of), None)
            if base is None or base is entry:
                others = ", ".join(each.name for each in entries if each is not entry)
                raise ArgumentError(
                    f"the data set {entry.name!r} is said to be a shift of {entry.shift_of!r}; the suite's other sets "
                    f"are {others or 'none'}."
                )
        else:
            base = next((each for each in entries if known and each.source == known), None)
        if base is not None:
            found[entry.name] = base
    return found


_TYPES = {"tasks": list, "seed": int}


def _entry(table: dict[str, Any], path: Path) -> Entry:
    known = [each.name for each in fields(Entry) if each.name != "allow_outside"]  # for people to say, not for files
    called = f"{path}, data set {table.get('name', '')!r}:"
    for key, value in table.items():
        if key not in known:
            raise ArgumentError(f"{called} unknown key {key!r}; the keys are {', '.join(known)}.")
        wanted = _TYPES.get(key, str)
        if type(value) is not wanted:
            raise ArgumentError(f"{called} {key} is {value!r}; wanted a {wanted.__name__}.")
    if missing := [key for key in ("name", "source") if not table.get(key)]:
        raise ArgumentError(f"{called} has no {missing[0]}; wanted name and source.")
    given: dict[str, Any] = table | {"source": _located(table["source"], path.parent)}
    if "tasks" in table:
        given["tasks"] = tuple(table["tasks"])
    if (templates := table.get("templates")) and (path.parent / templates).is_file():
        given["templates"] = os.fspath(path.parent / templates)
    return Entry(**given)


def _located(source: str, folder: Path) -> str:
    """A path counts from the suite's folder; a known name and an address are what they are."""
    place = folder / source
    return source if "://" in source or (source in NAMED and not place.exists()) else os.fspath(place)
