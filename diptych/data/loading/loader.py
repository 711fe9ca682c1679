"""Samples to batches: shuffled by seed and epoch, decoded and changed in threads or processes, a few batches ahead."""

import math
import threading
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np

from diptych.data.loading.decoding import Bad, Decoded, Decoder, spell_bad, why
from diptych.data.loading.plan import Part, Pick, Plan, Planned
from diptych.data.loading.stream import settle
from diptych.data.loading.workers import Workers
from diptych.data.samples import Region, Source, Stream
from diptych.errors import DataError, Setting

MAX_BAD_SHARE = 0.1
TOLERATED, AT_LEAST = 20, 1000  # a few may be broken, whatever their share; a share is taken of no fewer than 1,000


class Batch(NamedTuple):
    """`pixels` are (pictures, size, size, 3) uint8. `captions` lists all texts; text j belongs to `owners[j]`.

    `picture_ids` are equal where pictures are, file for file; `regions` are each picture's. The batch is one of
    `epoch`; `position` is where to go on after it: a dict for JSON, the same in every process unless a part of the
    mixture is a Stream.
    """

    pixels: np.ndarray
    captions: list[str]
    owners: np.ndarray
    picture_ids: np.ndarray
    regions: list[list[Region]]
    epoch: int
    position: dict[str, Any]


