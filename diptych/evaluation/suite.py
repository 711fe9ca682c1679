"""A suite: data sets with their tasks, from a TOML file, and a run of it for one model.

[[dataset]]
name = "digits"
source = "data/digits"     # counts from the suite's own folder; or a known name
kind = "classes"           # or "pairs"; guessed where it is left out
split = "test"             # by default the first of test, val, ... that the set has
tasks = ["zero-shot", "probe", "few-shot", "corruptions"]
templates = "general"      # a name or a file, see zero_shot.load_templates; by default the set's own, or "general"
seed = 0
shift_of = "NAME"          # the data set of this suite whose classes this one has on other pictures; by default known
                           # for named sets, such as imagenet-r beside imagenet-1k
"""

from __future__ import annotations

import hashlib
import os
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from diptych import __version__
from diptych.display.plots import thumbnail
from diptych.embedder import Embedder
from diptych.errors import ArgumentError, DataError, ImageError
from diptych.evaluation import results
from diptych.evaluation.sets.sets import Kind, Labelled, Pairs, open_set, training_set
from diptych.evaluation.sets.shifts import Base, bases, on_base, open_base
from diptych.evaluation.tasks.tasks import EXPECTED, OWN_TEMPLATES, Example, Job, Outcome, tasks
from diptych.scoring.zero_shot import load_templates
from diptych.storage.atomic import atomic_write
from diptych.storage.lock import locked
from diptych.storage.output_files import subfolder
from diptych.versions import READING, TOKENIZING

DETAILS, THUMBS, VECTORS, LOCK = "details", "details/thumbs", "vectors", ".lock"
THUMB_PX = 128
USUAL = {"classes": ("zero-shot",), "pairs": ("retrieval",)}


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
            if name not in tasks():
                raise ArgumentError(
                    f"the data set {self.name!r} has the task {name!r}; there are {', '.join(tasks())}."
                )


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
    from diptych.evaluation.sets.named import NAMED

    place = folder / source
    return source if "://" in source or (source in NAMED and not place.exists()) else os.fspath(place)


