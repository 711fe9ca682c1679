"""Muon: momentum, orthogonalised matrix by matrix before each step (Jordan et al. 2024, "Muon: an optimizer for hidden
layers in neural networks"). It is steepest descent under the spectral norm (Bernstein and Newhouse 2024)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from diptych.training.parallel.distributed import is_single_process

if TYPE_CHECKING:
    from jaxtyping import Float

NEWTON_SCHULZ_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # a, b, c of Jordan et al.: steep at 0, and ending near 1
NEWTON_SCHULZ_STEPS = 5
# Names of parameters that are not maps between hidden spaces: tables, layers that read pixels, and kernels of single
# channels.
NOT_HIDDEN = ("token", "positions", "probe", "patch", "image.conv1", "image.stem", "depthwise")


class Muon(torch.optim.Optimizer):
    """The optimizer of hidden matrices and convolutions (kernels as (out, in x height x width)); AdamW trains the rest.
    `lr` is the spectral norm of a step, times sqrt(rows / columns) if there are more rows than columns. Weight decay is
    decoupled. Matrix products are in `dtype`."""

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step on all parameters that have a gradient, the same in every process."""
        grouped = [(group, p) for group in self.param_groups for p in group["params"] if p.grad is not None]
        steps = orthogonalise_all([self._direction(p, group["momentum"]) for group, p in grouped], self.dtype)
        for (group, p), step in zip(grouped, steps, strict=True):
            rows, columns = step.shape
            p.mul_(1 - group["lr"] * group["weight_decay"])
            p.add_(step.view(p.shape), alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)

    def _direction(self, p: Tensor, momentum: float) -> Tensor:
        """Nesterov momentum, as a matrix."""
        assert p.grad is not None
        state = self.state[p]
        if not state:
            state["momentum"] = torch.zeros_like(p)
        state["momentum"].lerp_(p.grad, 1 - momentum)
        return p.grad.lerp(state["momentum"], momentum).flatten(1)


def orthogonalise_all(matrices: list[Tensor], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """`orthogonalise` each, those of one shape at once. Several processes, which all have the same matrices, share the
    work; each returns all results."""
    rank, world_size = (0, 1) if is_single_process() else (dist.get_rank(), dist.get_world_size())
    same: dict[torch.Size, list[int]] = defaultdict(list)
    for index, assigned in enumerate(assigned_ranks([m.shape for m in matrices], world_size)):
        if assigned == rank:
            same[matrices[index].shape].append(index)
    steps: dict[int, Tensor] = {}
    for members in same.values():
        steps |= zip(members, orthogonalise(torch.stack([matrices[i] for i in members]), dtype), strict=True)
    if world_size == 1 or not matrices:
        return [steps[index] for index in range(len(matrices))]
    flat = torch.cat([steps.get(index, torch.zeros_like(m)).flatten() for index, m in enumerate(matrices)])
    dist.all_reduce(flat)  # all but one process have zeros
    parts = flat.split([m.numel() for m in matrices])
    return [part.view_as(m) for part, m in zip(parts, matrices, strict=True)]


def assigned_ranks(shapes: Sequence[Sequence[int]], world_size: int) -> list[int]:
    """The rank that orthogonalises each matrix: largest first, each to the rank with the least work so far."""
    costs = [rows * columns * min(rows, columns) for rows, columns in shapes]
    ranks, load = [0] * len(shapes), [0] * world_size
    for index in sorted(range(len(shapes)), key=lambda i: -costs[i]):
        ranks[index] = load.index(min(load))
        load[ranks[index]] += costs[index]
    return ranks


def orthogonalise(
    x: Float[Tensor, "many rows columns"], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "many rows columns"]:
    """Each matrix with its singular values moved near 1 (0.7 to 1.2), by Newton-Schulz iterations in `dtype`: X <- a X
    + (b A + c A^2) X with A = X X^T (Jordan et al. 2024). bfloat16 is precise enough."""
    a, b, c = NEWTON_SCHULZ_COEFFICIENTS
    y = x.to(dtype)
    if wide := x.shape[1] > x.shape[2]:
        y = y.mT
    y = y / (y.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = y @ y.mT
        y = a * y + (b * gram + c * gram @ gram) @ y
    return (y.mT if wide else y).to(x.dtype)


def is_hidden(name: str, parameter: nn.Parameter) -> bool:
    """Whether Muon trains a parameter of a CLIP: a matrix or a convolution between hidden spaces. LoRA's `down` and
    `up` are not: Muon's steps have full rank and size, and would undo their small start."""
    is_adapter = name.rpartition(".")[2] in ("down", "up")
    return parameter.ndim >= 2 and not is_adapter and not any(part in name for part in NOT_HIDDEN)
