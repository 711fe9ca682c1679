"""A run of a suite for one model: every task of every data set."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from diptych import __version__
from diptych.data.samples import DataError
from diptych.display.plots import thumbnail
from diptych.embedder import Embedder
from diptych.evaluation import results
from diptych.evaluation.sets.dataset import Labelled, Pairs
from diptych.evaluation.sets.opening import open_set, training_set
from diptych.evaluation.shifts import Base, on_base, open_base
from diptych.evaluation.suite_file import Entry, bases
from diptych.evaluation.tasks.job import EXPECTED, OWN_TEMPLATES, Example, Job, Outcome
from diptych.evaluation.tasks.task_table import TASKS
from diptych.media.images import ImageError
from diptych.scoring.zero_shot import templates_of
from diptych.storage.lock import locked
from diptych.storage.output_files import replacing, subfolder
from diptych.versions import READING, TOKENIZING

DETAILS, THUMBS, VECTORS, LOCK = "details", "details/thumbs", "vectors", ".lock"
THUMB_PX = 128
USUAL = {"classes": ("zero-shot",), "pairs": ("retrieval",)}


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
        prompts = own if templates == OWN_TEMPLATES else templates_of(templates)
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
        does = TASKS[task]
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
        with replacing(self.folder / path) as part, part.open("wb") as file:
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
            with replacing(self.folder / place) as part:
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
