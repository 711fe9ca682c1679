"""Embeds many pictures into npy shards, with Parquet tables of their rows, for other programs and `diptych index
--vectors`.

A job is divided into shards by its list of inputs, which is complete before it starts. A complete shard is never made
again, so an interrupted job resumes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from diptych.data.loading.stream import indexed
from diptych.data.samples import Source
from diptych.data.sources.opening import open_source
from diptych.embedder import Embedder
from diptych.errors import DataError, ImageError, JSONError
from diptych.extras import require
from diptych.failures import Failure
from diptych.index.update.precomputed import FINGERPRINT_KEY, MODEL_KEY, READING_KEY
from diptych.media.items import File
from diptych.media.preprocessing import Preprocess, resized_and_cropped
from diptych.media.reading.readers import ReaderPool
from diptych.media.scanning.scan import scan
from diptych.storage.atomic import atomic_write
from diptych.storage.lock import locked, signature
from diptych.storage.output_files import subfolder
from diptych.untrusted.json import parse_json
from diptych.untrusted.links import LEADS_OUT
from diptych.untrusted.regular_files import read_file
from diptych.versions import READING, TOKENIZING

SHARD_SIZE = 10_000
JOB, LOCK = "job.json", ".lock"
_BATCH = 32
_DATA_FILES = ("*.tar", "*.parquet", "dataset_info.json")  # a folder with one of these is a data set


class Input(NamedTuple):
    """A picture that was read: its `path` (or key, in a data set), its pixels at the tower's size or why it has none,
    its captions, and its own size in pixels if known."""

    path: str
    pixels: np.ndarray | Failure
    captions: Sequence[str] = ()
    width: int | None = None
    height: int | None = None


class Inputs(Protocol):
    """The inputs of a job: names in a fixed order, and the pictures of a range of them, in any order. `links` counts
    links that were not followed, `skipped` samples that are not pairs, by reason."""

    names: list[str]
    links: int
    skipped: dict[str, int]

    def read(self, start: int, stop: int) -> Iterator[Input]:
        """The inputs from `start` up to `stop`."""
        ...


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


def embed_in_bulk(
    model: Embedder,
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    shard_size: int = SHARD_SIZE,
    dtype: Literal["float16", "float32"] = "float16",
    follow_links: bool = False,
    allow_outside: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> BulkResult:
    """Write the vectors of every picture of `source` to the folder `out`, and those of captions to out/texts.

    `source` is a folder of pictures, or pairs as `diptych.train` takes them. 00000.npy is (rows, dim) of `dtype`, unit
    length; 00000.parquet has a row for each with `path`, `caption`, `width` and `height`, and the model's name and
    fingerprint in its metadata; 00000.json lists the inputs that could not be read. Called again, an interrupted job
    resumes. Links out of a folder of pictures are followed only with `follow_links`; pairs whose picture is outside the
    folder of pairs are read only with `allow_outside`. `progress` gets (done, total) in pictures. Raises DataError if
    `out` contains another job, IndexBusyError if another process runs this one.
    """
    require("the table beside the vectors", "pyarrow")
    inputs = open_inputs(source, model.preprocessing, follow_links=follow_links, allow_outside=allow_outside)
    folder = Path(out)
    if not inputs.names:
        raise DataError(
            f"{source} contains no pictures; wanted a folder of them, or pairs as `diptych train` reads them."
        )
    folder.mkdir(parents=True, exist_ok=True)
    _check_job(folder, model, inputs.names, shard_size, dtype)
    with locked(folder / LOCK, does=f"is writing to {folder}", remedy="Wait for it, or name another folder."):
        return _written(model, inputs, folder, shard_size, np.dtype(dtype), progress)


def _written(
    model: Embedder,
    inputs: Inputs,
    folder: Path,
    shard_size: int,
    dtype: np.dtype,
    progress: Callable[[int, int], None],
) -> BulkResult:
    total, written = len(inputs.names), BulkResult(links=inputs.links, skipped=dict(inputs.skipped))
    for number, start in enumerate(range(0, total, shard_size)):
        stop = min(start + shard_size, total)
        shard = _Shard(folder, f"{number:05}", model, dtype)
        if shard.is_whole():
            written.found += 1
        else:
            read = _reporting(inputs.read(start, stop), lambda done, start=start: progress(start + done, total))
            shard.write(list(_embedded(model, read)), order=inputs.names[start:stop])
        shard.count(written)
        progress(stop, total)
    return written


def _reporting(inputs: Iterator[Input], on_progress: Callable[[int], None]) -> Iterator[Input]:
    for done, each in enumerate(inputs, start=1):
        yield each
        on_progress(done)


def _check_job(folder: Path, model: Embedder, names: Sequence[str], shard_size: int, dtype: str) -> None:
    """Raises DataError unless shards in the folder have the same inputs, model and format."""
    listed = hashlib.blake2b("\0".join(names).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    job = {"inputs": listed, "model": model.fingerprint, "shard_size": shard_size, "dtype": dtype}
    job["version of reading"] = [READING, TOKENIZING]
    path = folder / JOB
    if path.is_file():
        before = _read_json(path)
        if changed := [key for key, value in job.items() if before.get(key) != value]:
            what = " and ".join(key.replace("_", " ") for key in changed)
            raise DataError(f"{folder} contains another job: its {what} differ. Name a new folder, or remove this one.")
    elif any(each.suffix != ".part" and each.name not in (LOCK, signature(LOCK)) for each in folder.iterdir()):
        raise DataError(f"{folder} contains other files and no {JOB}; nothing was written. Name a new folder.")
    else:
        _write_atomically(path, lambda part: part.write_text(json.dumps(job), "utf-8"))


class _EmbeddedRow(NamedTuple):
    """A picture's vector and its captions' vectors, (captions, dim). Its pixels are freed: a shard of them would take
    more than a gigabyte."""

    path: str
    captions: Sequence[str]
    width: int | None
    height: int | None
    vector: np.ndarray
    texts: np.ndarray


def _embedded(model: Embedder, inputs: Iterator[Input]) -> Iterator[_EmbeddedRow | Input]:
    """Rows, and inputs that failed, batch by batch."""
    while batch := list(islice(inputs, _BATCH)):
        good = [each for each in batch if not isinstance(each.pixels, Failure)]
        vectors = model.embed_pixels(np.stack([each.pixels for each in good])) if good else ()  # type: ignore[arg-type]
        captions = [caption for each in good for caption in each.captions]
        texts = model.embed_texts(captions, truncate=True) if captions else np.empty((0, model.dim), np.float32)
        ends = np.cumsum([len(each.captions) for each in good])
        for each, vector, end in zip(good, vectors, ends, strict=True):
            own = texts[end - len(each.captions) : end]
            yield _EmbeddedRow(each.path, each.captions, each.width, each.height, vector, own)
        yield from (each for each in batch if isinstance(each.pixels, Failure))


@dataclass(frozen=True)
class _Shard:
    """Files with one name. The .json file is written last and marks the shard as complete."""

    folder: Path
    name: str
    model: Embedder
    dtype: np.dtype

    def is_whole(self) -> bool:
        return (self.folder / f"{self.name}.json").is_file()

    def count(self, written: BulkResult) -> None:
        path = self.folder / f"{self.name}.json"
        record = _read_json(path)
        try:
            written.shards += 1
            written.rows += int(record["rows"])
            written.texts += int(record["texts"])
            written.failures |= {key: Failure(*map(str, why)) for key, why in record["failures"].items()}
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise DataError(f"{path} is damaged ({error!r:.100}); remove it, and the same command resumes.") from error

    def write(self, embedded: list[_EmbeddedRow | Input], *, order: Sequence[str]) -> None:
        row_position = {name: at for at, name in enumerate(order)}
        rows = sorted(
            (each for each in embedded if isinstance(each, _EmbeddedRow)), key=lambda row: row_position[row.path]
        )
        failures = {each.path: each.pixels for each in embedded if isinstance(each, Input)}
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
        summary = {"rows": len(rows), "texts": len(texts), "failures": failures}
        _write_atomically(self.folder / f"{self.name}.json", lambda path: path.write_text(json.dumps(summary), "utf-8"))

    def _table(self, folder: Path, vectors: np.ndarray, columns: dict[str, list[Any]]) -> None:
        import pyarrow
        import pyarrow.parquet

        subfolder(folder)
        metadata = {
            MODEL_KEY: str(self.model.source),
            FINGERPRINT_KEY: self.model.fingerprint,
            READING_KEY: str(READING),
        }
        columns = {name: [_parquet_text(value) for value in values] for name, values in columns.items()}
        table = pyarrow.table(columns).replace_schema_metadata(metadata)
        _write_atomically(folder / f"{self.name}.npy", lambda path: _save(path, vectors.astype(self.dtype)))
        _write_atomically(folder / f"{self.name}.parquet", lambda path: pyarrow.parquet.write_table(table, path))


def _parquet_text(value: Any) -> Any:
    """Parquet stores Unicode only: stray bytes of a file's name become \\udc80 to \\udcff."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _read_json(path: Path) -> dict[str, Any]:
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


