"""Embeds the samples of one shard after another, as an index embeds files: read by child processes, in batches."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.data.samples import Source
from diptych.errors import DataError
from diptych.failures import Failure
from diptych.index.bulk.items import Embedded, block_of, sample_path
from diptych.index.bulk.sharded_source import open_shard, version_of
from diptych.index.catalog.stored_items import Block
from diptych.index.update.batched_embedder import BatchedEmbedder
from diptych.media.content.metadata import tidy_caption
from diptych.media.formats.table import PICTURE_FORMATS
from diptych.media.items import File, FileContents, Part
from diptych.media.reading.readers import ReaderPool
from diptych.untrusted.downloading import shown

if TYPE_CHECKING:
    from PIL.Image import Image

    from diptych.embedder import Embedder

PIECE = 1024  # samples
_ROW = re.compile(r"row (\d+) of group (\d+) of ")  # the key of a Parquet file's row
_IN_SHARD = re.compile(r" in [^/]*\Z")  # how a shard's samples end in messages


class ShardTask(NamedTuple):
    """A shard to embed: its name, where it is read, the root of its source, and the columns of Parquet files."""

    shard: str
    location: str
    root: str
    columns: tuple[str | None, str | None] = (None, None)


class Piece(NamedTuple):
    """A part of a shard's items, and its samples that could not be read, by path. The last piece says which `version`
    of the shard was read, what was left out by reason (`skipped`), and why nothing of the shard could be read."""

    shard: str
    number: int
    block: Block
    failures: dict[str, Failure]
    is_last: bool = False
    version: str = ""
    skipped: dict[str, int] = {}  # noqa: RUF012  # a NamedTuple's default, never changed
    lost: Failure | None = None


class ShardEmbedder:
    """Embeds shards with a model; `processes` read pictures (by default one per core). Use as a context manager."""

    def __init__(self, model: Embedder, *, processes: int | None = None, piece: int = PIECE):
        self._model, self._piece = model, piece
        self._folder = TemporaryDirectory(prefix="diptych-samples-")
        self._pool = ReaderPool(self._folder.name, model.preprocessing, processes=processes)

    def __enter__(self) -> ShardEmbedder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes and remove the files."""
        self._pool.close()
        self._folder.cleanup()

    def embed(self, task: ShardTask) -> Iterator[Piece]:
        """The pieces of a shard in order, each of the same samples whenever the shard is embedded again. A shard that
        cannot be read is one piece that says why."""
        try:
            version, source = version_of(task.location), open_shard(task.location, task.columns)
        except (DataError, OSError) as error:
            failure = Failure(getattr(error, "reason", type(error).__name__), _hidden(str(error), task.location))
            yield Piece(task.shard, 0, block_of((), task.root), {}, True, lost=failure)
            return
        count = len(source)
        last, number = max(0, (count - 1) // self._piece), 0
        parts: dict[int, list[Embedded]] = {0: []} if not count else {}
        for position, each in self._embedded(source, task.shard):
            parts.setdefault(position // self._piece, []).append(each)
            while number < last and len(parts.get(number, ())) == self._piece:
                yield _piece(task, number, parts.pop(number))
                number += 1
        yield _piece(task, last, parts[last])._replace(is_last=True, version=version, skipped=dict(source.skipped))

    def _embedded(self, source: Source, shard: str) -> Iterator[tuple[int, Embedded]]:
        """Each sample once, with its position in the shard."""
        samples = _Samples(source, shard, Path(self._folder.name))
        with BatchedEmbedder(self._model) as embedder:
            for contents in self._pool.read(samples.files()):
                embedder.add(samples.taken(contents), {})
                yield from map(samples.done, embedder.finished())
                yield from samples.unreadable()
            yield from map(samples.done, embedder.finished(all=True))
            yield from samples.unreadable()


def _piece(task: ShardTask, number: int, samples: list[Embedded]) -> Piece:
    failures = {each.contents.file.path: each.contents.failure for each in samples if each.contents.failure}
    return Piece(
        task.shard, number, block_of((each for each in samples if not each.contents.failure), task.root), failures
    )


class _Sample(NamedTuple):
    """A sample that is being read: its path in an index, and its captions."""

    path: str
    captions: tuple[str, ...]


class _Samples:
    """The samples of a shard as files in a folder, each from when it is to be read until it has been."""

    def __init__(self, source: Source, shard: str, folder: Path):
        self._source, self._shard, self._folder = source, shard, folder
        self._being_read: dict[str, _Sample] = {}  # by the name of the file
        self._unreadable: list[tuple[int, Embedded]] = []
        self._positions: dict[str, int] = {}  # by path

    def files(self) -> Iterator[File]:
        """Write the next sample's picture and return its file."""
        for position in range(len(self._source)):
            try:
                sample = self._source[position]
            except (DataError, OSError) as error:
                self._refuse(self._path(position, ".jpg"), error)
                continue
            content = _bytes_of(sample.image)
            suffix = _suffix(content)
            name = f"{position}{suffix}"
            self._being_read[name] = _Sample(self._path(position, suffix), sample.captions)
            (self._folder / name).write_bytes(content)
            yield File(name, "picture", len(content), 0)

    def _path(self, position: int, suffix: str) -> str:
        """The sample's path in an index, which no other sample of the shard has."""
        path = sample_path(self._shard, _key(self._source.key(position)), position, suffix)
        if path in self._positions:
            path = f"{self._shard}/sample-{position}{suffix}"
        self._positions[path] = position
        return path

    def _refuse(self, path: str, error: Exception) -> None:
        failure = Failure(getattr(error, "reason", type(error).__name__), f"{path}: {error}")
        contents = FileContents(File(path, "picture", 0, 0), b"", failure=failure)
        self._unreadable.append((self._positions[path], Embedded(contents, np.empty((0, 0), np.float16))))

    def taken(self, contents: FileContents) -> FileContents:
        """What was read of a sample, under its path and with its captions; the file is removed."""
        name = contents.file.path
        (self._folder / name).unlink(missing_ok=True)
        path, given = self._being_read.pop(name)
        contents = replace(contents, file=contents.file._replace(path=path))
        if failure := contents.failure:
            message = path + failure.message.removeprefix(name)
            return replace(contents, failure=failure._replace(message=message))
        if captions := [tidy for each in given if (tidy := tidy_caption(each))]:
            pictures = [part for part in contents.parts if part.text is None]
            parts = (*pictures, *(Part(text=caption) for caption in captions))
            return replace(contents, parts=parts, details=replace(contents.details, caption=captions[0]))
        return contents

    def done(self, embedded: tuple[FileContents, np.ndarray]) -> tuple[int, Embedded]:
        """A sample without its pixels, with its position."""
        contents, vectors = embedded
        parts = tuple(part._replace(pixels=None) for part in contents.parts)
        return self._positions[contents.file.path], Embedded(replace(contents, parts=parts), vectors)

    def unreadable(self) -> Iterator[tuple[int, Embedded]]:
        """The samples since the last call that the source cannot read."""
        found, self._unreadable = self._unreadable, []
        yield from found


def _key(name: str) -> str:
    """A sample's key without the name of its shard; GROUP-ROW of a Parquet file."""
    row = _ROW.match(name)
    return f"{row[2]}-{row[1]}" if row else _IN_SHARD.sub("", name)


def _suffix(content: bytes) -> str:
    found = (known.suffixes[0] for known in PICTURE_FORMATS if known.suffixes and known.matches(content[:64]))
    return next(found, ".jpg")


def _bytes_of(image: bytes | Image) -> bytes:
    assert isinstance(image, bytes), "shards contain the bytes of files"
    return image


def _hidden(message: str, location: str) -> str:
    """A message in which an address has no password."""
    with suppress(ValueError):
        return message.replace(location, shown(location)) if "://" in location else message
    return message
