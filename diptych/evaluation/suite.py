"""Runs a suite for one model: every task of every data set."""

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
from diptych.display.plots import thumbnail
from diptych.embedder import Embedder
from diptych.errors import DataError, ImageError
from diptych.evaluation import results
from diptych.evaluation.sets.dataset import CaptionedDataset, Dataset, DatasetKind, LabelledDataset, PictureDataset
from diptych.evaluation.sets.generators import open_generated
from diptych.evaluation.sets.opening import open_set, training_set
from diptych.evaluation.shifts import BaseDataset, base_accuracy, open_base
from diptych.evaluation.suite_file import SuiteEntry, shift_bases
from diptych.evaluation.tasks.job import EXPECTED, OWN_TEMPLATES, EvaluationJob, Example, TaskResult
from diptych.evaluation.tasks.task_table import TASKS
from diptych.generation.sheets import enlarged
from diptych.scoring.zero_shot import load_templates
from diptych.storage.atomic import atomic_write
from diptych.storage.lock import locked
from diptych.storage.output_files import subfolder
from diptych.versions import READING, TOKENIZING

DETAILS, THUMBS, VECTORS, LOCK = "details", "details/thumbs", "vectors", ".lock"
THUMB_PX = 128
USUAL = {"classes": ("zero-shot",), "pairs": ("retrieval",), "pictures": ("cmmd",), "generator": ("scene-attributes",)}


