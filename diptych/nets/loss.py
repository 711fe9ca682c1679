"""The two contrastive losses, on unit vectors."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def softmax_loss(
    image: Float[Tensor, "pictures dim"],
    text: Float[Tensor, "texts dim"],
    scale: Float[Tensor, ""],
    *,
    matches: Bool[Tensor, "pictures texts"] | None = None,
) -> Float[Tensor, ""]:
    """Symmetric cross entropy over the similarity matrix (InfoNCE; Radford et al. 2021, figure 3).

    Without `matches`, picture i belongs to text i. With it, each row's (column's) target is spread evenly over its
    matches, so that a picture may bring several captions; a row or column without a match is left out.
    """
    logits = scale * image @ text.T
    if matches is None:
        _same_length(image, text)
        target = torch.arange(len(logits), device=logits.device)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    return (_spread_cross_entropy(logits, matches) + _spread_cross_entropy(logits.T, matches.T)) / 2


def _spread_cross_entropy(logits: Tensor, matches: Tensor) -> Tensor:
    counts = matches.sum(dim=1)
    target = matches.to(logits.dtype) / counts.clamp(min=1).unsqueeze(1)
    losses = torch.logsumexp(logits, dim=1) - (logits * target).sum(dim=1)
    return losses[counts > 0].mean()


def sigmoid_loss(
    image: Float[Tensor, "pictures dim"],
    text: Float[Tensor, "texts dim"],
    scale: Float[Tensor, ""],
    bias: Float[Tensor, ""],
    *,
    matches: Bool[Tensor, "pictures texts"] | None = None,
) -> Float[Tensor, ""]:
    """Each pair is a yes-or-no question of its own (Zhai et al. 2023, section 3.2), summed, per picture."""
    logits = scale * image @ text.T + bias
    if matches is None:
        _same_length(image, text)
        matches = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    signs = 2 * matches.to(logits.dtype) - 1
    return -F.logsigmoid(signs * logits).sum() / len(image)


def _same_length(image: Tensor, text: Tensor) -> None:
    if len(image) != len(text):
        raise ValueError(f"{len(image)} pictures and {len(text)} texts; pairs need as many of each, or pass matches=.")