def _write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """The file appears complete or not at all."""
    with atomic_write(path) as part:
        write(part)


def open_inputs(
    source: str | os.PathLike[str], spec: Preprocess, *, follow_links: bool = False, allow_outside: bool = False
) -> Inputs:
    """A folder of pictures, or pairs. Raises DataError or OSError if it is neither."""
    path = Path(source)
    if path.is_dir() and not any(next(path.glob(pattern), None) for pattern in _DATA_FILES):
        return _FolderInputs(path, spec, follow_links)
    found = open_source(source if isinstance(source, str) else path, allow_outside=allow_outside)
    return _PairInputs(indexed(found), spec)


class _FolderInputs:
    """The pictures of a folder, read as an index reads them."""

    def __init__(self, folder: Path, spec: Preprocess, follow_links: bool):
        self._folder, self._spec, self._follow_links = folder, spec, follow_links
        found = scan(folder, follow_links=follow_links)
        self._files: list[File] = sorted(file for file in found if file.kind == "picture")
        self.names, self.links = [file.path for file in self._files], found.skipped[LEADS_OUT]
        self.skipped: dict[str, int] = {}

    def read(self, start: int, stop: int) -> Iterator[Input]:
        with ReaderPool(self._folder, self._spec, follow_links=self._follow_links) as readers:
            for contents in readers.read(self._files[start:stop]):
                details, parts = contents.details, contents.parts
                pixels = next((part.pixels for part in parts if part.pixels is not None), None)
                captions = [part.text for part in parts if part.text]
                failure = contents.failure or Failure("no pictures", f"{contents.file.path}: it contains no picture.")
                pixels_or_failure = failure if pixels is None else pixels
                yield Input(contents.file.path, pixels_or_failure, captions, details.width, details.height)


class _PairInputs:
    """The samples of a data set, decoded on one thread per core."""

    def __init__(self, source: Source, spec: Preprocess):
        self._source, self._spec = source, spec
        self.names, self.links = [source.key(index) for index in range(len(source))], 0
        self.skipped = source.skipped

    def read(self, start: int, stop: int) -> Iterator[Input]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for batch in _batches(range(start, stop)):
                yield from pool.map(self._read, batch)

    def _read(self, index: int) -> Input:
        name = self.names[index]
        try:
            sample = self._source[index]
            return Input(name, resized_and_cropped(sample.image, self._spec, decode="fast"), sample.captions)
        except (ImageError, DataError, OSError) as error:
            return Input(name, Failure(getattr(error, "reason", type(error).__name__), f"{name}: {error}"))


def _batches(items: Iterable[int]) -> Iterator[list[int]]:
    items = iter(items)
    while batch := list(islice(items, _BATCH)):
        yield batch
