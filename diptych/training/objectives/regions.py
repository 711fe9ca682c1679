"""The loss of regions: a contrastive loss between phrases and patches where boxes are known, and between phrases and
whole pictures elsewhere.

It is the mean of four losses, each a softmax or sigmoid over cosines (after Zhong et al. 2022, "RegionCLIP", section
3.3, and Li et al. 2022, "Grounded language-image pre-training", section 3.1):

phrase_loss      each region picks its phrase among the phrases of the batch
patch_loss       each phrase picks the patches of its region among those of the picture
presence_loss    each picture's vector separates phrases that are true of it from others; a picture is taken to show
                 only its regions, or only what its captions mention
separation_loss  phrases are pushed apart. If a phrase embedding were only the sum of its words, "red hat, blue cup"
                 and "blue hat, red cup" would be indistinguishable (Zhang et al. 2024, "Contrasting intra-modal and
                 ranking cross-modal hard negatives", section 3.2)

Photographs without boxes take part in the presence loss; otherwise only drawings would define the look of a noun.
`diptych.scoring.locate` reads the patch embeddings, and attention pooling sums them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diptych.data.samples import Region
from diptych.nets.clip import CLIP, unit
from diptych.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

# An inverse temperature. At the model's own, 20 and more, phrases that share a word at a cosine of 0.5 count as far
# apart, and sums of word vectors reach that.
SEPARATION_SCALE = 8.0
MAX_UNBOXED_PHRASES = 2  # per picture
ARTICLES = frozenset(("a", "an", "the"))


class RegionBatch(NamedTuple):
    """The regions of a batch, with the index of each one's picture and phrase. Regions with a box are first;
    `patch_coverage` is the share of each patch that the box covers. `implied[i, j]`: phrase j is part of phrase i ("a
    circle" of "a red circle"). `is_true[i, j]`: phrase j is true of picture i, or may be."""

    phrases: list[str]
    image_index: Int[Tensor, " regions"]
    phrase_index: Int[Tensor, " regions"]
    patch_coverage: Float[Tensor, "boxed patches"]
    implied: Bool[Tensor, "phrases phrases"]
    is_true: Bool[Tensor, "pictures phrases"]


class RegionTargets(NamedTuple):
    """The regions of a batch, the token ids of their phrases, and the weight of their loss."""

    batch: RegionBatch
    ids: Int[Tensor, "phrases tokens"]
    weight: float


def region_targets(
    regions: Sequence[Sequence[Region]], network: CLIP, tokenizer: Tokenizer, weight: float, device: torch.device
) -> RegionTargets | None:
    """The targets of a step, on `device`; None if no picture has a region or the loss has no weight."""
    batch = region_batch(regions, network.config.image.grid) if weight else None
    if batch is None:
        return None
    ids = torch.from_numpy(tokenizer(batch.phrases, truncate=True).ids)
    batch = batch._replace(**{name: x.to(device) for name, x in batch._asdict().items() if name != "phrases"})
    return RegionTargets(batch, ids.to(device), weight)


def region_batch(regions: Sequence[Sequence[Region]], grid: int) -> RegionBatch | None:
    """The regions of each picture of a batch on a map of `grid` x `grid` patches; None if there are none. The
    first MAX_UNBOXED_PHRASES regions without a box of each picture are trained on; the others only mark phrases that
    are true of it."""
    boxed = [(image, region) for image, some in enumerate(regions) for region in some if region.box]
    unboxed = [(image, phrase) for image, some in enumerate(regions) for phrase in _first_unboxed(some)]
    if not boxed and not unboxed:
        return None
    entries = [(image, region.phrase) for image, region in boxed] + unboxed
    phrases = sorted({phrase for _, phrase in entries})
    number = {phrase: index for index, phrase in enumerate(phrases)}
    words = [_words(phrase) for phrase in phrases]
    image_index = torch.tensor([image for image, _ in entries])
    phrase_index = torch.tensor([number[phrase] for _, phrase in entries])
    implied = torch.tensor([[other <= each for other in words] for each in words])
    is_true = implied.new_zeros(len(regions), len(phrases))
    is_true = is_true.index_put((image_index,), implied[phrase_index], accumulate=True)
    for image, some in enumerate(regions):
        if mentioned := frozenset().union(*(_words(region.phrase) for region in some if not region.box)):
            is_true[image] |= torch.tensor([each <= mentioned for each in words])
    boxes = torch.tensor([region.box for _, region in boxed], dtype=torch.float32).view(-1, 4)
    return RegionBatch(phrases, image_index, phrase_index, patch_coverage(boxes, grid), implied, is_true)


def _first_unboxed(regions: Sequence[Region]) -> list[str]:
    """The first distinct phrases of a picture that have no box."""
    return list(dict.fromkeys(region.phrase for region in regions if not region.box))[:MAX_UNBOXED_PHRASES]


def _words(phrase: str) -> frozenset[str]:
    """The words of a phrase without order, articles and plural s."""
    return frozenset(word.rstrip("s") for word in phrase.casefold().split()) - ARTICLES


def patch_coverage(boxes: Float[Tensor, "regions 4"], grid: int) -> Float[Tensor, "regions patches"]:
    """The share of each patch, row by row, in each box (left, top, right, bottom, as shares of the picture)."""
    edges = torch.arange(grid + 1) / grid
    low, high = edges[:-1], edges[1:]
    across, down = (
        (torch.minimum(high, boxes[:, end, None]) - torch.maximum(low, boxes[:, start, None])).clamp(min=0) * grid
        for start, end in ((0, 2), (1, 3))
    )
    return (down[:, :, None] * across[:, None, :]).flatten(1)


def region_loss(
    images: Float[Tensor, "pictures dim"],
    patches: Float[Tensor, "pictures patches dim"],
    phrases: Float[Tensor, "phrases dim"],
    scale: Float[Tensor, ""],
    batch: RegionBatch,
) -> Float[Tensor, ""]:
    """The mean of the four losses over a batch's regions and phrases, in nats; the presence loss alone if no region has
    a box. All vectors are of unit length."""
    presence_loss = _presence_loss(scale * images @ phrases.T, batch)
    if not len(batch.patch_coverage):
        return presence_loss
    boxed = slice(len(batch.patch_coverage))
    phrase_index, rows = batch.phrase_index[boxed], torch.arange(len(batch.patch_coverage), device=patches.device)
    own_patches = patches[batch.image_index[boxed]]  # (regions, patches, dim)
    share = batch.patch_coverage / batch.patch_coverage.sum(dim=1, keepdim=True).clamp(min=1e-6)
    regions = unit(torch.einsum("rp,rpd->rd", share, own_patches))
    related = batch.implied | batch.implied.T  # neither is a wrong name for the other
    phrase_loss = _masked_cross_entropy(scale * regions @ phrases.T, related[phrase_index], phrase_index, rows)
    scores = scale * torch.einsum("rpd,rd->rp", own_patches, phrases[phrase_index])
    patch_loss = F.cross_entropy(scores, _target_distribution(batch))
    separation_loss = _separation_loss(phrases, related, phrase_index.unique())
    return (phrase_loss + patch_loss + presence_loss + separation_loss) / 4


def _presence_loss(logits: Float[Tensor, "pictures phrases"], batch: RegionBatch) -> Float[Tensor, ""]:
    """Half a softmax of each phrase against those that are not true of its picture, half a sigmoid of every picture and
    phrase with one bias for all, so that a cosine gives a probability and not only a ranking (the loss of Zhai et al.
    2023, "Sigmoid loss for language image pre-training", with the bias fitted to the batch)."""
    rows = torch.arange(len(batch.phrase_index), device=logits.device)
    own_logits, own_true = logits[batch.image_index], batch.is_true[batch.image_index]
    softmax_loss = _masked_cross_entropy(own_logits, own_true, batch.phrase_index, rows)
    labels = batch.is_true.to(logits.dtype)
    sigmoid_loss = F.binary_cross_entropy_with_logits(logits - _fitted_bias(logits, labels), labels, reduction="sum")
    return (softmax_loss + sigmoid_loss / labels.sum()) / 2


@torch.no_grad()
def _fitted_bias(logits: Tensor, labels: Tensor, steps: int = 30) -> Tensor:
    """The number to subtract from the logits so that the probabilities sum to the labels, by bisection."""
    low, high = logits.min() - 20, logits.max() + 20
    for _ in range(steps):
        middle = (low + high) / 2
        is_low = torch.sigmoid(logits - middle).sum() > labels.sum()
        low, high = torch.where(is_low, middle, low), torch.where(is_low, high, middle)
    return (low + high) / 2


def _separation_loss(phrases: Tensor, related: Tensor, boxed: Tensor) -> Tensor:
    """Cross entropy among the phrases of boxes. Phrases without a box are left out, since two of them may be synonyms:
    "a man", "a person"."""
    rows = torch.arange(len(boxed), device=phrases.device)
    logits = SEPARATION_SCALE * phrases[boxed] @ phrases[boxed].T
    return _masked_cross_entropy(logits, related[boxed][:, boxed], rows, rows)


def _masked_cross_entropy(logits: Tensor, ignored: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
    """Cross entropy of each row's label against all columns that are not `ignored`."""
    ignored = ignored.clone()
    ignored[rows, labels] = False
    return F.cross_entropy(logits.masked_fill(ignored, -torch.inf), labels)


def _target_distribution(batch: RegionBatch) -> Float[Tensor, "regions patches"]:
    """The target of each region's phrase over the patches: all regions of its picture whose phrase implies it."""
    boxed = slice(len(batch.patch_coverage))
    image_index, phrase_index = batch.image_index[boxed], batch.phrase_index[boxed]
    matches = image_index[:, None] == image_index[None, :]
    matches &= batch.implied.T[phrase_index][:, phrase_index]
    target = (matches.to(batch.patch_coverage.dtype) @ batch.patch_coverage).clamp(max=1)
    return target / target.sum(dim=1, keepdim=True).clamp(min=1e-6)
