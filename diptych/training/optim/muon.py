"""Muon: momentum whose every matrix is brought to orthogonal form before it is a step (Jordan et al. 2024, "Muon: an
optimizer for hidden layers in neural networks"; Bernstein and Newhouse 2024 for why: it is steepest descent under the
spectral norm)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from diptych.training.parallel.distributed import is_alone

if TYPE_CHECKING:
    from jaxtyping import Float

QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan et al.'s: steepest at 0 among those that end near 1
ROUNDS = 5
# Names of those that are no maps from one hidden space to another: tables, and what reads pixels.
NOT_HIDDEN = ("token", "positions", "probe", "patch", "image.conv1")


class Muon(torch.optim.Optimizer):
    """For hidden matrices and convolutions (their kernels taken as (out, in x height x width)), beside AdamW for the
    rest. `lr` is the spectral size of a step, times sqrt(rows / columns) where there are more rows than columns; weight
    decay is decoupled. Matrices are multiplied in `dtype`."""

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
        """One step on the gradients that are there, the same in every process."""
        grouped = [(group, p) for group in self.param_groups for p in group["params"] if p.grad is not None]
        steps = orthogonal_each([self._direction(p, group["momentum"]) for group, p in grouped], self.dtype)
        for (group, p), step in zip(grouped, steps, strict=True):
            rows, columns = step.shape
            p.mul_(1 - group["lr"] * group["weight_decay"])
            p.add_(step.view(p.shape), alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)

    def _direction(self, p: Tensor, momentum: float) -> Tensor:
        """Nesterov's momentum, as a matrix."""
        assert p.grad is not None
        state = self.state[p]
        if not state:
            state["momentum"] = torch.zeros_like(p)
        state["momentum"].lerp_(p.grad, 1 - momentum)
        return p.grad.lerp(state["momentum"], momentum).flatten(1)


def orthogonal_each(matrices: list[Tensor], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """`orthogonal` of each, those of one shape at once; of several processes, which all have the same matrices, each
    works out a part and all get all."""
    rank, world = (0, 1) if is_alone() else (dist.get_rank(), dist.get_world_size())
    same: dict[torch.Size, list[int]] = defaultdict(list)
    for index, owner in enumerate(dealt([m.shape for m in matrices], world)):
        if owner == rank:
            same[matrices[index].shape].append(index)
    steps: dict[int, Tensor] = {}
    for members in same.values():
        steps |= zip(members, orthogonal(torch.stack([matrices[i] for i in members]), dtype), strict=True)
    if world == 1 or not matrices:
        return [steps[index] for index in range(len(matrices))]
    flat = torch.cat([steps.get(index, torch.zeros_like(m)).flatten() for index, m in enumerate(matrices)])
    dist.all_reduce(flat)  # all but one process have zeros
    parts = flat.split([m.numel() for m in matrices])
    return [part.view_as(m) for part, m in zip(parts, matrices, strict=True)]


def dealt(shapes: Sequence[Sequence[int]], world: int) -> list[int]:
    """Which of `world` processes works out which matrix: the dearest first, each to the one with the least to do."""
    costs = [rows * columns * min(rows, columns) for rows, columns in shapes]
    owners, load = [0] * len(shapes), [0] * world
    for index in sorted(range(len(shapes)), key=lambda i: -costs[i]):
        owners[index] = load.index(min(load))
        load[owners[index]] += costs[index]
    return owners


def orthogonal(
    x: Float[Tensor, "many rows columns"], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "many rows columns"]:
    """Each matrix with its singular values brought near 1 (0.7 to 1.2), by a Newton-Schulz iteration in `dtype`, for
    which bfloat16 is enough."""
    a, b, c = QUINTIC
    y = x.to(dtype)
    if wide := x.shape[1] > x.shape[2]:
        y = y.mT
    y = y / (y.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ROUNDS):
        square = y @ y.mT
        y = a * y + (b * square + c * square @ square) @ y
    return (y.mT if wide else y).to(x.dtype)


def is_hidden(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter of a CLIP is one for Muon: a matrix or a convolution between hidden spaces. An adapter's two
    (LoRA's `down` and `up`) are none: steps of full rank and size would undo what their small start is for."""
    is_adapter = name.rpartition(".")[2] in ("down", "up")
    return parameter.ndim >= 2 and not is_adapter and not any(part in name for part in NOT_HIDDEN)
