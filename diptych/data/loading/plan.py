"""The order of samples in a mixture, determined by (seed, epoch) alone, and positions to continue from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from diptych.data.loading.augmentation import Augmentation
from diptych.data.loading.stream import SHARDS_AT_ONCE, Cursor, Lanes
from diptych.data.samples import Source, Stream
from diptych.errors import DataError

WITHOUT_END = 1 << 32  # samples; a longer source (drawn scenes) is read in order: a permutation would not fit in memory


class MixtureSource(NamedTuple):
    """One source of a mixture: `share` of its samples are used in each epoch, augmented by `augmentation`."""

    source: Source | Stream
    share: int
    augmentation: Augmentation


class Pick(NamedTuple):
    """A sample to be decoded: sample `index` of `source`, augmented with `seed`; `part` is the mixture source."""

    part: int
    source: Source
    index: int
    seed: tuple[int, ...]


class PlannedBatch(NamedTuple):
    """A batch before it is decoded: the picks of this process, the epoch, and the position after the batch."""

    picks: list[Pick]
    epoch: int
    position: dict[str, Any]


@dataclass
class Plan:
    """The endless order of a mixture, epoch after epoch. Process `rank` of `world_size` gets its part of each batch.

    An epoch takes `share` samples of every mixture source, all shuffled together. A source is read in passes, each a
    new permutation, so every sample is used once before one is used twice.
    """

    sources: list[MixtureSource]
    batch_size: int
    seed: int
    rank: int
    world_size: int
    on_shard: Callable[[str, Exception | None], None]
    _lanes_in: dict[int, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Samples in an epoch, over all processes."""
        return sum(part.share for part in self.sources)

    def batches(self, position: dict[str, Any] | None = None) -> Iterator[PlannedBatch]:
        """Batches from `position` on; the rest of an epoch that fills no batch is left out."""
        lanes = self.lanes(position)
        epoch, sample, cursors = self._from(position, lanes)
        while True:
            labels, indices, positions = self._epoch(epoch)
            before = epoch * (self.total // self.batch_size) * self.batch_size  # rows
            while sample + self.batch_size <= self.total:
                end = sample + self.batch_size
                # Samples of streams that other processes read are counted; others need not be.
                rows = (
                    range(sample, end)
                    if cursors
                    else range(sample + (self.rank - before - sample) % self.world_size, end, self.world_size)
                )
                picks = [
                    pick
                    for i in rows
                    if (pick := self._pick(labels[i], indices[i], positions[i], before + i, cursors, lanes))
                ]
                sample = end
                ended = sample + self.batch_size > self.total
                at = {"epoch": epoch + 1, "sample": 0} if ended else {"epoch": epoch, "sample": sample}
                yield PlannedBatch(picks, epoch, at | self._fingerprint(cursors, lanes))
            epoch, sample = epoch + 1, 0

    def lanes(self, position: dict[str, Any] | None) -> Lanes:
        """Those of the run that `position` continues, or of one that begins. Without streams every process has a lane:
        the rows of a batch are dealt out evenly."""
        if not any(isinstance(part.source, Stream) for part in self.sources):
            return Lanes(self.world_size, self.rank, self.world_size)
        if total := (position or {}).get("lanes"):
            return Lanes(total, self.rank, self.world_size)
        return Lanes.of_run(self.batch_size, self.rank, self.world_size)

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For every sample of an epoch: its mixture source, its index there (unused for a stream), and its number in
        that source's endless sequence."""
        shares = [part.share for part in self.sources]
        order = np.random.default_rng((self.seed, epoch)).permutation(self.total)
        numbers = [np.arange(epoch * share, (epoch + 1) * share) for share in shares]
        indices = [self._indices(part, positions) for part, positions in enumerate(numbers)]
        labels = np.repeat(np.arange(len(shares)), shares)
        return labels[order], np.concatenate(indices)[order], np.concatenate(numbers)[order]

    def _indices(self, number: int, positions: np.ndarray) -> np.ndarray:
        source = self.sources[number].source
        if isinstance(source, Stream) or len(source) > WITHOUT_END:
            return positions
        passes, within = np.divmod(positions, len(source))
        for one in np.unique(passes):
            order = np.random.default_rng((self.seed, number, int(one), 1)).permutation(len(source))
            within[passes == one] = order[within[passes == one]]
        return within

    def _pick(
        self, number: int, index: int, position: int, row: int, cursors: dict[int, dict[int, Cursor]], lanes: Lanes
    ) -> Pick | None:
        """The sample of a row; None if another process reads it."""
        is_local, source = lanes.is_local(row), self.sources[number].source
        if not isinstance(source, Stream):
            return Pick(int(number), source, int(index), (self.seed, int(number), int(position))) if is_local else None
        if (cursor := cursors[number].get(lanes.lane_of(row, self._lanes_in[number]))) is None:
            return None
        taken = cursor.next_sample()  # of a lane that processes share, also where another reads the row
        seed = (self.seed, int(number), *taken.stream_position)
        return Pick(int(number), taken.source, taken.index, seed) if is_local else None

    def _from(self, position: dict[str, Any] | None, lanes: Lanes) -> tuple[int, int, dict[int, dict[int, Cursor]]]:
        position = position or {}
        cursors = {
            i: self._cursors(i, part.source, lanes, position.get("streams", {}).get(str(i), {}))
            for i, part in enumerate(self.sources)
            if isinstance(part.source, Stream)
        }
        if "process" in position:
            raise DataError("the position in the stream was written by another version of diptych; start a new run.")
        wanted = self._fingerprint(cursors, lanes)
        for name in position.keys() & wanted.keys() - {"streams"}:
            if position[name] != wanted[name]:
                raise DataError(
                    f"the data differs from that of the position to continue from: {name} was {position[name]} and is "
                    f"{wanted[name]}. Use the same data, or start a new run."
                )
        return position.get("epoch", 0), position.get("sample", 0), cursors

    def _cursors(self, number: int, stream: Stream, lanes: Lanes, states: dict[str, Any]) -> dict[int, Cursor]:
        total = self._lanes_in[number] = lanes.lanes_in(stream)
        local = sorted(lanes.local_lanes(total))
        ahead = max(1, SHARDS_AT_ONCE // max(1, len(local)))
        return {
            lane: Cursor(stream, (self.seed, number), lane, total, self.on_shard, states.get(str(lane)), ahead)
            for lane in local
        }

    def _fingerprint(self, cursors: dict[int, dict[int, Cursor]], lanes: Lanes) -> dict[str, Any]:
        """Identifies the data of a position, with the positions in its streams."""
        sizes = [len(p.source.shards) if isinstance(p.source, Stream) else len(p.source) for p in self.sources]
        mark: dict[str, Any] = {"seed": self.seed, "shares": [part.share for part in self.sources], "sizes": sizes}
        if cursors:
            streams = {str(i): {str(lane): each.state for lane, each in those.items()} for i, those in cursors.items()}
            mark |= {"lanes": lanes.total, "streams": streams}
        return mark


def merged_position(positions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The position of all processes at the same batch, from which any number of them can continue."""
    merged = dict(positions[0])
    if "streams" in merged:
        merged["streams"] = {
            number: {lane: state for each in positions for lane, state in each["streams"][number].items()}
            for number in merged["streams"]
        }
    return merged
