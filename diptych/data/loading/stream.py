"""Reads a stream: its shards in a new order for every pass, dealt out to lanes, and these to the processes."""

import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

import numpy as np

from diptych.data.concat import ConcatSource
from diptych.data.samples import Source, Stream, count
from diptych.data.spooling import FULL_DISK, remove_with, unpacking
from diptych.errors import DataError

Result = TypeVar("Result")

SHARDS_AT_ONCE = 4  # of a process: fetched in parallel while as many are read


class StreamSample(NamedTuple):
    """A sample of a fetched shard, and its position in the stream, which seeds its augmentation: the pass, the shard's
    number in it, and the sample's number in the shard."""

    source: Source
    index: int
    stream_position: tuple[int, int, int]


class Cursor:
    """A position in one of the lanes of a stream; a later Cursor with the same `state` continues at the same sample.

    Every pass permutes the shards by (seed, pass). The passes follow each other as one endless sequence, of which lane
    `lane` of `lanes` has every `lanes`-th shard; samples are permuted within a shard. What is in a lane does not depend
    on the process that reads it. `ahead` further shards are fetched meanwhile. `on_shard` is called with each shard and
    its error, or None if it was fetched.
    """

    def __init__(
        self, stream: Stream, seed: tuple[int, ...], lane: int, lanes: int,
        on_shard: Callable[[str, Exception | None], None], state: dict[str, int] | None = None, ahead: int = 1,
    ):  # fmt: skip
        self.stream, self.seed, self.lanes, self.on_shard, self.ahead = stream, seed, lanes, on_shard, ahead
        self._position = dict(state or {"shard": lane, "taken": 0})
        self._opened: tuple[Source | None, np.ndarray] | None = None
        self._prefetched: dict[int, tuple[str, Future[Source]]] = {}

    @property
    def state(self) -> dict[str, int]:
        """The shard's number in the endless sequence, and the number of samples already taken from it."""
        return dict(self._position)

    def next_sample(self) -> StreamSample:
        """The next sample. Raises DataError if as many shards as a whole pass has are empty."""
        empty = 0
        while self._opened is None or self._position["taken"] >= len(self._opened[1]):
            if self._opened is not None:
                empty = 0 if len(self._opened[1]) else empty + 1
                if empty >= len(self.stream.shards):
                    raise DataError("a whole pass over the shards has no sample.")
                self._position = {"shard": self._position["shard"] + self.lanes, "taken": 0}
            self._opened = self._open()
        source, order = self._opened
        assert source is not None
        taken = self._position["taken"]
        self._position["taken"] += 1
        return StreamSample(
            source, int(order[taken]), (*divmod(self._position["shard"], len(self.stream.shards)), taken)
        )

    def _open(self) -> tuple[Source | None, np.ndarray]:
        """The current shard, None if it cannot be fetched, and the order of its samples; starts to fetch the next."""
        number = self._position["shard"]
        self._opened = None  # so that its files can be removed
        wanted = range(number, number + (1 + self.ahead) * self.lanes, self.lanes)
        self._prefetched = {each: self._prefetched.get(each) or self._fetch(each) for each in wanted}
        source = self._fetched_shard(*self._prefetched.pop(number))
        order = np.random.default_rng((*self.seed, *divmod(number, len(self.stream.shards)), 1))
        return source, order.permutation(len(source) if source else 0)

    def _fetch(self, number: int) -> tuple[str, Future[Source]]:
        done_passes, index = divmod(number, len(self.stream.shards))
        order = np.random.default_rng((*self.seed, done_passes)).permutation(len(self.stream.shards))
        name = self.stream.shards[order[index]]
        return name, in_background(fetched, self.stream, name)

    def _fetched_shard(self, name: str, future: Future[Source]) -> Source | None:
        try:
            source = future.result()
        except (DataError, OSError) as error:
            self.on_shard(name, error)
            return None
        self.on_shard(name, None)
        if self._position["shard"] < len(self.stream.shards):  # later passes would count them again
            for reason, number in source.skipped.items():
                count(self.stream.skipped, reason, number)
        return source


class Lanes:
    """How the rows of all batches, numbered over the whole run, and the shards of streams are dealt out.

    Row `n` belongs to lane `n % total`, and lane `i` to process `i % world_size`. So the samples of a row are the same
    whatever the number of processes, and each process fetches the shards of its own lanes alone. With more processes
    than lanes, or more lanes than shards, several processes fetch the same shards.
    """

    def __init__(self, total: int, rank: int, world_size: int):
        self.total, self.rank, self.world_size = total, rank, world_size

    @classmethod
    def of_run(cls, batch_size: int, rank: int, world_size: int) -> "Lanes":
        """Those of a run that begins: the same for 1, 2 and 4 processes."""
        total = math.lcm(SHARDS_AT_ONCE, world_size)
        return cls(total if total <= batch_size else world_size, rank, world_size)

    def is_local(self, row: int) -> bool:
        """Whether this process reads a row."""
        dealt = row % self.total if self.world_size <= self.total else row
        return dealt % self.world_size == self.rank

    def most_rows(self, batch_size: int) -> int:
        """The most rows of one batch that a process may have."""
        if self.world_size > self.total:
            return -(-batch_size // self.world_size)
        return -(-batch_size // self.total) * -(-self.total // self.world_size)

    def lane_of(self, row: int, lanes: int) -> int:
        """The lane of a row in a stream that has `lanes` of them."""
        return row % self.total % lanes

    def lanes_in(self, stream: Stream) -> int:
        """The number of lanes of a stream: no more than it has shards, and all equally fast."""
        return next(n for n in range(min(self.total, len(stream.shards)), 0, -1) if self.total % n == 0)

    def local_lanes(self, lanes: int) -> set[int]:
        """The lanes of a stream of which this process reads a row."""
        rows = range(self.total * (1 if self.world_size <= self.total else self.world_size))
        return {self.lane_of(row, lanes) for row in rows if self.is_local(row)}


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
