"""Decodes picks into pixels and captions, and replaces broken samples."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from diptych.data.loading.augmentation import Augmentation, augment_picture, drop_words, mirror_caption, moved_region
from diptych.data.loading.plan import Pick
from diptych.data.samples import Region, Sample
from diptych.errors import DataError, ImageError
from diptych.media.images import open_image
from diptych.text.phrases import phrases_of

TRIES = 50  # if half of a source is broken, one replacement in 2^50 fails
OWN_TRIES = 5  # tries within the sample's own source


class BadSample(NamedTuple):
    """Why a sample was skipped: a short countable `reason`, and the whole message."""

    reason: str
    message: str


class DecodedBatch(NamedTuple):
    """A batch without its pixels: captions, the row of each caption's picture, a hash of each picture's bytes, each
    picture's regions, and broken samples by key."""

    captions: list[str]
    owners: np.ndarray
    picture_ids: np.ndarray
    regions: list[list[Region]]
    bad: dict[str, BadSample]


@dataclass(frozen=True)
class Decoder:
    """Decodes picks into pictures of `size_px` with `captions_per_image` captions, augmented by
    `augmentations`[number of the mixture source]. With `phrases`, the phrases of the captions become regions without a
    box for a picture without regions.
    """

    size_px: int
    captions_per_image: int
    augmentations: tuple[Augmentation, ...]
    phrases: bool = False

    def decode(self, picks: Sequence[Pick], pixels: np.ndarray) -> DecodedBatch:
        """Decode the picks into `pixels`, (picks, size_px, size_px, 3) uint8.

        Another sample of its source, drawn from the broken sample's seed, replaces a broken sample, so that batches
        keep their size and order. If a whole source seems broken, such as a shard of a stream, a sample of another
        source in the batch replaces it. Raises DataError if that fails as well.
        """
        captions: list[str] = []
        owners: list[int] = []
        regions: list[list[Region]] = []
        ids = np.empty(len(picks), np.int64)
        bad: dict[str, BadSample] = {}
        for row in range(len(picks)):
            texts, sample_regions, ids[row] = self._read(picks, row, pixels[row], bad)
            owners += [row] * len(texts)
            captions += texts
            regions.append(sample_regions)
        return DecodedBatch(captions, np.array(owners, np.int64), ids, regions, bad)

    def _read(
        self, picks: Sequence[Pick], row: int, out: np.ndarray, bad: dict[str, BadSample]
    ) -> tuple[list[str], list[Region], int]:
        pick = picks[row]
        rng = np.random.default_rng(pick.seed)
        index = pick.index
        for attempt in range(TRIES):
            try:
                sample = pick.source[index]
                return *self._changed(sample, self.augmentations[pick.part], rng, out), picture_id(sample)
            except (ImageError, DataError, OSError) as error:
                bad.setdefault(*failure_of(pick.source.key(index), error))
                if attempt >= OWN_TRIES:
                    pick = picks[int(rng.integers(len(picks)))]
                index = int(rng.integers(len(pick.source)))
        raise DataError(f"{TRIES} samples in a row are unusable: {describe_failures(bad)}. Repair the data.")

    def _changed(
        self, sample: Sample, how: Augmentation, rng: np.random.Generator, out: np.ndarray
    ) -> tuple[list[str], list[Region]]:
        out[:], part, is_mirrored = augment_picture(picture_of(sample, self.size_px), self.size_px, how, rng)
        texts = sample.captions
        if len(texts) > 1:
            texts = [texts[i] for i in rng.permutation(len(texts))[: self.captions_per_image]]
        if is_mirrored:
            texts = [mirror_caption(caption) for caption in texts]
        texts = [drop_words(caption, how.drop_words, rng) for caption in texts]
        regions = sample.regions
        if self.phrases and not regions:
            named = phrases_of(sample.captions)
            regions = [Region(named[at], None) for at in rng.permutation(len(named))]
        moved = [moved_region(region, part, is_mirrored=is_mirrored) for region in regions]
        return texts, [each for each in moved if each]


def failure_of(key: str, error: Exception) -> tuple[str, BadSample]:
    """The key, and the failure of a sample or shard that raised `error`."""
    fallback = error.strerror.lower() if isinstance(error, OSError) and error.strerror else type(error).__name__
    reason = getattr(error, "reason", None) or fallback
    return key, BadSample(reason, f"{key}: {getattr(error, 'detail', None) or error}")


def describe_failures(bad: dict[str, BadSample]) -> str:
    """Broken samples counted by reason, with one key for each reason."""
    groups: dict[str, list[str]] = {}
    for key, one in bad.items():
        groups.setdefault(one.reason, []).append(key)
    ranked = sorted(groups.items(), key=lambda group: -len(group[1]))
    return ", ".join(f"{len(keys)} {reason} ({keys[0]})" for reason, keys in ranked)


def picture_of(sample: Sample, size_px: int) -> Image.Image:
    """The sample's picture in RGB; a JPEG far larger than needed is decoded at a reduced size."""
    if isinstance(sample.image, Image.Image):
        return open_image(sample.image, decode="fast")
    return open_image(io.BytesIO(sample.image), decode="fast", size_px=size_px)


def picture_id(sample: Sample) -> int:
    """A number that is equal for equal pictures."""
    return content_id(sample.image if isinstance(sample.image, bytes) else sample.image.tobytes())


def content_id(content: bytes) -> int:
    """A 64-bit hash that is the same in every process; two contents of a batch collide with a probability of 1e-11."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little", signed=True)
