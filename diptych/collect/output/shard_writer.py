"""Writes pairs as WebDataset shards, each with a Parquet table of the same facts, so that a run may end at any time."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from diptych.collect.output.facts import Facts, facts_of, table_of
from diptych.collect.output.open_shard import OpenShard
from diptych.collect.pairs import Pair
from diptych.extras import require
from diptych.storage.atomic import atomic_write, sync_folder
from diptych.storage.lock import locked
from diptych.storage.output_files import refuse_link

PAIRS_PER_SHARD = 10_000
_SHARD = re.compile(r"(\d{5,})\.(tar|parquet)")
_OPEN = re.compile(r"\.(\d{5,})\.tar\.open")


class ShardWriter:
    """Writes pairs into OUT/00000.tar, OUT/00001.tar and so on: KEY.jpg (or .png, .webp), KEY.txt with the best
    caption and KEY.json with all facts, which OUT/00000.parquet has, too, a row for each pair.

    A shard appears when it is whole. Until then its pairs are in a hidden file, with which the next writer goes on: a
    pair is safe after `sync`, whatever happens to the process. Where the disk is full, `add` raises OSError, and no
    part of a pair stays. Leaving the block completes the last shard, which may be shorter; after an OSError it
    stays open instead.

    Several processes write to one folder if each takes its own numbers of shards: with `start` 0, 1, 2 and `step` 3,
    for example. Raises IndexBusyError where another process writes shards with these numbers.
    """

    def __init__(
        self, out: str | os.PathLike[str], *, pairs_per_shard: int = PAIRS_PER_SHARD, start: int = 0, step: int = 1
    ):
        """`pairs_per_shard` is the number of pairs of each shard but the last."""
        require("the table beside a shard", "pyarrow")
        if pairs_per_shard < 1 or step < 1 or not 0 <= start < step:
            raise ValueError(f"shards of {pairs_per_shard} pairs, numbers from {start} in steps of {step}")
        self.out, self._pairs_per_shard, self._start, self._step = Path(out), pairs_per_shard, start, step
        self._shard: OpenShard | None = None
        self._number = -1
        self._stack = ExitStack()
        self.pairs = self.shards = 0  # of this writer

    def __enter__(self) -> ShardWriter:
        self.out.mkdir(parents=True, exist_ok=True)
        lock = locked(
            self.out / f".shards-{self._start}.lock",
            does=f"is writing pairs to {self.out}",
            remedy="Wait for it, or name another folder.",
        )
        self._stack.enter_context(lock)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._stack:
            if kind is None or not issubclass(kind, OSError):
                self._finish_all()
            elif self._shard is not None:
                self._shard.close()

    def add(self, pair: Pair) -> str:
        """Write a pair, and return its path in an index of the shards: SHARD/KEY. Raises OSError where that fails, and
        ValueError for a pair without a caption."""
        if not pair.captions:
            raise ValueError(f"{pair.found.picture_url} has no caption")
        if self._shard is None:
            self._open_next()
        assert self._shard is not None
        key = f"{self._number:05}{self._shard.pairs:06}"
        self._shard.add(facts_of(pair, key), pair.picture.content, pair.found.time_s)
        self.pairs += 1
        path = f"{shard_name(self._number)}/{key}{pair.picture.suffix}"
        if self._shard.pairs >= self._pairs_per_shard:
            self._finish()
        return path

    def sync(self) -> None:
        """Wait until all pairs are on the disk: after that no crash loses one."""
        if self._shard is not None:
            self._shard.sync()

    def _open_next(self) -> None:
        unfinished = {*open_shards(self.out)}  # one may have its table already
        taken = {number for number, path in shard_files(self.out) if path.suffix == ".tar" or number not in unfinished}
        for number in itertools.count(self._start, self._step):
            path = open_path(self.out, number)
            if number not in taken:
                self._number, self._shard = number, OpenShard(path)
                if self._shard.pairs < self._pairs_per_shard:
                    return
                self._finish()

    def _finish(self) -> None:
        assert self._shard is not None
        shard, self._shard = self._shard, None
        self.shards += finish_shard(shard, self.out, self._number)

    def _finish_all(self) -> None:
        """Finish the open shard, and those that an earlier run with other numbers left."""
        if self._shard is not None:
            self._finish()
        for number in open_shards(self.out):
            if number % self._step == self._start:
                self.shards += finish_shard(OpenShard(open_path(self.out, number)), self.out, number)


def finish_shard(shard: OpenShard, out: Path, number: int) -> bool:
    """Give an open shard its table and its name; one without pairs is removed. Returns whether it had any."""
    if not shard.pairs:
        shard.close()
        shard.path.unlink()
        return False
    shard.finish()
    tar = out / shard_name(number)
    refuse_link(tar)
    write_table(shard.rows, tar)
    os.replace(shard.path, tar)
    sync_folder(out)
    return True


def write_table(rows: list[Facts], tar: Path) -> None:
    """Write the table beside the shard `tar`, from the facts of its pairs."""
    import pyarrow.parquet as pq

    with atomic_write(tar.with_suffix(".parquet")) as part:
        pq.write_table(table_of(rows, tar.name), part, compression="zstd")


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"{number:05}.tar"


def open_path(out: Path, number: int) -> Path:
    """The path of a shard while it is being filled."""
    return out / f".{shard_name(number)}.open"


def shard_files(out: Path) -> Iterator[tuple[int, Path]]:
    """The numbers and paths of whole shards and of tables in a folder."""
    names = sorted(os.listdir(out)) if out.is_dir() else []
    return ((int(found[1]), out / name) for name in names if (found := _SHARD.fullmatch(name)))


def open_shards(out: Path) -> list[int]:
    """The numbers of the shards that are not finished."""
    names = os.listdir(out) if out.is_dir() else []
    return sorted(int(found[1]) for name in names if (found := _OPEN.fullmatch(name)))
