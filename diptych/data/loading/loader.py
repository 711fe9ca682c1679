"""Batches of samples: shuffled by seed and epoch, decoded and augmented in threads or processes, some batches ahead."""

import math
from collections import deque
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from diptych.data.loading.decoding import BadSample, DecodedBatch, Decoder, describe_failures, failure_of
from diptych.data.loading.plan import MixtureSource, Plan, PlannedBatch
from diptych.data.loading.stored import StoredFeatures
from diptych.data.loading.threads import Threads
from diptych.data.loading.workers import Workers
from diptych.data.samples import Region, Source, Stream
from diptych.errors import DataError, Setting

MAX_BAD_SHARE = 0.1
TOLERATED, AT_LEAST = 20, 1000  # broken samples that are always tolerated; the smallest denominator of the broken share


class Batch(NamedTuple):
    """`pixels` are (pictures, size, size, 3) uint8. `captions` lists all texts; text j belongs to picture `owners[j]`.

    With stored features `pixels` are these, (pictures, ...) float16 or float32. `picture_ids` are equal for pictures
    with equal bytes; `regions` has each picture's. `position` is a JSON dict from which to continue after the batch; it
    is the same in every process unless the mixture has a Stream (see `plan.merged_position`).
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

    With several processes (`rank` of `world_size`), each reads its own part of every batch; together they read the same
    batches as one process. The shards of a Stream are dealt out to them: 1, 2 and 4 processes read the same batches,
    and so does any number that continues from the `merged_position` of others. A broken sample is recorded in `bad` by
    its key, and another sample of its source replaces it, so that batches keep their size; DataError is raised if more
    than the share `max_bad` is broken. Shards that cannot be fetched are recorded in `bad` as well. `workers` decodes
    in that many processes instead of `threads`, for machines with many cores. With `phrases`, a picture without regions
    gets the phrases of its captions as regions.
    `stored` features, if they are set, are read instead of pictures.
    """

    sources: list[MixtureSource]
    batch_size: int
    size_px: int
    captions_per_image: int = 1
    seed: int = 0
    threads: int = 2
    ahead: int = 4
    rank: int = 0
    world_size: int = 1
    workers: int = 0
    max_bad: float = MAX_BAD_SHARE
    phrases: bool = False
    stored: StoredFeatures | None = None
    bad: dict[str, BadSample] = field(default_factory=dict)
    _bad_shards: dict[str, BadSample] = field(default_factory=dict, repr=False)  # whole shards in `bad`
    _missing_shards: dict[str, BadSample] = field(default_factory=dict, repr=False)  # at the last try
    _tried: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        if self.batches_per_epoch < 1:
            count = sum(member.share for member in self.sources)
            raise DataError(
                f"{count} samples fill no batch of {self.batch_size}.",
                remedy=["Set ", Setting("batch_size", count), " or less."],
            )
        if self.batch_size < self.world_size:
            raise DataError(f"a batch of {self.batch_size} cannot be split over {self.world_size} processes.")

    @property
    def batches_per_epoch(self) -> int:
        return sum(member.share for member in self.sources) // self.batch_size

    def batches(self, position: dict[str, Any] | None = None) -> Generator[Batch, None, None]:
        """Batches without end, epoch after epoch, from `position` (of an earlier Batch) on.

        The rest of an epoch that fills no batch is left out. Closing or dropping the generator ends its threads or
        processes. Raises DataError if the position belongs to other data, too much is broken, or a worker dies.
        """
        plan = Plan(self.sources, self.batch_size, self.seed, self.rank, self.world_size, self._drop_shard)
        augmentations = tuple(member.augmentation for member in self.sources)
        decoder = Decoder(self.size_px, self.captions_per_image, augmentations, self.phrases, self.stored)
        waiting: deque[PlannedBatch] = deque()
        rows = plan.lanes(position).most_rows(self.batch_size)
        with self._decoders(decoder, rows) as decoders:
            for planned in plan.batches(position):
                decoders.submit(planned.picks)
                waiting.append(planned)
                if len(waiting) >= decoders.room:
                    yield self._batch(waiting.popleft(), *decoders.result())

    @cached_property
    def _total_samples(self) -> float:
        """Samples in all sources, including those that an epoch leaves out; infinite for a stream of unknown length."""
        sources = [member.source for member in self.sources]
        return sum((s.samples or math.inf) if isinstance(s, Stream) else len(s) for s in sources)

    def _decoders(self, decoder: Decoder, rows: int) -> "Workers | Threads[tuple[np.ndarray, DecodedBatch]]":
        if self.workers and self.stored is None:
            whole = [
                member.source for member in self.sources if not isinstance(member.source, Stream)
            ]  # no fetched shards
            return Workers(self.workers, decoder, rows, resident=whole)
        return Threads(self.threads, decoder.read, self.ahead)

    def _batch(self, planned: PlannedBatch, pixels: np.ndarray, decoded: DecodedBatch) -> Batch:
        self.count(len(pixels), decoded.bad)
        return Batch(pixels, *decoded[:4], planned.epoch, planned.position)

    def count(self, tried: int, bad: Mapping[str, BadSample]) -> None:
        """Add to the tried and broken samples. Raises DataError if too much is broken."""
        self._tried += tried
        for key, one in bad.items():
            self.bad.setdefault(key, one)
        of = min(self._total_samples, max(self._tried, AT_LEAST))
        if (broken := len(self.bad) - len(self._bad_shards)) > max(TOLERATED, self.max_bad * of):
            raise DataError(f"{broken} of {of} samples are unusable: {self.reasons()}. Repair the data.")

    def failures_seen(self) -> dict[str, Any]:
        """The tried and broken samples as JSON values, for a loader that continues (see `restore_failures`)."""
        bad = {key: [*bad] for key, bad in self.bad.items()}
        return {"tried": self._tried, "bad": bad, "shards": [*self._bad_shards]}

    def restore_failures(self, failures_seen: dict[str, Any]) -> None:
        """Adopt the `failures_seen` of another loader, so that the shares describe the whole run."""
        self._tried = failures_seen["tried"]
        self.bad.update({key: BadSample(*bad) for key, bad in failures_seen["bad"].items()})
        self._bad_shards.update({key: self.bad[key] for key in failures_seen["shards"]})

    def reasons(self) -> str:
        """The broken samples counted by reason, with one key for each reason."""
        return describe_failures(self.bad)

    def _drop_shard(self, shard: str, error: Exception | None) -> None:
        """Record a shard that cannot be fetched (or, with None, one that was fetched). One shard, or the share
        `max_bad` of all shards, may be missing at any time."""
        if error is None:
            self._missing_shards.pop(shard, None)  # an earlier pass missed it
            return
        key, bad = failure_of(shard, error)
        self.bad[key] = self._bad_shards[key] = self._missing_shards[shard] = bad
        total = sum(len(member.source.shards) for member in self.sources if isinstance(member.source, Stream))
        if len(self._missing_shards) > max(1, self.max_bad * total):
            raise DataError(
                f"{len(self._missing_shards)} of {total} shards cannot be fetched: "
                f"{describe_failures(self._missing_shards)}."
            )


def shares(
    sources: list[Source | Stream], weights: tuple[float, ...] | None = None, samples_per_epoch: int | None = None
) -> list[int]:
    """The number of samples of each source in an epoch.

    Without `weights`, each source's own number of samples; with them, an epoch of the same length (or of
    `samples_per_epoch`) is divided in their proportion, so a source of weight 3 contributes three times as many samples
    as one of weight 1, whatever their sizes. Raises DataError if the length of an epoch is unknown.
    """
    sizes = [source.samples if isinstance(source, Stream) else len(source) for source in sources]
    if weights is not None and (len(weights) != len(sources) or min(weights) < 0 or not sum(weights)):
        raise DataError(f"weights {weights} for {len(sources)} sources; wanted one number of 0 or more for each.")
    if samples_per_epoch is None and None in sizes:
        raise DataError("the length of a stream is unknown; set samples_per_epoch.")
    if weights is None and None in sizes and len(sizes) > 1:
        raise DataError("the length of a stream is unknown; set weights, the share of each source.")
    known = [size or 0 for size in sizes]
    parts = list(weights) if weights is not None else [float(size or 1) for size in sizes]
    total = sum(known) if samples_per_epoch is None else samples_per_epoch
    return [round(total * part / sum(parts)) for part in parts]
