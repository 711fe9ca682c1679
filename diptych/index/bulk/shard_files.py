"""The files of a bulk job: npy shards of vectors, each with a table of its rows, and a record when it is whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from diptych.errors import DataError, JSONError
from diptych.failures import Failure
from diptych.index.update.precomputed import FINGERPRINT_KEY, MODEL_KEY, READING_KEY
from diptych.storage.atomic import atomic_write
from diptych.storage.lock import signature
from diptych.storage.output_files import subfolder
from diptych.untrusted.json import parse_json
from diptych.untrusted.regular_files import read_file
from diptych.versions import READING, TOKENIZING

if TYPE_CHECKING:
    from diptych.embedder import Embedder

JOB, LOCK = "job.json", ".lock"


@dataclass
class BulkResult:
    """What a job has written, with what it found from before: shards, rows, captions, and what could not be read;
    `links` is how many lead out of the folder and were not followed, `skipped` what is no pair, by reason."""

    shards: int = 0
    found: int = 0
    rows: int = 0
    texts: int = 0
    failures: dict[str, Failure] = field(default_factory=dict)
    links: int = 0
    skipped: dict[str, int] = field(default_factory=dict)


class ModelFacts(NamedTuple):
    """The model of a job: its `name`, its `fingerprint` and the dimensions of its vectors."""

    name: str
    fingerprint: str
    dim: int

    @classmethod
    def of(cls, model: Embedder) -> ModelFacts:
        """Those of an open model."""
        return cls(str(model.source), model.fingerprint, model.dim)


class EmbeddedRow(NamedTuple):
    """A picture's vector and its captions' vectors, (captions, dim). Its pixels are freed: a shard of them would take
    more than a gigabyte."""

    path: str
    captions: Sequence[str]
    width: int | None
    height: int | None
    vector: np.ndarray
    texts: np.ndarray


@dataclass(frozen=True)
class ShardFiles:
    """Files with one name. The .json file is written last and marks the shard as complete."""

    folder: Path
    name: str
    model: ModelFacts
    dtype: np.dtype

    def is_whole(self) -> bool:
        """Whether an earlier run has completed it."""
        return (self.folder / f"{self.name}.json").is_file()

    def count(self, written: BulkResult) -> None:
        """Add what its record says to the result."""
        count_record(self.folder / f"{self.name}.json", written)

    def write(
        self, rows: Sequence[EmbeddedRow], failures: Mapping[str, Failure], more: Mapping[str, Any] | None = None
    ) -> None:
        """Write the rows in this order; `more` goes into the record."""
        empty = np.empty((0, self.model.dim), np.float32)
        columns = {
            "path": [each.path for each in rows],
            "caption": [next(iter(each.captions), None) for each in rows],
            "width": [each.width for each in rows],
            "height": [each.height for each in rows],
        }
        self._table(self.folder, np.stack([row.vector for row in rows]) if rows else empty, columns)
        texts = np.concatenate([row.texts for row in rows]) if rows else empty
        if len(texts):
            captions = [(each.path, caption) for each in rows for caption in each.captions]
            columns = {"path": [path for path, _ in captions], "text": [caption for _, caption in captions]}
            self._table(self.folder / "texts", texts, columns)
        write_record(self.folder / f"{self.name}.json", len(rows), len(texts), failures, more)

    def _table(self, folder: Path, vectors: np.ndarray, columns: dict[str, list[Any]]) -> None:
        import pyarrow
        import pyarrow.parquet

        subfolder(folder)
        metadata = {
            MODEL_KEY: self.model.name,
            FINGERPRINT_KEY: self.model.fingerprint,
            READING_KEY: str(READING),
        }
        columns = {name: [_parquet_text(value) for value in values] for name, values in columns.items()}
        table = pyarrow.table(columns).replace_schema_metadata(metadata)
        _written_whole(folder / f"{self.name}.npy", lambda path: _save(path, vectors.astype(self.dtype)))
        _written_whole(folder / f"{self.name}.parquet", lambda path: pyarrow.parquet.write_table(table, path))


def _parquet_text(value: Any) -> Any:
    """Parquet stores Unicode only: stray bytes of a file's name become \\udc80 to \\udcff."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def write_record(
    path: Path, rows: int, texts: int, failures: Mapping[str, Failure], more: Mapping[str, Any] | None = None
) -> None:
    """Write the record that a shard is complete."""
    summary = {"rows": rows, "texts": texts, "failures": failures, **(more or {})}
    _written_whole(path, lambda part: part.write_text(json.dumps(summary), "utf-8"))


def count_record(path: Path, written: BulkResult) -> None:
    """Add what a record says to the result. Raises DataError for a damaged one."""
    record = read_record(path)
    try:
        written.shards += 1
        written.rows += int(record["rows"])
        written.texts += int(record["texts"])
        written.failures |= {key: Failure(*map(str, why)) for key, why in record["failures"].items()}
        for reason, number in record.get("skipped", {}).items():
            written.skipped[reason] = written.skipped.get(reason, 0) + int(number)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"{path} is damaged ({error!r:.100}); remove it, and the same command resumes.") from error


def read_record(path: Path) -> dict[str, Any]:
    """The JSON object that an earlier run wrote. Raises DataError if it is not one."""
    try:
        record = parse_json(read_file(path))
    except JSONError as error:
        raise DataError(f"{path} is damaged ({error}). Name a new folder, or remove this one.") from error
    if not isinstance(record, dict):
        raise DataError(f"{path} is damaged (it is not an object). Name a new folder, or remove this one.")
    return record


def _save(path: Path, vectors: np.ndarray) -> None:
    with path.open("wb") as file:  # given a name, numpy would append .npy
        np.save(file, vectors)


def _written_whole(path: Path, write: Callable[[Path], object]) -> None:
    """The file appears complete or not at all."""
    with atomic_write(path) as part:
        write(part)


def check_job(folder: Path, model: ModelFacts, job: Mapping[str, Any]) -> None:
    """Raises DataError unless the shards in the folder are those of this job, by this model and version."""
    job = {**job, "model": model.fingerprint, "version of reading": [READING, TOKENIZING]}
    path = folder / JOB
    if path.is_file():
        before = read_record(path)
        if changed := [key for key, value in job.items() if before.get(key) != value]:
            what = " and ".join(key.replace("_", " ") for key in changed)
            raise DataError(f"{folder} contains another job: its {what} differ. Name a new folder, or remove this one.")
    elif any(each.suffix != ".part" and each.name not in (LOCK, signature(LOCK)) for each in folder.iterdir()):
        raise DataError(f"{folder} contains other files and no {JOB}; nothing was written. Name a new folder.")
    else:
        _written_whole(path, lambda part: part.write_text(json.dumps(job), "utf-8"))
