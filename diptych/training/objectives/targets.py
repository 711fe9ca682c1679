"""Which pictures and texts of a batch are positives, by content and not only by position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from diptych.data.loading.decoding import content_id
from diptych.training.objectives.positives import GroupedPositives

if TYPE_CHECKING:
    from jaxtyping import Int


class PairIds(NamedTuple):
    """The pairs of a batch by content: text j is a caption of picture `image_index[j]`. Equal numbers in `pictures`
    (`captions`) are the same picture (caption)."""

    image_index: Int[Tensor, " texts"]
    captions: Int[Tensor, " texts"]
    pictures: Int[Tensor, " pictures"]


def identify(image_index: np.ndarray, captions: Sequence[str], picture_ids: np.ndarray) -> PairIds:
    """The ids of a batch. Captions that differ only in case or white space are the same."""
    numbers = np.array([content_id(" ".join(caption.casefold().split()).encode()) for caption in captions], np.int64)
    return PairIds(torch.from_numpy(np.asarray(image_index)), torch.from_numpy(numbers), torch.from_numpy(picture_ids))


def positives(batch: PairIds, device: torch.device) -> GroupedPositives:
    """All positive (picture, text) pairs of a batch, on a device.

    If a picture is twice in the batch, the captions of both are its positives; if a caption is, all its pictures are.
    As negatives they would be pushed apart though no model can distinguish them. They are positives, and not merely
    left out of the denominator, because a caption of two pictures describes both: with the target spread over both, the
    best scores are again the log ratios of probabilities that the loss estimates (Yang et al. 2022 do so for class
    labels), and the sigmoid loss gets the correct label.
    """
    # As group numbers from 0: not every device compares all 64 bits.
    groups = (torch.unique(numbers, return_inverse=True)[1] for numbers in (batch.pictures, batch.captions))
    return GroupedPositives.of(*(numbers.to(device) for numbers in (*groups, batch.image_index)))