def run(
    model: Embedder,
    entries: Sequence[SuiteEntry],
    out: str | os.PathLike[str],
    *,
    name: str = "bundled",
    command: str = "",
    progress: Sequence[Callable[[int, int], None]] = (),
    on_row: Callable[[results.ResultRow], None] = lambda row: None,
) -> list[results.ResultRow]:
    """Runs every task of every data set and appends each row to OUT/results.jsonl. Existing rows are not computed
    again. `name` is the model's name in the rows, `command` the command that reproduces them; `progress` has a function
    for each entry, called with (done, total) pictures; `on_row` is called with each new row.

    Returns this model's row for each task, old or new. A missing or damaged data set gives rows with an error. Raises
    IndexBusyError if another process writes to `out`.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK, does=f"is writing to {folder}", remedy="Wait for it, or name another folder."):
        stored = results.begin(folder, name, {entry.name for entry in entries})
        done = {row["key"]: row for row in stored}
        runner = _Runner(model, name, command, folder, on_row, done, shift_bases(entries))
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
    on_row: Callable[[results.ResultRow], None]
    done: dict[str, results.ResultRow]
    shift_bases: dict[str, SuiteEntry]
    opened: dict[str, BaseDataset] = field(default_factory=dict)
    reported: set[tuple[str, str]] = field(default_factory=set)

    def entry(self, entry: SuiteEntry, progress: Callable[[int, int], None]) -> list[results.ResultRow]:
        started = time.time()
        try:
            job = self._job(entry, progress)
        except EXPECTED as error:
            names = entry.tasks or USUAL[entry.kind or "classes"]
            return [self._failed(entry, task, {"split": entry.split}, error, started) for task in names]
        kinds: dict[type, DatasetKind] = {CaptionedDataset: "pairs", PictureDataset: "pictures"}
        usual = USUAL["generator" if entry.kind == "generator" else kinds.get(type(job.data), "classes")]
        return [self._task(entry, job, task) for task in entry.tasks or usual]

    def _job(self, entry: SuiteEntry, progress: Callable[[int, int], None]) -> EvaluationJob:
        if entry.kind == "generator":
            data = open_generated(entry.source, entry.drawing)
        else:
            data = open_set(entry.source, split=entry.split, kind=entry.kind, allow_outside=entry.allow_outside)
        training = {"probe", "few-shot"} & set(entry.tasks or ())
        train = (
            training_set(entry.source, allow_outside=entry.allow_outside)
            if training and isinstance(data, LabelledDataset)
            else None
        )
        if train is not None and train.pictures.split == data.pictures.split:
            train = None  # the training split itself is evaluated, so it is halved
        own = data.templates if isinstance(data, LabelledDataset) else ()
        templates = entry.templates or (OWN_TEMPLATES if own else "general")
        prompts = own if templates == OWN_TEMPLATES else load_templates(templates)
        cache = self.folder / VECTORS
        job = EvaluationJob(self.model, data, train, templates, prompts, entry.seed, cache, progress)
        job.reference = _reference(entry)
        job.drawing = entry.drawing.settings() if entry.kind == "generator" else {}
        return job

    def _base(self, entry: SuiteEntry) -> BaseDataset | None:
        """The base data set of a shift, opened once for all its shifts."""
        if (base := self.shift_bases.get(entry.name)) is None:
            return None
        if base.name not in self.opened:
            self.opened[base.name] = open_base(base)
        return self.opened[base.name]

    def _task(self, entry: SuiteEntry, job: EvaluationJob, task: str) -> results.ResultRow:
        does = TASKS[task]
        started, settings = time.time(), job.settings()
        try:
            settings |= does.settings(job)
            base = self._base(entry) if task == "zero-shot" else None
            dependencies = job.dependencies() + (base.dependencies() if base else [])
            key = key_of(self.model.fingerprint, entry.name, task, settings, dependencies)
            if (stored := self.done.get(key)) is not None and stored.get("error") is None:
                return stored
            outcome = does.run(job)
            if base is not None:
                outcome.details["base"] = base_accuracy(job, base)
        except EXPECTED as error:
            return self._failed(entry, task, settings, error, started)
        row = self._row(entry, task, settings, started, key)
        return self._add(row | self._stored(outcome, job, row), started)

    def _failed(
        self, entry: SuiteEntry, task: str, settings: dict[str, Any], error: Exception, started: float
    ) -> results.ResultRow:
        key = key_of(self.model.fingerprint, entry.name, task, settings, [entry.source, "error"])
        empty = {"metrics": {}, "count": 0, "failures": {}, "details": {}, "error": _in_words(error)}
        return self._add(self._row(entry, task, settings, started, key) | empty, started)

    def _row(
        self, entry: SuiteEntry, task: str, settings: dict[str, Any], started: float, key: str
    ) -> results.ResultRow:
        return {
            "key": key,
            "task": task,
            "dataset": entry.name,
            "source": entry.source,
            "shift_of": base.name if (base := self.shift_bases.get(entry.name)) else None,
            "command": self.command,
            "model": self.name,
            "fingerprint": self.model.fingerprint,
            "settings": settings,
            "started": datetime.fromtimestamp(started).isoformat(timespec="seconds"),
            "version": __version__,
            "engine": self.model.engine.describe(),
            "error": None,
        }

    def _stored(self, outcome: TaskResult, job: EvaluationJob, row: results.ResultRow) -> dict[str, Any]:
        """The remaining fields of the row; writes its .npz and thumbnails."""
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
        if job.data.description:
            details["said"] = job.data.description
        return {
            "metrics": outcome.metrics,
            "count": outcome.count,
            "failures": outcome.failures,
            "details": details,
        }

    def _example(self, job: EvaluationJob, example: Example, name: str) -> dict[str, Any] | None:
        thumbnail_path = f"{THUMBS}/{name}.jpg"
        try:
            small = thumbnail(job.data.pictures.read(example.index), THUMB_PX)
            small = enlarged(small, max(1, THUMB_PX // max(small.size)))  # else a browser blurs what it enlarges
            with atomic_write(self.folder / thumbnail_path, durable=False) as part:
                small.save(part, "JPEG", quality=85)
        except (ImageError, DataError, OSError):
            return None
        return {"image": thumbnail_path, "truth": example.truth, "said": example.predicted, "score": example.score}

    def _add(self, row: results.ResultRow, started: float) -> results.ResultRow:
        row = results.plain(row | {"seconds": round(time.time() - started, 2)})
        results.append(self.folder, row)
        self.done[row["key"]] = row
        error = (row["dataset"], row["error"])
        if row["error"] is None or error not in self.reported:  # one report for all tasks of a missing data set
            self.on_row(row)
        self.reported.add(error)
        return row


def _reference(entry: SuiteEntry) -> tuple[str, Dataset] | None:
    """The reference pictures of an entry: those of a folder, or of a data set of another form."""
    if entry.reference is None:
        return None
    kind: DatasetKind | None = "pictures" if os.path.isdir(entry.reference) else None
    try:
        return entry.reference, open_set(entry.reference, kind=kind, allow_outside=entry.allow_outside)
    except DataError as error:
        raise DataError(f"the reference: {error}") from error


def key_of(fingerprint: str, dataset: str, task: str, settings: dict[str, Any], dependencies: Sequence[str]) -> str:
    """16 hex digits that two rows share only if their metrics would be the same."""
    parts = (fingerprint, READING, TOKENIZING, dataset, task, sorted(settings.items()), list(dependencies))
    return hashlib.blake2b(repr(parts).encode("utf-8", "replace"), digest_size=8).hexdigest()


def _in_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}."
    return str(error) or type(error).__name__
