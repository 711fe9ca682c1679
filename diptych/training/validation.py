"""Validation: recall on held-out pairs during a run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from diptych.data.caption_variety import require_variety
from diptych.data.loading.decoding import picture_of
from diptych.data.loading.stream import indexed
from diptych.data.samples import Source, Stream, spell_counts
from diptych.data.sources.opening import open_source
from diptych.engines.pytorch import PyTorchEngine
from diptych.errors import DataError, ImageError
from diptych.media.preprocessing import Preprocess, resized_and_cropped
from diptych.nets.clip import CLIP
from diptych.scoring import metrics
from diptych.text.tokenizer import Tokenizer
from diptych.training.config import TrainConfig

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8

PICTURE_BATCH, TEXT_BATCH = 250, 1000


class SkippedPair(NamedTuple):
    """A pair that could not be used."""

    key: str
    reason: str

    def __str__(self) -> str:
        return f"{self.key} ({self.reason})"


@dataclass
class Validation:
    """Held-out pairs in the towers' input form. Text j belongs to picture `image_index[j]`. Pictures are uint8: a
    thousand of 128 px take 50 MB."""

    pixels: UInt8[np.ndarray, "pictures size size 3"]
    captions: list[str]
    image_index: Int[np.ndarray, " texts"]
    skipped: list[SkippedPair]
    unpaired: dict[str, int] = field(default_factory=dict)
    _kept: Float[np.ndarray, "pictures dim"] | None = field(default=None, repr=False)  # the vectors of a locked tower

    @classmethod
    def open(cls, config: TrainConfig, preprocess: Preprocess) -> "Validation":
        """The pairs of `config.val`; if it has several splits, those of a held-out one. Raises DataError if most
        pictures have the same caption, which would make recall meaningless."""
        source = open_source(str(config.val), held_out=True, allow_outside=config.allow_outside)
        require_variety(source, str(config.val))
        return cls.read(source, preprocess)

    @classmethod
    def read(cls, source: Source | Stream, spec: Preprocess) -> "Validation":
        """All pairs of a source. Unreadable pictures are skipped with their captions. Raises DataError if none
        remains."""
        source = indexed(source)
        pixels, captions, image_index, skipped = [], [], [], []
        for index in range(len(source)):
            try:
                sample = source[index]
                picture = resized_and_cropped(picture_of(sample, spec.size_px), spec)
            except (ImageError, DataError, OSError) as error:
                skipped.append(SkippedPair(source.key(index), getattr(error, "reason", None) or type(error).__name__))
                continue
            image_index += [len(pixels)] * len(sample.captions)
            captions += sample.captions
            pixels.append(picture)
        if not pixels:
            raise DataError(f"none of {len(source)} validation pictures could be read; the first: {skipped[0]}.")
        return cls(np.stack(pixels), captions, np.array(image_index), skipped, source.skipped)

    def left_out(self) -> str:
        """A sentence on the pairs that could not be used; empty if all could."""
        counts = Counter(skipped.reason for skipped in self.skipped)
        first = f", the first {self.skipped[0].key}" if self.skipped else ""
        return f"{spell_counts(self.unpaired | counts)} left out{first}" if self.unpaired or counts else ""

    def measure(
        self, network: CLIP, tokenizer: Tokenizer, spec: Preprocess, device: torch.device, *, is_locked: bool = False
    ) -> metrics.Retrieval:
        """Recall in both directions, in float32. With `is_locked` the image tower is that of all such calls: it
        encodes the pictures once."""
        engine = PyTorchEngine(network, spec, device)
        images = self._kept if is_locked and self._kept is not None else embed_pixels(engine, self.pixels)
        self._kept = images if is_locked else self._kept
        texts = embed_texts(engine, self.captions, tokenizer)
        return metrics.retrieval(images, texts, self.image_index)


def embed_pixels(
    engine: PyTorchEngine, pixels: UInt8[np.ndarray, "pictures size size 3"]
) -> Float[np.ndarray, "pictures dim"]:
    """Unit vectors of pictures of the tower's input size, in batches."""
    starts = range(0, len(pixels), PICTURE_BATCH)
    return np.concatenate([engine.encode_images(pixels[i : i + PICTURE_BATCH]) for i in starts])


def embed_texts(engine: PyTorchEngine, texts: list[str], tokenizer: Tokenizer) -> Float[np.ndarray, "texts dim"]:
    """Unit vectors of texts, in batches. Texts longer than the tower's context are truncated."""
    starts = range(0, len(texts), TEXT_BATCH)
    return np.concatenate(
        [engine.encode_texts(tokenizer(texts[i : i + TEXT_BATCH], truncate=True).ids) for i in starts]
    )
