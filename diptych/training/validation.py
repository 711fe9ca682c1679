"""Recall on held-out pairs during a run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from diptych.data.loading.decoding import picture_of
from diptych.data.loading.stream import indexed
from diptych.data.samples import Source, Stream, spell_counts
from diptych.data.sources.opening import open_source
from diptych.data.varied import require_varied
from diptych.engines.pytorch import PyTorchEngine
from diptych.errors import DataError, ImageError
from diptych.media.images import Preprocess, squared
from diptych.nets.clip import CLIP
from diptych.scoring import metrics
from diptych.text.tokenizer import Tokenizer
from diptych.training.config import TrainConfig

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8

PICTURES, TEXTS = 250, 1000  # in a batch


class Skipped(NamedTuple):
    """A pair that could not be used."""

    key: str
    reason: str


@dataclass
class Validation:
    """Held-out pairs as the towers want them. Pictures stay uint8: a thousand of 128 px are 50 MB."""

    pixels: UInt8[np.ndarray, "pictures size size 3"]
    captions: list[str]
    owners: Int[np.ndarray, " texts"]
    skipped: list[Skipped]
    no_pairs: dict[str, int] = field(default_factory=dict)

    @classmethod
    def open(cls, config: TrainConfig, preprocess: Preprocess) -> "Validation":
        """The pairs that `config.val` names; of a folder with several splits those of one that is held out. DataError
        where one caption is that of most pictures: no recall could be told from another."""
        source = open_source(str(config.val), held_out=True, allow_outside=config.allow_outside)
        require_varied(source, str(config.val))
        return cls.read(source, preprocess)

    @classmethod
    def read(cls, source: Source | Stream, spec: Preprocess) -> "Validation":
        """All pairs of a source. Broken pictures are left out with their captions; DataError where none is left."""
        source = indexed(source)
        pixels, captions, owners, skipped = [], [], [], []
        for index in range(len(source)):
            try:
                sample = source[index]
                picture = squared(picture_of(sample, spec.size_px), spec)
            except (ImageError, DataError, OSError) as error:
                skipped.append(Skipped(source.key(index), getattr(error, "reason", None) or type(error).__name__))
                continue
            owners += [len(pixels)] * len(sample.captions)
            captions += sample.captions
            pixels.append(picture)
        if not pixels:
            raise DataError(f"none of {len(source)} validation pictures could be read; the first: {skipped[0]}")
        return cls(np.stack(pixels), captions, np.array(owners), skipped, source.skipped)

    def left_out(self) -> str:
        """The pairs that could not be used, in words; empty where all could."""
        counts = Counter(skipped.reason for skipped in self.skipped)
        first = f", the first {self.skipped[0].key}" if self.skipped else ""
        return f"{spell_counts(self.no_pairs | counts)} left out{first}" if self.no_pairs or counts else ""

    def measure(self, network: CLIP, tokenizer: Tokenizer, spec: Preprocess, device: torch.device) -> metrics.Retrieval:
        """Recall both ways, in float32."""
        engine = PyTorchEngine(network, spec, device)
        images, texts = embed_pixels(engine, self.pixels), embed_texts(engine, self.captions, tokenizer)
        return metrics.retrieval(images, texts, self.owners)


def embed_pixels(
    engine: PyTorchEngine, pixels: UInt8[np.ndarray, "pictures size size 3"]
) -> Float[np.ndarray, "pictures dim"]:
    """Unit vectors of pictures that have the tower's size already, in batches."""
    starts = range(0, len(pixels), PICTURES)
    return np.concatenate([engine.encode_images(pixels[i : i + PICTURES]) for i in starts])


def embed_texts(engine: PyTorchEngine, texts: list[str], tokenizer: Tokenizer) -> Float[np.ndarray, "texts dim"]:
    """Unit vectors of texts, in batches; what is too long for the tower is cut."""
    starts = range(0, len(texts), TEXTS)
    return np.concatenate([engine.encode_texts(tokenizer(texts[i : i + TEXTS], truncate=True).ids) for i in starts])
