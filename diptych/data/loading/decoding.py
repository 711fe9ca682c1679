"""Picks to pixels and captions, with another sample in the place of a broken one."""

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

TRIES = 50  # of a source where half is broken, one in 2^50 samples finds no other
OWN_TRIES = 5  # of them in the sample's own source


class Bad(NamedTuple):
    """Why a sample was skipped: a short countable `reason`, and the whole message."""

    reason: str
    message: str


class Decoded(NamedTuple):
    """All of a batch but its pixels: captions, the row of each, a number for each picture's bytes, each picture's
    regions, what was broken."""

    captions: list[str]
    owners: np.ndarray
    picture_ids: np.ndarray
    regions: list[list[Region]]
    bad: dict[str, Bad]


@dataclass(frozen=True)
class Decoder:
    """Reads picks: pictures of `size_px`, `captions_per_image` captions of each, changed by `hows`[part].

    With `phrases` what the captions name counts as true of the whole of a picture that came without regions.
    """

    size_px: int
    captions_per_image: int
    hows: tuple[Augmentation, ...]
    phrases: bool = False

    def decode(self, picks: Sequence[Pick], pixels: np.ndarray) -> Decoded:
        """Read the picks into `pixels`, (picks, size_px, size_px, 3) uint8.

        In place of a broken sample another one of its source is drawn, from the seed of the broken one, so that batches
        keep their size and their order whatever is broken; where all of a source seems to be, such as a shard of a
        stream, one of the sources that the batch has. DataError where that does not help.
        """
        captions: list[str] = []
        owners: list[int] = []
        regions: list[list[Region]] = []
        ids = np.empty(len(picks), np.int64)
        bad: dict[str, Bad] = {}
        for row in range(len(picks)):
            texts, places, ids[row] = self._read(picks, row, pixels[row], bad)
            owners += [row] * len(texts)
            captions += texts
            regions.append(places)
        return Decoded(captions, np.array(owners, np.int64), ids, regions, bad)

    def _read(
        self, picks: Sequence[Pick], row: int, out: np.ndarray, bad: dict[str, Bad]
    ) -> tuple[list[str], list[Region], int]:
        pick = picks[row]
        rng = np.random.default_rng(pick.seed)
        index = pick.index
        for attempt in range(TRIES):
            try:
                sample = pick.source[index]
                return *self._changed(sample, self.hows[pick.part], rng, out), picture_id(sample)
            except (ImageError, DataError, OSError) as error:
                bad.setdefault(*why(pick.source.key(index), error))
                if attempt >= OWN_TRIES:
                    pick = picks[int(rng.integers(len(picks)))]
                index = int(rng.integers(len(pick.source)))
        raise DataError(f"{TRIES} samples in a row are unusable: {spell_bad(bad)}. Mend the data.")

    def _changed(
        self, sample: Sample, how: Augmentation, rng: np.random.Generator, out: np.ndarray
    ) -> tuple[list[str], list[Region]]:
        out[:], part, flipped = augment_picture(picture_of(sample, self.size_px), self.size_px, how, rng)
        texts = sample.captions
        if len(texts) > 1:
            texts = [texts[i] for i in rng.permutation(len(texts))[: self.captions_per_image]]
        if flipped:
            texts = [mirror_caption(caption) for caption in texts]
        texts = [drop_words(caption, how.drop_words, rng) for caption in texts]
        regions = sample.regions
        if self.phrases and not regions:
            named = phrases_of(sample.captions)
            regions = [Region(named[at], None) for at in rng.permutation(len(named))]
        moved = [moved_region(region, part, flipped=flipped) for region in regions]
        return texts, [each for each in moved if each]


def why(key: str, error: Exception) -> tuple[str, Bad]:
    """The key and what is said of a sample, or a shard, that raised `error`."""
    said = error.strerror.lower() if isinstance(error, OSError) and error.strerror else type(error).__name__
    reason = getattr(error, "reason", None) or said
    return key, Bad(reason, f"{key}: {getattr(error, 'detail', None) or error}")


def spell_bad(bad: dict[str, Bad]) -> str:
    """Broken samples by reason, with one of them named for each."""
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
    """A number that equal pictures share."""
    return content_id(sample.image if isinstance(sample.image, bytes) else sample.image.tobytes())


def content_id(content: bytes) -> int:
    """64 bits of a hash that is the same in every process; two contents of a batch share one with chance 1e-11."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little", signed=True)
