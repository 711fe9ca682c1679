"""A suite file: data sets and their tasks, in TOML.

[[dataset]]
name = "digits"
source = "data/digits"     # relative to the suite's folder; or a known name
kind = "classes"           # or "pairs"; inferred by default. "pictures" is a folder of pictures alone, "generator" one
                           # that `diptych generate train` made ("bundled" is ours), which draws held-out captions
split = "test"             # by default the first of test, val, ... that exists
tasks = ["zero-shot", "probe", "few-shot", "corruptions"]
templates = "general"      # a name or a file, see zero_shot.templates_of; by default the set's own, or "general"
seed = 0
shift_of = "NAME"          # the data set of this suite that has the same classes on other pictures; by default known
                           # for named data sets, such as imagenet-r and imagenet-1k
reference = "data/true"    # the true pictures that "cmmd" compares with: a folder of pictures, or any data set
guidance = 4.0             # of a generator, with steps = 30, sampler = "dpm" and count = 200 pictures
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from diptych.errors import ArgumentError
from diptych.evaluation.sets.dataset import DatasetKind
from diptych.evaluation.sets.generators import NAME as BUNDLED_GENERATOR
from diptych.evaluation.sets.generators import Drawing
from diptych.evaluation.sets.named_datasets import NAMED
from diptych.evaluation.tasks.task_table import TASKS
from diptych.generation.steps import SAMPLERS, Sampler

_OF_GENERATORS = ("guidance", "steps", "sampler", "count")


@dataclass(frozen=True)
class SuiteEntry:
    """A data set of a suite, with the keys of the file; see the top of this module. Raises ArgumentError."""

    name: str
    source: str
    kind: DatasetKind | Literal["generator"] | None = None
    split: str | None = None
    tasks: tuple[str, ...] | None = None
    templates: str | None = None
    seed: int = 0
    shift_of: str | None = None
    reference: str | None = None
    guidance: float | None = None
    steps: int | None = None
    sampler: Sampler | None = None
    count: int | None = None
    allow_outside: bool = False

    def __post_init__(self) -> None:
        if self.kind not in (None, "classes", "pairs", "pictures", "generator"):
            raise ArgumentError(
                f"the data set {self.name!r} is of kind {self.kind!r}; wanted classes, pairs, pictures or generator."
            )
        given = [name for name in _OF_GENERATORS if getattr(self, name) is not None]
        if given and self.kind != "generator":
            raise ArgumentError(f'the data set {self.name!r} has {given[0]}, which is for kind = "generator".')
        if self.sampler not in (None, *SAMPLERS):
            raise ArgumentError(
                f"the data set {self.name!r} has the sampler {self.sampler!r}; wanted {' or '.join(SAMPLERS)}."
            )
        for name in self.tasks or ():
            if name not in TASKS:
                raise ArgumentError(f"the data set {self.name!r} has the task {name!r}; there are {', '.join(TASKS)}.")

    @property
    def drawing(self) -> Drawing:
        """How the pictures of a generator are drawn. Raises ArgumentError for a number outside its range."""
        given = {name: value for name in _OF_GENERATORS if (value := getattr(self, name)) is not None}
        return Drawing(**given, seed=self.seed)


def read_suite(path: str | os.PathLike[str], *, allow_outside: bool = False) -> list[SuiteEntry]:
    """The data sets of a suite file, to be opened with `allow_outside`. Raises OSError if the file cannot be read, and
    ArgumentError for an unknown key or task, a missing key, or a repeated name."""
    with open(path, "rb") as file:
        try:
            content = tomllib.load(file)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ArgumentError(f"{path} is not TOML ({error}).") from error
    if unknown := sorted(content.keys() - {"dataset"}):
        raise ArgumentError(f"{path} has the key {unknown[0]!r}; a suite has only [[dataset]] tables.")
    tables = content.get("dataset")
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise ArgumentError(f"{path} names no data sets; wanted a [[dataset]] table for each, with name and source.")
    entries = [replace(_entry(table, Path(path)), allow_outside=allow_outside) for table in tables]
    names = [entry.name for entry in entries]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ArgumentError(f"{path} has two data sets called {twice[0]!r}; give them different names.")
    shift_bases(entries)  # raises ArgumentError
    return entries


def shift_bases(entries: Sequence[SuiteEntry]) -> dict[str, SuiteEntry]:
    """The base entry of each shifted data set, by its name: `shift_of` in the suite, else the base in NAMED if the
    suite has it. Raises ArgumentError for a base that the suite does not have."""
    found = {}
    for entry in entries:
        known = NAMED[entry.source].shift_of if entry.source in NAMED else None
        if entry.shift_of is not None:
            base = next((each for each in entries if each.name == entry.shift_of), None)
            if base is None or base is entry:
                others = ", ".join(each.name for each in entries if each is not entry)
                raise ArgumentError(
                    f"the data set {entry.name!r} has shift_of = {entry.shift_of!r}; the suite's other sets "
                    f"are {others or 'none'}."
                )
        else:
            base = next((each for each in entries if known and each.source == known), None)
        if base is not None:
            found[entry.name] = base
    return found


_TYPES = {"tasks": list, "seed": int, "guidance": float, "steps": int, "count": int}


def _entry(table: dict[str, Any], path: Path) -> SuiteEntry:
    known = [each.name for each in fields(SuiteEntry) if each.name != "allow_outside"]  # not a key of the file
    called = f"{path}, data set {table.get('name', '')!r}:"
    for key, value in table.items():
        if key not in known:
            raise ArgumentError(f"{called} unknown key {key!r}; the keys are {', '.join(known)}.")
        wanted = _TYPES.get(key, str)
        if type(value) is not wanted and not (wanted is float and type(value) is int):
            raise ArgumentError(f"{called} {key} is {value!r}; wanted a {wanted.__name__}.")
    if missing := [key for key in ("name", "source") if not table.get(key)]:
        raise ArgumentError(f"{called} has no {missing[0]}; wanted name and source.")
    paths = {key: _located(table[key], path.parent) for key in ("source", "reference") if key in table}
    if table.get("kind") == "generator" and table["source"] == BUNDLED_GENERATOR:
        paths["source"] = BUNDLED_GENERATOR
    given: dict[str, Any] = table | paths
    if "tasks" in table:
        given["tasks"] = tuple(table["tasks"])
    if (templates := table.get("templates")) and (path.parent / templates).is_file():
        given["templates"] = os.fspath(path.parent / templates)
    return SuiteEntry(**given)


def _located(source: str, folder: Path) -> str:
    """The source, a path relative to the suite's folder; known names and addresses stay."""
    path = folder / source
    return source if "://" in source or (source in NAMED and not path.exists()) else os.fspath(path)
