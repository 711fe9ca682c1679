"""Which phrase is where: the contrastive loss on the places of a picture's map, for samples whose regions are known,
and which phrase is true, for all others.

Each region is told by its phrase from the others of the batch ("what"), each phrase finds its region among the places
of its picture ("where"), and each picture's own vector tells what it shows from what it does not ("whether"; a picture
is taken to show nothing but its regions, or what its captions say): the same softmax over cosines as between pictures
and captions, after Zhong et al. 2022, "RegionCLIP", section 3.3, and Li et al. 2022, "Grounded language-image
pre-training", section 3.1. Phrases of photographs, where no region is known, are learnt from as true of the whole: else
drawings alone would say what a single noun looks like. `diptych.scoring.locate` reads the patch embeddings, and
attention pooling adds them up. If a phrase embedding were only the sum of its words, "red hat, blue cup" and "blue hat,
red cup" would be indistinguishable; so phrases are also pushed apart ("apart"; Zhang et al. 2024, "Contrasting
intra-modal and ranking cross-modal hard negatives", section 3.2).
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

# An inverse temperature. At the model's own, 20 and more, a cosine of 0.5 with what shares a word is far enough, and
# that is what colours and kinds added up have.
APART_SCALE = 8.0
SAID = 2  # phrases of a picture of which it is not known what shows them
ARTICLES = frozenset(("a", "an", "the"))


class Grounding(NamedTuple):
    """What the pictures of a batch show: whose picture each region is of, and which of `phrases` it shows; the regions
    whose box is known come first, and of each of them `cover` has the share of each place of the map that it covers.
    `implied[i, j]` where phrase j says no more than phrase i ("a circle" of "a red circle"), `true[i, j]` where phrase
    j is true of picture i, or may be."""

    phrases: list[str]
    pictures: Int[Tensor, " regions"]
    said: Int[Tensor, " regions"]
    cover: Float[Tensor, "boxed places"]
    implied: Bool[Tensor, "phrases phrases"]
    true: Bool[Tensor, "pictures phrases"]


class Grounded(NamedTuple):
    """The regions of a batch, the tokens of their phrases, and how much their loss counts."""

    known: Grounding
    ids: Int[Tensor, "phrases tokens"]
    weight: float


def grounded(
    regions: Sequence[Sequence[Region]], network: CLIP, tokenizer: Tokenizer, weight: float, device: torch.device
) -> Grounded | None:
    """What a step learns the regions of its pictures by; None where there are none, or their loss has no weight."""
    known = ground(regions, network.config.image.grid) if weight else None
    if known is None:
        return None
    ids = torch.from_numpy(tokenizer(known.phrases, truncate=True).ids)
    known = known._replace(**{name: x.to(device) for name, x in known._asdict().items() if name != "phrases"})
    return Grounded(known, ids.to(device), weight)


def ground(regions: Sequence[Sequence[Region]], grid: int) -> Grounding | None:
    """The regions of each picture of a batch, on a map of `grid` x `grid` places; None where there are none. Of those
    without a box the first SAID of a picture are taken; the others only tell what is true of it."""
    boxed = [(row, region) for row, some in enumerate(regions) for region in some if region.box]
    loose = [(row, phrase) for row, some in enumerate(regions) for phrase in _first(some)]
    if not boxed and not loose:
        return None
    listed = [(row, region.phrase) for row, region in boxed] + loose
    phrases = sorted({phrase for _, phrase in listed})
    number = {phrase: at for at, phrase in enumerate(phrases)}
    words = [_words(phrase) for phrase in phrases]
    pictures, said = torch.tensor([row for row, _ in listed]), torch.tensor([number[phrase] for _, phrase in listed])
    implied = torch.tensor([[other <= mine for other in words] for mine in words])
    true = implied.new_zeros(len(regions), len(phrases)).index_put((pictures,), implied[said], accumulate=True)
    for row, some in enumerate(regions):
        if loosely := frozenset().union(*(_words(region.phrase) for region in some if not region.box)):
            true[row] |= torch.tensor([mine <= loosely for mine in words])
    boxes = torch.tensor([region.box for _, region in boxed], dtype=torch.float32).view(-1, 4)
    return Grounding(phrases, pictures, said, covered(boxes, grid), implied, true)


def _first(regions: Sequence[Region]) -> list[str]:
    """The phrases of a picture that no box goes with, as many as are taken."""
    return list(dict.fromkeys(region.phrase for region in regions if not region.box))[:SAID]


def _words(phrase: str) -> frozenset[str]:
    """What a phrase says, whatever the order; dogs are as good as a dog."""
    return frozenset(word.rstrip("s") for word in phrase.casefold().split()) - ARTICLES


def covered(boxes: Float[Tensor, "regions 4"], grid: int) -> Float[Tensor, "regions places"]:
    """The share of each place, row by row, that lies in a box (left, top, right, bottom, as shares of the picture)."""
    edges = torch.arange(grid + 1) / grid
    low, high = edges[:-1], edges[1:]
    across, down = (
        (torch.minimum(high, boxes[:, end, None]) - torch.maximum(low, boxes[:, start, None])).clamp(min=0) * grid
        for start, end in ((0, 2), (1, 3))
    )
    return (down[:, :, None] * across[:, None, :]).flatten(1)


def places_loss(
    images: Float[Tensor, "pictures dim"],
    places: Float[Tensor, "pictures patches dim"],
    phrases: Float[Tensor, "phrases dim"],
    scale: Float[Tensor, ""],
    known: Grounding,
) -> Float[Tensor, ""]:
    """The mean of "what", "where", "whether" and "apart" over a batch's regions and phrases, in nats; "whether" alone
    where no box is known. All vectors are of unit length."""
    whether = _whether(scale * images @ phrases.T, known)
    if not len(known.cover):
        return whether
    boxed = slice(len(known.cover))
    said, rows = known.said[boxed], torch.arange(len(known.cover), device=places.device)
    own = places[known.pictures[boxed]]  # (regions, places, dim)
    share = known.cover / known.cover.sum(dim=1, keepdim=True).clamp(min=1e-6)
    regions = unit(torch.einsum("rp,rpd->rd", share, own))
    alike = known.implied | known.implied.T  # neither is a wrong name for the other
    what = _told(scale * regions @ phrases.T, alike[said], said, rows)
    scores = scale * torch.einsum("rpd,rd->rp", own, phrases[said])
    where = F.cross_entropy(scores, _shown(known))
    apart = _apart(phrases, alike, said.unique())
    return (what + where + whether + apart) / 4


def _whether(logits: Float[Tensor, "pictures phrases"], known: Grounding) -> Float[Tensor, ""]:
    """Each phrase against those that are not true of its picture; and of each picture and phrase whether it is true, by
    one measure for all, so that a cosine says how likely that is and not only where it is likelier (the loss of Zhai
    et al. 2023, "Sigmoid loss for language image pre-training", with the intercept that fits the batch)."""
    rows = torch.arange(len(known.said), device=logits.device)
    phrase = _told(logits[known.pictures], known.true[known.pictures], known.said, rows)
    true = known.true.to(logits.dtype)
    wrong = F.binary_cross_entropy_with_logits(logits - _intercept(logits, true), true, reduction="sum")
    return (phrase + wrong / true.sum()) / 2


@torch.no_grad()
def _intercept(logits: Tensor, true: Tensor, steps: int = 30) -> Tensor:
    """What to take from the logits so that as many are said to be true as are: bisection."""
    low, high = logits.min() - 20, logits.max() + 20
    for _ in range(steps):
        middle = (low + high) / 2
        many = torch.sigmoid(logits - middle).sum() > true.sum()
        low, high = torch.where(many, middle, low), torch.where(many, high, middle)
    return (low + high) / 2


def _apart(phrases: Tensor, alike: Tensor, kept: Tensor) -> Tensor:
    """The phrases of boxes told from each other. Others may mean the same in other words: "a man", "a person"."""
    rows = torch.arange(len(kept), device=phrases.device)
    return _told(APART_SCALE * phrases[kept] @ phrases[kept].T, alike[kept][:, kept], rows, rows)


def _told(logits: Tensor, spared: Tensor, said: Tensor, rows: Tensor) -> Tensor:
    """Each row's own phrase against all that are not `spared`."""
    spared = spared.clone()
    spared[rows, said] = False
    return F.cross_entropy(logits.masked_fill(spared, -torch.inf), said)


def _shown(known: Grounding) -> Float[Tensor, "regions places"]:
    """Where a region's phrase is to be found: on all regions of its picture whose phrase says as much."""
    pictures, said = known.pictures[: len(known.cover)], known.said[: len(known.cover)]
    together = pictures[:, None] == pictures[None, :]
    together &= known.implied.T[said][:, said]
    shown = (together.to(known.cover.dtype) @ known.cover).clamp(max=1)
    return shown / shown.sum(dim=1, keepdim=True).clamp(min=1e-6)
