"""Which phrase is where: the contrastive loss on the places of a picture's map, for samples whose regions are known.

Each region is told by its phrase from the others of the batch ("what"), each phrase finds its region among the places
of its picture ("where"), and each picture's own vector tells the phrases of its regions from those that it does not
show ("whether"; a picture is taken to show nothing but its regions): the same softmax over cosines as between pictures
and captions, after Zhong et al. 2022, "RegionCLIP", section 3.3, and Li et al. 2022, "Grounded language-image
pre-training", section 3.1. The places' vectors are what `diptych.locate` reads, and what attention pooling adds up:
where a phrase's vector were no more than red and hat added up, a red hat with a blue cup would be a blue hat with a red
cup. So phrases are told from each other, too ("apart"; Zhang et al. 2024, "Contrasting intra-modal and ranking
cross-modal hard negatives", section 3.2).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from diptych.data.samples import Region
from diptych.nets.clip import CLIP, unit
from diptych.tokenizer import Tokenizer

# An inverse temperature. At the model's own, 20 and more, a cosine of 0.5 with what shares a word is far enough, and
# that is what colours and kinds added up have.
APART_SCALE = 8.0
ARTICLES = frozenset(("a", "an", "the"))


class Grounding(NamedTuple):
    """The regions of a batch: whose picture each is in, which of `phrases` it shows, and the share of each place of the
    map that it covers. `implied[i, j]` where phrase j says no more than phrase i ("a circle" of "a red circle")."""

    phrases: list[str]
    pictures: Int[Tensor, " regions"]
    said: Int[Tensor, " regions"]
    cover: Float[Tensor, "regions places"]
    implied: Bool[Tensor, "phrases phrases"]


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
    """The regions of each picture of a batch, on a map of `grid` x `grid` places; None where there are none."""
    listed = [(row, region) for row, some in enumerate(regions) for region in some]
    if not listed:
        return None
    phrases = sorted({region.phrase for _, region in listed})
    number = {phrase: at for at, phrase in enumerate(phrases)}
    words = [frozenset(phrase.casefold().split()) - ARTICLES for phrase in phrases]
    boxes = torch.tensor([region.box for _, region in listed], dtype=torch.float32)
    return Grounding(
        phrases,
        torch.tensor([row for row, _ in listed]),
        torch.tensor([number[region.phrase] for _, region in listed]),
        covered(boxes, grid),
        torch.tensor([[other <= mine for other in words] for mine in words]),
    )


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
    places: Float[Tensor, "pictures places dim"],
    phrases: Float[Tensor, "phrases dim"],
    scale: Float[Tensor, ""],
    known: Grounding,
) -> Float[Tensor, ""]:
    """The mean of "what", "where", "whether" and "apart" over a batch's regions and phrases, in nats. All vectors are
    of unit length."""
    said, rows = known.said, torch.arange(len(known.said), device=places.device)
    own = places[known.pictures]  # (regions, places, dim)
    share = known.cover / known.cover.sum(dim=1, keepdim=True).clamp(min=1e-6)
    regions = unit(torch.einsum("rp,rpd->rd", share, own))
    alike = known.implied[said] | known.implied.T[said]  # neither is a wrong name for the region
    what = _told(scale * regions @ phrases.T, alike, said, rows)
    whether = _told((scale * images @ phrases.T)[known.pictures], _true(known)[known.pictures], said, rows)
    scores = scale * torch.einsum("rpd,rd->rp", own, phrases[said])
    where = F.cross_entropy(scores, _shown(known))
    every = torch.arange(len(phrases), device=phrases.device)
    apart = _told(APART_SCALE * phrases @ phrases.T, known.implied | known.implied.T, every, every)
    return (what + where + whether + apart) / 4


def _told(logits: Tensor, spared: Tensor, said: Tensor, rows: Tensor) -> Tensor:
    """Each row's own phrase against all that are not `spared`."""
    spared = spared.clone()
    spared[rows, said] = False
    return F.cross_entropy(logits.masked_fill(spared, -torch.inf), said)


def _true(known: Grounding) -> Bool[Tensor, "pictures phrases"]:
    """Which phrases are true of each picture, as far as its regions tell."""
    true = known.implied.new_zeros(int(known.pictures.max()) + 1, len(known.phrases))
    return true.index_put((known.pictures,), known.implied[known.said], accumulate=True)


def _shown(known: Grounding) -> Float[Tensor, "regions places"]:
    """Where a region's phrase is to be found: on all regions of its picture whose phrase says as much."""
    together = known.pictures[:, None] == known.pictures[None, :]
    together &= known.implied.T[known.said][:, known.said]
    shown = (together.to(known.cover.dtype) @ known.cover).clamp(max=1)
    return shown / shown.sum(dim=1, keepdim=True).clamp(min=1e-6)