def run(
    model: Embedder,
    entries: Sequence[Entry],
    out: str | os.PathLike[str],
    *,
    name: str = "bundled",
    command: str = "",
    progress: Sequence[Callable[[int, int], None]] = (),
    tell: Callable[[results.Row], None] = lambda row: None,
) -> list[results.Row]:
    """Every task of every data set, with rows appended to OUT/results.jsonl as they are made; what is there already is
    skipped. `name` is what the rows call the model, `command` what makes them again; `progress` has one for each entry,
    and is told (done, total) in pictures; `tell` is given each new row.

    Returns this model's row for each task, old or new. A set that is missing or damaged gives rows with an error.
    Raises IndexBusyError where another process writes to `out`.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK, does=f"is writing to {folder}", remedy="Wait for it, or name another folder."):
        kept = results.begin(folder, name, {entry.name for entry in entries})
        done = {row["key"]: row for row in kept}
        runner = _Runner(model, name, command, folder, tell, done, bases(entries))
        rows = []
        for at, entry in enumerate(entries):
            rows += runner.entry(entry, progress[at] if progress else lambda done, total: None)
        return rows


@dataclass
class _Runner:
    model: Embedder
    name: str
    command: str
    folder: Path
    tell: Callable[[results.Row], None]
    done: dict[str, results.Row]
    bases: dict[str, Entry]
    opened: dict[str, Base] = field(default_factory=dict)
    told: set[tuple[str, str]] = field(default_factory=set)

    def entry(self, entry: Entry, progress: Callable[[int, int], None]) -> list[results.Row]:
        started = time.time()
        try:
            job = self._job(entry, progress)
        except EXPECTED as error:
            names = entry.tasks or USUAL[entry.kind or "classes"]
            return [self._failed(entry, task, {"split": entry.split}, error, started) for task in names]
        usual = USUAL["pairs" if isinstance(job.data, Pairs) else "classes"]
        return [self._task(entry, job, task) for task in entry.tasks or usual]

    def _job(self, entry: Entry, progress: Callable[[int, int], None]) -> Job:
        data = open_set(entry.source, split=entry.split, kind=entry.kind, allow_outside=entry.allow_outside)
        training = {"probe", "few-shot"} & set(entry.tasks or ())
        train = (
            training_set(entry.source, allow_outside=entry.allow_outside)
            if training and isinstance(data, Labelled)
            else None
        )
        if train is not None and train.pictures.split == data.pictures.split:
            train = None  # asked for the training split itself: halves of it
        own = data.templates if isinstance(data, Labelled) else ()
        templates = entry.templates or (OWN_TEMPLATES if own else "general")
        prompts = own if templates == OWN_TEMPLATES else load_templates(templates)
        cache = self.folder / VECTORS
        return Job(self.model, data, train, templates, prompts, entry.seed, cache, progress)

    def _base(self, entry: Entry) -> Base | None:
        """What this is a shift of, opened once for all its shifts."""
        if (base := self.bases.get(entry.name)) is None:
            return None
        if base.name not in self.opened:
            self.opened[base.name] = open_base(base)
        return self.opened[base.name]

    def _task(self, entry: Entry, job: Job, task: str) -> results.Row:
        does = tasks()[task]
        started, settings = time.time(), job.settings()
        try:
            settings |= does.settings(job)
            base = self._base(entry) if task == "zero-shot" else None
            made_of = job.made_of() + (base.made_of() if base else [])
            key = key_of(self.model.fingerprint, entry.name, task, settings, made_of)
            if (kept := self.done.get(key)) is not None and kept.get("error") is None:
                return kept
            outcome = does.run(job)
            if base is not None:
                outcome.details["base"] = on_base(job, base)
        except EXPECTED as error:
            return self._failed(entry, task, settings, error, started)
        row = self._row(entry, task, settings, started, key)
        return self._add(row | self._kept(outcome, job, row), started)

    def _failed(
        self, entry: Entry, task: str, settings: dict[str, Any], error: Exception, started: float
    ) -> results.Row:
        key = key_of(self.model.fingerprint, entry.name, task, settings, [entry.source, "error"])
        empty = {"metrics": {}, "count": 0, "failures": {}, "details": {}, "error": _in_words(error)}
        return self._add(self._row(entry, task, settings, started, key) | empty, started)

    def _row(self, entry: Entry, task: str, settings: dict[str, Any], started: float, key: str) -> results.Row:
        return {
            "key": key,
            "task": task,
            "dataset": entry.name,
            "source": entry.source,
            "shift_of": base.name if (base := self.bases.get(entry.name)) else None,
            "command": self.command,
            "model": self.name,
            "fingerprint": self.model.fingerprint,
            "settings": settings,
            "started": datetime.fromtimestamp(started).isoformat(timespec="seconds"),
            "version": __version__,
            "engine": self.model.engine.describe(),
            "error": None,
        }

    def _kept(self, outcome: Outcome, job: Job, row: results.Row) -> dict[str, Any]:
        """What goes into the row, and into files beside it."""
        key = row["key"]
        for below in (DETAILS, THUMBS):
            subfolder(self.folder / below)
        path = f"{DETAILS}/{key}.npz"
        identity = np.array(job.data.pictures.identity)
        with atomic_write(self.folder / path) as part, part.open("wb") as file:
            np.savez_compressed(file, identity=identity, **outcome.per_item)  # type: ignore[arg-type]
        shown = {
            side: [each for at, one in enumerate(examples) if (each := self._example(job, one, f"{key}-{side}-{at}"))]
            for side, examples in (("best", outcome.best), ("worst", outcome.worst))
        }
        details = {**outcome.details, "per_item": path, **shown}
        if "templates" in row["settings"]:
            details["prompts"] = list(job.prompts)
        if outcome.failures:
            details["left_out"] = list(job.left_out.values())
        if job.data.said:
            details["said"] = job.data.said
        return {
            "metrics": outcome.metrics,
            "count": outcome.count,
            "failures": outcome.failures,
            "details": details,
        }

    def _example(self, job: Job, example: Example, name: str) -> dict[str, Any] | None:
        place = f"{THUMBS}/{name}.jpg"
        try:
            small = thumbnail(job.data.pictures.read(example.place), THUMB_PX)
            with atomic_write(self.folder / place, durable=False) as part:
                small.save(part, "JPEG", quality=85)
        except (ImageError, DataError, OSError):
            return None
        return {"image": place, "truth": example.truth, "said": example.said, "score": example.score}

    def _add(self, row: results.Row, started: float) -> results.Row:
        row = results.plain(row | {"seconds": round(time.time() - started, 2)})
        results.append(self.folder, row)
        self.done[row["key"]] = row
        said = (row["dataset"], row["error"])
        if row["error"] is None or said not in self.told:  # a set that is missing is missing for all its tasks
            self.tell(row)
        self.told.add(said)
        return row


def key_of(fingerprint: str, dataset: str, task: str, settings: dict[str, Any], made_of: Sequence[str]) -> str:
    """16 hex digits that two rows share only where their numbers would be the same."""
    said = (fingerprint, READING, TOKENIZING, dataset, task, sorted(settings.items()), list(made_of))
    return hashlib.blake2b(repr(said).encode("utf-8", "replace"), digest_size=8).hexdigest()


def _in_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}."
    return str(error) or type(error).__name__
