"""Samples to batches: shuffled by seed and epoch, decoded and changed in threads, a few batches ahead."""

import io
import threading
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from PIL import Image

from diptych.data.augment import Augmentation, augment_picture, drop_words, mirror_caption
from diptych.data.sources import DataError, Sample, Source
from diptych.images import ImageError, open_image

MAX_BAD_SHARE, TOLERATED = 0.1, 20  # of a small set a few may be broken, whatever their share


class Batch(NamedTuple):
    """`pixels` are (pictures, size, size, 3) uint8. `captions` lists all texts; text j belongs to `owners[j]`."""

    pixels: np.ndarray
    captions: list[str]
    owners: np.ndarray


class Bad(NamedTuple):
    """Why a sample was skipped: a short countable `reason`, and the whole message."""

    reason: str
    message: str


class Part(NamedTuple):
    """One source of a mixture: `share` samples of it are drawn each epoch, changed by `how`."""

    source: Source
    share: int
    how: Augmentation


@dataclass
class Loader:
    """Batches of a mixture of sources, the same for the same (seed, epoch) whatever the number of threads.

    With several processes (`rank` of `world`) each reads its own part of every batch, and together they read what one
    would. A broken sample is skipped and kept in `bad`, by its key; when over a tenth are broken, DataError says so.
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
    bad: dict[str, Bad] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        if self.batches_per_epoch < 1:
            came = sum(part.share for part in self.parts)
            raise DataError(f"{came} samples fill no batch of {self.batch_size}; set batch_size to {came} or less.")
        if self.batch_size < self.world:
            raise DataError(f"a batch of {self.batch_size} cannot be split over {self.world} processes.")

    @property
    def batches_per_epoch(self) -> int:
        return sum(part.share for part in self.parts) // self.batch_size

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Whole batches of one epoch, shuffled across all sources; the rest of a last batch is left out."""
        order = self._order(epoch)
        starts = range(0, self.batches_per_epoch * self.batch_size, self.batch_size)
        chunks = [order[start + self.rank : start + self.batch_size : self.world] for start in starts]
        with ThreadPoolExecutor(self.threads, thread_name_prefix="diptych-loader") as pool:
            waiting: deque[Future[Batch]] = deque()
            for chunk in chunks:
                waiting.append(pool.submit(self._batch, chunk, epoch))
                if len(waiting) > self.ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _order(self, epoch: int) -> list[tuple[int, int]]:
        """(part, index) pairs. A source with more samples than its share gives others each epoch."""
        rng = np.random.default_rng((self.seed, epoch))
        picks: list[tuple[int, int]] = []
        for number, part in enumerate(self.parts):
            start = (epoch * part.share) % len(part.source)
            fresh = [(start + i) % len(part.source) for i in range(part.share)]
            picks += [(number, index) for index in fresh]
        return [picks[i] for i in rng.permutation(len(picks))]

    def _batch(self, picks: list[tuple[int, int]], epoch: int) -> Batch:
        pictures, captions, owners = [], [], []
        for number, index in picks:
            rng = np.random.default_rng((self.seed, epoch, number, index))
            try:
                pixels, texts = self._sample(self.parts[number], index, rng)
            except (ImageError, DataError, OSError) as error:
                self._set_aside(self.parts[number].source.key(index), error)
                continue
            owners += [len(pictures)] * len(texts)
            pictures.append(pixels)
            captions += texts
        if not pictures:
            raise DataError(f"no sample of a batch of {len(picks)} was usable: {self.reasons()}")
        return Batch(np.stack(pictures), captions, np.array(owners))

    def _sample(self, part: Part, index: int, rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
        sample = part.source[index]
        pixels, flipped = augment_picture(picture_of(sample, self.size_px), self.size_px, part.how, rng)
        count = min(self.captions_per_image, len(sample.captions))
        chosen = [sample.captions[i] for i in rng.permutation(len(sample.captions))[:count]]
        if flipped:
            chosen = [mirror_caption(caption) for caption in chosen]
        return pixels, [drop_words(caption, part.how.drop_words, rng) for caption in chosen]

    def reasons(self) -> str:
        """The broken samples by reason, with one of them named for each."""
        counts = Counter(bad.reason for bad in self.bad.values())
        first = {bad.reason: key for key, bad in reversed(self.bad.items())}
        return ", ".join(f"{count} {reason} ({first[reason]})" for reason, count in counts.most_common())

    def _set_aside(self, key: str, error: Exception) -> None:
        reason = getattr(error, "reason", None) or type(error).__name__
        with self._lock:
            self.bad[key] = Bad(reason, f"{key}: {getattr(error, 'detail', None) or error}")
            total = sum(part.share for part in self.parts)
            if len(self.bad) > max(TOLERATED, MAX_BAD_SHARE * total):
                raise DataError(f"{len(self.bad)} of {total} samples are unusable: {self.reasons()}. Mend the data.")


def picture_of(sample: Sample, size_px: int) -> Image.Image:
    """The sample's picture in RGB; a JPEG far larger than needed is decoded at a reduced size."""
    if isinstance(sample.image, Image.Image):
        return sample.image.convert("RGB")
    return open_image(io.BytesIO(sample.image), decode="fast", size_px=size_px)
