"""Recall on held-out pairs during a run."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int, UInt8

from diptych import metrics
from diptych.data.loader import picture_of
from diptych.data.sources import DataError, Source
from diptych.engines.pytorch import PyTorchEngine
from diptych.images import ImageError, Preprocess, normalise, resize_and_crop
from diptych.nets.clip import CLIP
from diptych.tokenizer import Tokenizer

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

    @classmethod
    def read(cls, source: Source, spec: Preprocess) -> "Validation":
        """All pairs of a source. Broken pictures are left out with their captions; DataError where none is left."""
        pixels, captions, owners, skipped = [], [], [], []
        for index in range(len(source)):
            try:
                sample = source[index]
                picture = resize_and_crop(picture_of(sample, spec.size_px), spec)
            except (ImageError, DataError, OSError) as error:
                skipped.append(Skipped(source.key(index), getattr(error, "reason", None) or type(error).__name__))
                continue
            owners += [len(pixels)] * len(sample.captions)
            captions += sample.captions
            pixels.append(np.asarray(picture))
        if not pixels:
            raise DataError(f"none of {len(source)} validation pictures could be read; the first: {skipped[0]}")
        return cls(np.stack(pixels), captions, np.array(owners), skipped)

    def measure(self, network: CLIP, tokenizer: Tokenizer, spec: Preprocess, device: torch.device) -> metrics.Retrieval:
        """Recall both ways, in float32."""
        engine = PyTorchEngine(network, device)
        starts = range(0, len(self.pixels), PICTURES)
        images = [engine.encode_images(normalise(self.pixels[i : i + PICTURES], spec)) for i in starts]
        starts = range(0, len(self.captions), TEXTS)
        texts = [engine.encode_texts(tokenizer(self.captions[i : i + TEXTS], truncate=True).ids) for i in starts]
        return metrics.retrieval(np.concatenate(images), np.concatenate(texts), self.owners)
