"""Which pictures and texts of a batch belong together, by what they are and not only by where they stand."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from diptych.data.decoding import content_id
from diptych.nets.loss import Pairs


class Identities(NamedTuple):
    """Text j was read with picture `owners[j]`. Equal numbers in `pictures` (`captions`) are one picture (caption)."""

    owners: Int[Tensor, " texts"]
    captions: Int[Tensor, " texts"]
    pictures: Int[Tensor, " pictures"]


def identify(owners: np.ndarray, captions: Sequence[str], picture_ids: np.ndarray) -> Identities:
    """The identities in a batch: captions that differ in case or white space alone are one."""
    numbers = np.array([content_id(" ".join(caption.casefold().split()).encode()) for caption in captions], np.int64)
    return Identities(torch.from_numpy(np.asarray(owners)), torch.from_numpy(numbers), torch.from_numpy(picture_ids))


def positives(batch: Identities) -> Pairs:
    """All (pictures, texts) of a batch that belong together, each once, by rising picture.

    A picture that comes twice owns the captions of both, and every picture of a caption that comes twice owns both:
    they would otherwise be pushed apart as each other's negatives, though no model can tell them apart. They count as
    positives, and are not merely left out of the denominator, because a caption of two pictures describes the one as
    well as the other: with the target spread over both, the best scores are again the log ratios of probabilities that
    the loss estimates (Yang et al. 2022 do so for class labels), and the sigmoid loss's question is truly answered yes.
    """
    picture, of_picture = _classes(batch.pictures)
    caption, of_caption = _classes(batch.captions)
    width = len(of_caption.sizes)
    together = torch.unique(picture[batch.owners] * width + caption)
    a, b = together // width, together % width
    sizes = of_picture.sizes[a] * of_caption.sizes[b]
    which = torch.repeat_interleave(sizes)  # for every pair, the number of the classes' pair
    place = torch.arange(len(which), device=which.device) - (sizes.cumsum(0) - sizes)[which]
    a, b = a[which], b[which]
    rows = of_picture.members[of_picture.starts[a] + place // of_caption.sizes[b]]
    columns = of_caption.members[of_caption.starts[b] + place % of_caption.sizes[b]]
    order = torch.argsort(rows * len(caption) + columns)
    return rows[order], columns[order]


class _Classes(NamedTuple):
    """Positions by class: those of class c are members[starts[c] : starts[c] + sizes[c]]."""

    members: Tensor
    starts: Tensor
    sizes: Tensor


def _classes(numbers: Tensor) -> tuple[Tensor, _Classes]:
    """Each position's class, and each class's positions."""
    _, inverse, sizes = torch.unique(numbers, return_inverse=True, return_counts=True)
    return inverse, _Classes(torch.argsort(inverse, stable=True), sizes.cumsum(0) - sizes, sizes)
