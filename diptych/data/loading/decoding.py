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
from diptych.data.loading.stored import StoredFeatures
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
    box for a picture without regions. With `stored` features these are read instead of pictures, those of a view drawn
    for each pick, and there are no regions.
    """

    size_px: int
    captions_per_image: int
    augmentations: tuple[Augmentation, ...]
    phrases: bool = False
    stored: StoredFeatures | None = None

    def read(self, picks: Sequence[Pick]) -> tuple[np.ndarray, DecodedBatch]:
        """The pixels or the features of the picks, and the rest, as by `decode`."""
        shape = (len(picks), self.size_px, self.size_px, 3)
        pixels = self.stored.empty(len(picks)) if self.stored else np.empty(shape, np.uint8)
        return pixels, self.decode(picks, pixels)

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
                how = self.augmentations[pick.part]
                if self.stored:
                    return self._from_store(self.stored, pick._replace(index=index), how, rng, out)
                sample = pick.source[index]
                return *self._changed(sample, how, rng, out), picture_id(sample)
            except (ImageError, DataError, OSError) as error:
                bad.setdefault(*failure_of(pick.source.key(index), error))
                if attempt >= OWN_TRIES:
                    pick = picks[int(rng.integers(len(picks)))]
                index = int(rng.integers(len(pick.source)))
        raise DataError(f"{TRIES} samples in a row are unusable: {describe_failures(bad)}. Repair the data.")

    def _changed(
        self, sample: Sample, how: Augmentation, rng: np.random.Generator, out: np.ndarray
    ) -> tuple[list[str], list[Region]]:
        picture = picture_of(sample, self.size_px)
        texts = self._drawn(sample.captions, how, rng)
        out[:], part, is_mirrored = augment_picture(picture, self.size_px, how, rng)
        if is_mirrored:
            texts = [mirror_caption(caption) for caption in texts]
        regions = sample.regions
        if self.phrases and not regions:
            named = phrases_of(sample.captions)
            regions = [Region(named[at], None) for at in rng.permutation(len(named))]
        moved = [moved_region(region, part, is_mirrored=is_mirrored) for region in regions]
        return texts, [each for each in moved if each]

    def _drawn(self, captions: tuple[str, ...], how: Augmentation, rng: np.random.Generator) -> list[str]:
        """Some of a picture's captions, with words left out. They are drawn before anything of the picture, so that
        they are the same for its features."""
        chosen = list(captions)
        if len(captions) > 1:
            chosen = [captions[i] for i in rng.permutation(len(captions))[: self.captions_per_image]]
        return [drop_words(caption, how.drop_words, rng) for caption in chosen]

    def _from_store(
        self, stored: StoredFeatures, pick: Pick, how: Augmentation, rng: np.random.Generator, out: np.ndarray
    ) -> tuple[list[str], list[Region], int]:
        row = stored.row(pick.part, pick.index, pick.source.key(pick.index))
        texts = self._drawn(pick.source.captions(pick.index), how, rng)
        view = int(rng.integers(stored.features.shape[1]))
        out[:] = stored.features[row, view]
        if stored.mirrored[row, view]:
            texts = [mirror_caption(caption) for caption in texts]
        return texts, [], int(stored.picture_ids[row])


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
