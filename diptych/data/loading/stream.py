"""Walking through a stream: its shards in an order of their own for every pass, a block of them at a time."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

import numpy as np

from diptych.data.joined import Joined, located
from diptych.data.samples import Source, Stream, count
from diptych.data.temporary import FULL_DISK, remove_with, unpacking
from diptych.errors import DataError

Result = TypeVar("Result")

BLOCK_SHARDS = 4  # fetched side by side and shuffled as one, while the next block is on its way


class Taken(NamedTuple):
    """A sample of a fetched shard, and where in the stream it stood: what its random changes are drawn from."""

    source: Source
    index: int
    place: tuple[int, int, int]


class Cursor:
    """Where one process stands in a stream. `state` is what a later Cursor needs in order to go on at the same sample.

    Every pass permutes the shards by (seed, pass) and deals them out to the processes; samples are permuted within a
    block of shards. Where there are fewer shards than processes, all fetch every shard and the samples are dealt out.
    `set_aside` is told of shards that cannot be had, and why; and, with None, of those that could.
    """

    def __init__(
        self, stream: Stream, seed: tuple[int, ...], rank: int, world: int,
        set_aside: Callable[[str, Exception | None], None], state: dict[str, int] | None = None,
    ):  # fmt: skip
        self.stream, self.seed, self.rank, self.world, self.set_aside = stream, seed, rank, world, set_aside
        self._at = dict(state or {"pass": 0, "block": 0, "taken": 0})
        self._block: tuple[list[Source], np.ndarray] | None = None
        self._coming: dict[tuple[int, int], list[Future[Source]]] = {}

    @property
    def state(self) -> dict[str, int]:
        """The pass, the block in it, and how many samples of the block are taken."""
        return dict(self._at)

    def take(self) -> Taken:
        """The next sample. DataError where a whole pass brings none."""
        barren = 0
        while self._block is None or self._at["taken"] >= len(self._block[1]):
            if self._block is not None:
                barren = 0 if len(self._block[1]) else barren + 1
                if barren >= len(self._blocks(self._at["pass"])):
                    raise DataError("not one sample in a whole pass over the shards.")
                self._advance()
            self._block = self._open()
        sources, order = self._block
        shard, index = located(sources, int(order[self._at["taken"]]))
        place = self._at["pass"], self._at["block"], self._at["taken"]
        self._at["taken"] += 1
        return Taken(sources[shard], index, place)

    def _blocks(self, number: int) -> list[list[str]]:
        """The shards of this process in one pass, in blocks."""
        shards = self.stream.shards
        order = np.random.default_rng((*self.seed, number)).permutation(len(shards))
        mine = order[self.rank :: self.world] if len(shards) >= self.world else order
        return [[shards[i] for i in mine[start : start + BLOCK_SHARDS]] for start in range(0, len(mine), BLOCK_SHARDS)]

    def _following(self) -> tuple[int, int]:
        at = self._at["pass"], self._at["block"] + 1
        return at if at[1] < len(self._blocks(at[0])) else (at[0] + 1, 0)

    def _advance(self) -> None:
        number, block = self._following()
        self._at = {"pass": number, "block": block, "taken": 0}

    def _open(self) -> tuple[list[Source], np.ndarray]:
        """The block where we stand, as (sources, order of their samples); the next one is sent for."""
        here = self._at["pass"], self._at["block"]
        self._block = None  # its files may go
        waiting, self._coming = self._sent_for(here), {}
        sources = [source for name, future in waiting if (source := self._got(name, future)) is not None]
        following = self._following()
        self._coming = {following: [future for _, future in self._sent_for(following)]}
        order = np.random.default_rng((*self.seed, *here, 1)).permutation(sum(len(source) for source in sources))
        return sources, order if len(self.stream.shards) >= self.world else order[self.rank :: self.world]

    def _sent_for(self, at: tuple[int, int]) -> list[tuple[str, Future[Source]]]:
        names = self._blocks(at[0])[at[1]]
        futures = self._coming.get(at) or [in_background(fetched, self.stream, name) for name in names]
        return list(zip(names, futures, strict=True))

    def _got(self, name: str, future: Future[Source]) -> Source | None:
        try:
            source = future.result()
        except (DataError, OSError) as error:
            self.set_aside(name, error)
            return None
        self.set_aside(name, None)
        if self._at["pass"] == 0:  # later passes meet the same again
            for reason, number in source.skipped.items():
                count(self.stream.skipped, reason, number)
        return source


def fetched(stream: Stream, shard: str) -> Source:
    """One shard as a source, whose files go when nobody holds it any more."""
    with unpacking() as folder:
        source = stream.fetch(shard, folder)
        remove_with(source, folder)
    return source


def in_background(function: Callable[..., Result], *arguments: Any) -> Future[Result]:
    """Run a function in a thread that does not keep the interpreter from leaving, as those of an executor do."""
    future: Future[Result] = Future()
    threading.Thread(target=settle, args=(future, function, *arguments), daemon=True, name="diptych-fetch").start()
    return future


def settle(future: Future[Result], function: Callable[..., Result], *arguments: Any) -> None:
    """Run a function here, and give what it returns or raises to whoever waits for the future, unless nobody does."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function(*arguments))
    except BaseException as error:
        future.set_exception(error)


def indexed(source: Source | Stream) -> Source:
    """The source; a stream fetched whole, for a small one, such as held-out pairs. Shards that cannot be had are
    counted by reason; DataError where all are such, or no room is left."""
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
    whole = Joined(parts, source.form, source.skipped)
    for shard, error in lost.items():
        count(whole.skipped, f"a shard lost ({shard:.200}: {getattr(error, 'reason', type(error).__name__)})")
    return whole