@dataclass
class Loader:
    """Batches of a mixture of sources, the same for the same seed whatever the number of threads or workers.

    With several processes (`rank` of `world`) each reads its own part of every batch, and together they read what one
    would. A broken sample is kept in `bad`, by its key, and another of its source stands in, so that batches keep their
    size; when more than `max_bad` of them are broken, DataError says so. A shard that cannot be had is kept there too.
    `workers` decodes in that many processes in place of `threads`: for machines with many cores. With `phrases` what
    the captions of a picture name are its regions, where it came without.
    """

    parts: list[Part]
    batch_size: int
    size_px: int
    captions_per_image: int = 1
    seed: int = 0
    threads: int = 2
    ahead: int = 4
    rank: int = 0
    world: int = 1
    workers: int = 0
    max_bad: float = MAX_BAD_SHARE
    phrases: bool = False
    bad: dict[str, Bad] = field(default_factory=dict)
    _shards: dict[str, Bad] = field(default_factory=dict, repr=False)  # of `bad`, those that are whole shards
    _gone: dict[str, Bad] = field(default_factory=dict, repr=False)  # of these, what the last try did not have
    _tried: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        if self.batches_per_epoch < 1:
            came = sum(part.share for part in self.parts)
            raise DataError(
                f"{came} samples fill no batch of {self.batch_size}.",
                remedy=["Set ", Setting("batch_size", came), " or less."],
            )
        if self.batch_size < self.world:
            raise DataError(f"a batch of {self.batch_size} cannot be split over {self.world} processes.")

    @property
    def batches_per_epoch(self) -> int:
        return sum(part.share for part in self.parts) // self.batch_size

    def batches(self, position: dict[str, Any] | None = None) -> Generator[Batch, None, None]:
        """Batches without end, epoch after epoch, from `position` (that of an earlier Batch) on.

        Of an epoch the rest that fills no batch is left out. Closed or dropped, the generator ends its threads or
        processes. DataError where the position is one of other data, where too much is broken, or a worker dies.
        """
        plan = Plan(self.parts, self.batch_size, self.seed, self.rank, self.world, self._set_aside)
        hows = tuple(part.how for part in self.parts)
        decoder = Decoder(self.size_px, self.captions_per_image, hows, self.phrases)
        waiting: deque[Planned] = deque()
        with self._crew(decoder) as crew:
            for planned in plan.batches(position):
                crew.submit(planned.picks)
                waiting.append(planned)
                if len(waiting) >= crew.room:
                    yield self._batch(waiting.popleft(), *crew.result())

    @cached_property
    def _there_are(self) -> float:
        """Samples in all sources, however few of them an epoch takes; infinite where a stream does not say."""
        sources = [part.source for part in self.parts]
        return sum((s.samples or math.inf) if isinstance(s, Stream) else len(s) for s in sources)

    def _crew(self, decoder: Decoder) -> "Workers | _Threads":
        if self.workers:
            whole = [part.source for part in self.parts if not isinstance(part.source, Stream)]  # no fetched shards
            return Workers(self.workers, decoder, -(-self.batch_size // self.world), kept=whole)
        return _Threads(self.threads, decoder, self.ahead)

    def _batch(self, planned: Planned, pixels: np.ndarray, decoded: Decoded) -> Batch:
        self._tried += len(pixels)
        for key, bad in decoded.bad.items():
            self.bad.setdefault(key, bad)
        of = min(self._there_are, max(self._tried, AT_LEAST))
        if (broken := len(self.bad) - len(self._shards)) > max(TOLERATED, self.max_bad * of):
            raise DataError(f"{broken} of {of} samples are unusable: {self.reasons()}. Mend the data.")
        return Batch(pixels, *decoded[:4], planned.epoch, planned.position)

    def met(self) -> dict[str, Any]:
        """What was tried and what was broken, in plain values, for a loader that goes on (see `remember`)."""
        bad = {key: [*bad] for key, bad in self.bad.items()}
        return {"tried": self._tried, "bad": bad, "shards": [*self._shards]}

    def remember(self, met: dict[str, Any]) -> None:
        """Take over what another loader has `met`, so that shares are those of the whole run."""
        self._tried = met["tried"]
        self.bad.update({key: Bad(*bad) for key, bad in met["bad"].items()})
        self._shards.update({key: self.bad[key] for key in met["shards"]})

    def reasons(self) -> str:
        """The broken samples by reason, with one of them named for each."""
        return spell_bad(self.bad)

    def _set_aside(self, shard: str, error: Exception | None) -> None:
        """Keep a shard that cannot be had; at any time one may be gone, and of many a share of `max_bad`."""
        if error is None:
            self._gone.pop(shard, None)  # a later pass found it: the host was down
            return
        key, bad = why(shard, error)
        self.bad[key] = self._shards[key] = self._gone[shard] = bad
        total = sum(len(part.source.shards) for part in self.parts if isinstance(part.source, Stream))
        if len(self._gone) > max(1, self.max_bad * total):
            raise DataError(f"{len(self._gone)} of {total} shards cannot be had: {spell_bad(self._gone)}.")


_Read = tuple[np.ndarray, Decoded]  # pixels, all else


class _Threads:
    """The same as Workers, in threads of this process: Pillow lets go of the interpreter while it decodes.

    Not those of an executor, for whose reads the interpreter waits before it leaves: one may hang for minutes.
    """

    def __init__(self, count: int, decoder: Decoder, ahead: int):
        self.room, self._decoder = 1 + max(count, ahead), decoder
        self._waiting: deque[Future[_Read]] = deque()
        self._orders: SimpleQueue[tuple[Future[_Read], list[Pick]] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, daemon=True, name=f"diptych-loader-{number}") for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> "_Threads":
        return self

    def __exit__(self, *_: object) -> None:
        for future in self._waiting:
            future.cancel()
        for _thread in self._threads:
            self._orders.put(None)

    def submit(self, picks: list[Pick]) -> None:
        future: Future[_Read] = Future()
        self._waiting.append(future)
        self._orders.put((future, picks))

    def result(self) -> tuple[np.ndarray, Decoded]:
        return self._waiting.popleft().result()

    def _work(self) -> None:
        """A thread's life: decode what is ordered until None is."""
        while order := self._orders.get():
            future, picks = order
            settle(future, self._decode, picks)
            del order, future, picks  # with it a fetched shard, whose files may go

    def _decode(self, picks: list[Pick]) -> tuple[np.ndarray, Decoded]:
        pixels = np.empty((len(picks), self._decoder.size_px, self._decoder.size_px, 3), np.uint8)
        return pixels, self._decoder.decode(picks, pixels)


def shares(
    sources: list[Source | Stream], weights: tuple[float, ...] | None = None, samples_per_epoch: int | None = None
) -> list[int]:
    """How many samples of each source an epoch takes.

    Without `weights` each source's own number of samples; with them an epoch of the same length (or of
    `samples_per_epoch`) is divided in their proportion, so that a source with 3 is seen three times as often as one
    with 1, whatever their sizes. DataError where the length of an epoch cannot be known.
    """
    sizes = [source.samples if isinstance(source, Stream) else len(source) for source in sources]
    if weights is not None and (len(weights) != len(sources) or min(weights) < 0 or not sum(weights)):
        raise DataError(f"weights {weights} for {len(sources)} sources; wanted one number of 0 or more for each.")
    if samples_per_epoch is None and None in sizes:
        raise DataError("a stream does not say how many samples it has; set samples_per_epoch.")
    if weights is None and None in sizes and len(sizes) > 1:
        raise DataError("a stream does not say how many samples it has; set weights to say how much of each to take.")
    known = [size or 0 for size in sizes]
    parts = list(weights) if weights is not None else [float(size or 1) for size in sizes]
    total = sum(known) if samples_per_epoch is None else samples_per_epoch
    return [round(total * part / sum(parts)) for part in parts]
