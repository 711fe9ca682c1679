"""Reads a stream: its shards in a new order for every pass, one block of shards at a time."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

import numpy as np

from diptych.data.concat import ConcatSource, locate_index
from diptych.data.samples import Source, Stream, count
from diptych.data.spooling import FULL_DISK, remove_with, unpacking
from diptych.errors import DataError

Result = TypeVar("Result")

BLOCK_SHARDS = 4  # fetched in parallel and shuffled together, while the next block is being fetched


class StreamSample(NamedTuple):
    """A sample of a fetched shard, and its position in the stream, which seeds its augmentation."""

    source: Source
    index: int
    stream_position: tuple[int, int, int]


class Cursor:
    """The position of one process in a stream; a later Cursor with the same `state` continues at the same sample.

    Every pass permutes the shards by (seed, pass) and divides them among the processes; samples are permuted within a
    block of shards. If there are fewer shards than processes, every process fetches all shards, and the samples are
    divided. `on_shard` is called with each shard and its error, or None if it was fetched.
    """

    def __init__(
        self, stream: Stream, seed: tuple[int, ...], rank: int, world_size: int,
        on_shard: Callable[[str, Exception | None], None], state: dict[str, int] | None = None,
    ):  # fmt: skip
        self.stream, self.seed, self.rank, self.world_size, self.on_shard = stream, seed, rank, world_size, on_shard
        self._position = dict(state or {"pass": 0, "block": 0, "taken": 0})
        self._block: tuple[list[Source], np.ndarray] | None = None
        self._prefetched: dict[tuple[int, int], list[Future[Source]]] = {}

    @property
    def state(self) -> dict[str, int]:
        """The pass, the block in it, and the number of samples already taken from the block."""
        return dict(self._position)

    def next_sample(self) -> StreamSample:
        """The next sample. Raises DataError if a whole pass has none."""
        empty_blocks = 0
        while self._block is None or self._position["taken"] >= len(self._block[1]):
            if self._block is not None:
                empty_blocks = 0 if len(self._block[1]) else empty_blocks + 1
                if empty_blocks >= len(self._blocks(self._position["pass"])):
                    raise DataError("a whole pass over the shards has no sample.")
                self._advance()
            self._block = self._open()
        sources, order = self._block
        shard, index = locate_index(sources, int(order[self._position["taken"]]))
        stream_position = self._position["pass"], self._position["block"], self._position["taken"]
        self._position["taken"] += 1
        return StreamSample(sources[shard], index, stream_position)

    def _blocks(self, number: int) -> list[list[str]]:
        """The shards of this process in one pass, in blocks."""
        shards = self.stream.shards
        order = np.random.default_rng((*self.seed, number)).permutation(len(shards))
        mine = order[self.rank :: self.world_size] if len(shards) >= self.world_size else order
        return [[shards[i] for i in mine[start : start + BLOCK_SHARDS]] for start in range(0, len(mine), BLOCK_SHARDS)]

    def _following(self) -> tuple[int, int]:
        at = self._position["pass"], self._position["block"] + 1
        return at if at[1] < len(self._blocks(at[0])) else (at[0] + 1, 0)

    def _advance(self) -> None:
        number, block = self._following()
        self._position = {"pass": number, "block": block, "taken": 0}

    def _open(self) -> tuple[list[Source], np.ndarray]:
        """The current block as (sources, order of their samples); starts to fetch the next one."""
        position = self._position["pass"], self._position["block"]
        self._block = None  # so that its files can be removed
        waiting, self._prefetched = self._prefetch(position), {}
        sources = [source for name, future in waiting if (source := self._fetched_shard(name, future)) is not None]
        following = self._following()
        self._prefetched = {following: [future for _, future in self._prefetch(following)]}
        order = np.random.default_rng((*self.seed, *position, 1)).permutation(sum(len(source) for source in sources))
        return sources, order if len(self.stream.shards) >= self.world_size else order[self.rank :: self.world_size]

    def _prefetch(self, at: tuple[int, int]) -> list[tuple[str, Future[Source]]]:
        names = self._blocks(at[0])[at[1]]
        futures = self._prefetched.get(at) or [in_background(fetched, self.stream, name) for name in names]
        return list(zip(names, futures, strict=True))

    def _fetched_shard(self, name: str, future: Future[Source]) -> Source | None:
        try:
            source = future.result()
        except (DataError, OSError) as error:
            self.on_shard(name, error)
            return None
        self.on_shard(name, None)
        if self._position["pass"] == 0:  # later passes would count them again
            for reason, number in source.skipped.items():
                count(self.stream.skipped, reason, number)
        return source


def fetched(stream: Stream, shard: str) -> Source:
    """One shard as a source; its files are removed when the source is garbage-collected."""
    with unpacking() as folder:
        source = stream.fetch(shard, folder)
        remove_with(source, folder)
    return source


def in_background(function: Callable[..., Result], *arguments: Any) -> Future[Result]:
    """Runs a function in a daemon thread, which, unlike an executor's, does not delay the interpreter's exit."""
    future: Future[Result] = Future()
    threading.Thread(
        target=set_future_result, args=(future, function, *arguments), daemon=True, name="diptych-fetch"
    ).start()
    return future


def set_future_result(future: Future[Result], function: Callable[..., Result], *arguments: Any) -> None:
    """Runs a function and sets the future to its result or exception, unless the future was cancelled."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function(*arguments))
    except BaseException as error:
        future.set_exception(error)


def indexed(source: Source | Stream) -> Source:
    """The source; a stream is fetched completely, for small ones such as held-out pairs. Shards that cannot be fetched
    are counted by reason. Raises DataError if none can be fetched or the disk is full."""
    if not isinstance(source, Stream):
        return source
    parts: list[Source] = []
    lost: dict[str, Exception] = {}
    for shard in source.shards:
        try:
            parts.append(fetched(source, shard))
        except (DataError, OSError) as error:
            if isinstance(error, DataError) and error.reason == FULL_DISK:
                raise
            lost[shard] = error
    if lost and not parts:
        raise next(iter(lost.values()))
    whole = ConcatSource(parts, source.form, source.skipped)
    for shard, error in lost.items():
        count(whole.skipped, f"a shard lost ({shard:.200}: {getattr(error, 'reason', type(error).__name__)})")
    return whole
