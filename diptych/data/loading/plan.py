"""The order of samples in a mixture, determined by (seed, epoch) alone, and positions to continue from."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from diptych.data.loading.augmentation import Augmentation
from diptych.data.loading.stream import Cursor
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

    @property
    def total(self) -> int:
        """Samples in an epoch, over all processes."""
        return sum(part.share for part in self.sources)

    def batches(self, position: dict[str, Any] | None = None) -> Iterator[PlannedBatch]:
        """Batches from `position` on; the rest of an epoch that fills no batch is left out."""
        epoch, sample, cursors = self._from(position)
        while True:
            labels, indices, positions = self._epoch(epoch)
            while sample + self.batch_size <= self.total:
                mine = range(sample + self.rank, sample + self.batch_size, self.world_size)
                picks = [self._pick(labels[i], indices[i], positions[i], cursors) for i in mine]
                sample += self.batch_size
                ended = sample + self.batch_size > self.total
                at = {"epoch": epoch + 1, "sample": 0} if ended else {"epoch": epoch, "sample": sample}
                yield PlannedBatch(picks, epoch, at | self._fingerprint(cursors))
            epoch, sample = epoch + 1, 0

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

    def _pick(self, number: int, index: int, position: int, cursors: dict[int, Cursor]) -> Pick:
        if (cursor := cursors.get(number)) is None:
            source = self.sources[number].source
            assert not isinstance(source, Stream)
            return Pick(int(number), source, int(index), (self.seed, int(number), int(position)))
        taken = cursor.next_sample()
        return Pick(int(number), taken.source, taken.index, (self.seed, int(number), self.rank, *taken.stream_position))

    def _from(self, position: dict[str, Any] | None) -> tuple[int, int, dict[int, Cursor]]:
        position = position or {}
        states = position.get("streams", {})
        cursors = {
            i: Cursor(part.source, (self.seed, i), self.rank, self.world_size, self.on_shard, states.get(str(i)))
            for i, part in enumerate(self.sources)
            if isinstance(part.source, Stream)
        }
        wanted = self._fingerprint(cursors)
        for name in position.keys() & wanted.keys() - {"streams"}:
            if position[name] != wanted[name]:
                raise DataError(
                    f"the data differs from that of the position to continue from: {name} was {position[name]} and is "
                    f"{wanted[name]}. Use the same data, or start a new run."
                )
        return position.get("epoch", 0), position.get("sample", 0), cursors

    def _fingerprint(self, cursors: dict[int, Cursor]) -> dict[str, Any]:
        """Identifies the data of a position, with the positions in its streams."""
        sizes = [len(p.source.shards) if isinstance(p.source, Stream) else len(p.source) for p in self.sources]
        mark: dict[str, Any] = {"seed": self.seed, "shares": [part.share for part in self.sources], "sizes": sizes}
        if cursors:
            streams = {str(number): cursor.state for number, cursor in cursors.items()}
            mark |= {"process": f"{self.rank} of {self.world_size}", "streams": streams}
        return mark
