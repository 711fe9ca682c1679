"""Which sample comes when: the order of a mixture, from (seed, epoch) alone, and the place to go on from."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from diptych.data.loading.augmentation import Augmentation
from diptych.data.loading.stream import Cursor
from diptych.data.samples import Source, Stream
from diptych.errors import DataError

WITHOUT_END = 1 << 32  # samples; such a source (drawn scenes) is read in its own order, for no permutation holds it


class Part(NamedTuple):
    """One source of a mixture: `share` samples of it are drawn each epoch, changed by `how`."""

    source: Source | Stream
    share: int
    how: Augmentation


class Pick(NamedTuple):
    """A sample to be decoded: number `index` of `source`, its random changes drawn from `seed`."""

    part: int
    source: Source
    index: int
    seed: tuple[int, ...]


class Planned(NamedTuple):
    """A batch before it is read: the picks of this process, the epoch, and where to go on after it."""

    picks: list[Pick]
    epoch: int
    position: dict[str, Any]


@dataclass
class Plan:
    """The order of a mixture without end, epoch after epoch. Of each batch process `rank` of `world` gets its part.

    An epoch takes `share` samples of every part, all shuffled together. A part's samples come pass by pass, each pass a
    new permutation, so that all have been seen once before one is seen twice.
    """

    parts: list[Part]
    batch_size: int
    seed: int
    rank: int
    world: int
    set_aside: Callable[[str, Exception | None], None]

    @property
    def total(self) -> int:
        """Samples in an epoch, over all processes."""
        return sum(part.share for part in self.parts)

    def batches(self, position: dict[str, Any] | None = None) -> Iterator[Planned]:
        """Whole batches from `position` on; the rest of an epoch, where it is too little for a batch, is left out."""
        epoch, sample, cursors = self._from(position)
        while True:
            labels, indices, places = self._epoch(epoch)
            while sample + self.batch_size <= self.total:
                mine = range(sample + self.rank, sample + self.batch_size, self.world)
                picks = [self._pick(labels[i], indices[i], places[i], cursors) for i in mine]
                sample += self.batch_size
                ended = sample + self.batch_size > self.total
                at = {"epoch": epoch + 1, "sample": 0} if ended else {"epoch": epoch, "sample": sample}
                yield Planned(picks, epoch, at | self._fingerprint(cursors))
            epoch, sample = epoch + 1, 0

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For every sample of an epoch: its part, its index there (unused for a stream), its number in that part's
        endless sequence."""
        shares = [part.share for part in self.parts]
        order = np.random.default_rng((self.seed, epoch)).permutation(self.total)
        numbers = [np.arange(epoch * share, (epoch + 1) * share) for share in shares]
        indices = [self._indices(part, places) for part, places in enumerate(numbers)]
        labels = np.repeat(np.arange(len(shares)), shares)
        return labels[order], np.concatenate(indices)[order], np.concatenate(numbers)[order]

    def _indices(self, number: int, places: np.ndarray) -> np.ndarray:
        source = self.parts[number].source
        if isinstance(source, Stream) or len(source) > WITHOUT_END:
            return places
        passes, within = np.divmod(places, len(source))
        for one in np.unique(passes):
            order = np.random.default_rng((self.seed, number, int(one), 1)).permutation(len(source))
            within[passes == one] = order[within[passes == one]]
        return within

    def _pick(self, number: int, index: int, place: int, cursors: dict[int, Cursor]) -> Pick:
        if (cursor := cursors.get(number)) is None:
            source = self.parts[number].source
            assert not isinstance(source, Stream)
            return Pick(int(number), source, int(index), (self.seed, int(number), int(place)))
        taken = cursor.take()
        return Pick(int(number), taken.source, taken.index, (self.seed, int(number), self.rank, *taken.place))

    def _from(self, position: dict[str, Any] | None) -> tuple[int, int, dict[int, Cursor]]:
        position = position or {}
        states = position.get("streams", {})
        cursors = {
            i: Cursor(part.source, (self.seed, i), self.rank, self.world, self.set_aside, states.get(str(i)))
            for i, part in enumerate(self.parts)
            if isinstance(part.source, Stream)
        }
        wanted = self._fingerprint(cursors)
        for name in position.keys() & wanted.keys() - {"streams"}:
            if position[name] != wanted[name]:
                raise DataError(
                    f"the data is not that of the position to go on from: {name} was {position[name]} and is "
                    f"{wanted[name]}. Give the same data, or start anew."
                )
        return position.get("epoch", 0), position.get("sample", 0), cursors

    def _fingerprint(self, cursors: dict[int, Cursor]) -> dict[str, Any]:
        """What tells that a position belongs to this data, and where its streams stand."""
        sizes = [len(p.source.shards) if isinstance(p.source, Stream) else len(p.source) for p in self.parts]
        mark: dict[str, Any] = {"seed": self.seed, "shares": [part.share for part in self.parts], "sizes": sizes}
        if cursors:
            streams = {str(number): cursor.state for number, cursor in cursors.items()}
            mark |= {"process": f"{self.rank} of {self.world}", "streams": streams}
        return mark
