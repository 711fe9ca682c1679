"""Which pictures and texts of a batch belong together, by what they are and not only by where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from diptych.data.loading.decoding import content_id
from diptych.training.objectives.positives import Shared

if TYPE_CHECKING:
    from jaxtyping import Int


class Identities(NamedTuple):
    """Text j was read with picture `owners[j]`. Equal numbers in `pictures` (`captions`) are one picture (caption)."""

    owners: Int[Tensor, " texts"]
    captions: Int[Tensor, " texts"]
    pictures: Int[Tensor, " pictures"]


def identify(owners: np.ndarray, captions: Sequence[str], picture_ids: np.ndarray) -> Identities:
    """The identities in a batch: captions that differ in case or white space alone are one."""
    numbers = np.array([content_id(" ".join(caption.casefold().split()).encode()) for caption in captions], np.int64)
    return Identities(torch.from_numpy(np.asarray(owners)), torch.from_numpy(numbers), torch.from_numpy(picture_ids))


def positives(batch: Identities, device: torch.device) -> Shared:
    """All (pictures, texts) of a batch that belong together, on a device.

    A picture that comes twice owns the captions of both, and every picture of a caption that comes twice owns both:
    they would otherwise be pushed apart as each other's negatives, though no model can tell them apart. They count as
    positives, and are not merely left out of the denominator, because a caption of two pictures describes the one as
    well as the other: with the target spread over both, the best scores are again the log ratios of probabilities that
    the loss estimates (Yang et al. 2022 do so for class labels), and the sigmoid loss's question is truly answered yes.
    """
    # Numbered where they are: not every device compares all 64 bits.
    kinds = (torch.unique(numbers, return_inverse=True)[1] for numbers in (batch.pictures, batch.captions))
    return Shared.of(*(numbers.to(device) for numbers in (*kinds, batch.owners)))
