"""Embeds many pictures into npy shards, with Parquet tables of their rows, for other programs and `diptych index
--vectors`.

A job is divided into shards by its list of inputs, which is complete before it starts. A complete shard is never made
again, so an interrupted job resumes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np

from diptych.data.loading.stream import indexed
from diptych.data.samples import Source
from diptych.data.sources.opening import open_source
from diptych.embedder import Embedder
from diptych.errors import DataError, ImageError
from diptych.extras import require
from diptych.failures import Failure
from diptych.index.bulk.shard_files import LOCK, BulkResult, EmbeddedRow, ModelFacts, ShardFiles, check_job
from diptych.media.items import File
from diptych.media.preprocessing import Preprocess, resized_and_cropped
from diptych.media.reading.readers import ReaderPool
from diptych.media.scanning.scan import scan
from diptych.storage.lock import locked
from diptych.untrusted.links import LEADS_OUT

SHARD_SIZE = 10_000
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
    listed = hashlib.blake2b("\0".join(inputs.names).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    check_job(folder, ModelFacts.of(model), {"inputs": listed, "shard_size": shard_size, "dtype": dtype})
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
    facts, total = ModelFacts.of(model), len(inputs.names)
    written = BulkResult(links=inputs.links, skipped=dict(inputs.skipped))
    for number, start in enumerate(range(0, total, shard_size)):
        stop = min(start + shard_size, total)
        shard = ShardFiles(folder, f"{number:05}", facts, dtype)
        if shard.is_whole():
            written.found += 1
        else:
            read = _reporting(inputs.read(start, stop), lambda done, start=start: progress(start + done, total))
            _write(shard, list(_embedded(model, read)), inputs.names[start:stop])
        shard.count(written)
        progress(stop, total)
    return written


def _write(shard: ShardFiles, embedded: list[EmbeddedRow | Input], order: Sequence[str]) -> None:
    position = {name: at for at, name in enumerate(order)}
    rows = sorted((each for each in embedded if isinstance(each, EmbeddedRow)), key=lambda row: position[row.path])
    shard.write(rows, {each.path: each.pixels for each in embedded if isinstance(each, Input)})  # type: ignore[misc]


def _reporting(inputs: Iterator[Input], on_progress: Callable[[int], None]) -> Iterator[Input]:
    for done, each in enumerate(inputs, start=1):
        yield each
        on_progress(done)


def _embedded(model: Embedder, inputs: Iterator[Input]) -> Iterator[EmbeddedRow | Input]:
    """Rows, and inputs that failed, batch by batch."""
    while batch := list(islice(inputs, _BATCH)):
        good = [each for each in batch if not isinstance(each.pixels, Failure)]
        vectors = model.embed_pixels(np.stack([each.pixels for each in good])) if good else ()  # type: ignore[arg-type]
        captions = [caption for each in good for caption in each.captions]
        texts = model.embed_texts(captions, truncate=True) if captions else np.empty((0, model.dim), np.float32)
        ends = np.cumsum([len(each.captions) for each in good])
        for each, vector, end in zip(good, vectors, ends, strict=True):
            own = texts[end - len(each.captions) : end]
            yield EmbeddedRow(each.path, each.captions, each.width, each.height, vector, own)
        yield from (each for each in batch if isinstance(each.pixels, Failure))


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
