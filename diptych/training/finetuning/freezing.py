"""What a pretrained model needs when it learns from a little data: parts that stay as they are, earlier layers that
move less, and the way back (WiSE-FT)."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # SyncBatchNorm, too, is one

from diptych.errors import ArgumentError
from diptych.nets.clip import CLIP
from diptych.nets.resnet import Bottleneck
from diptych.nets.transformer import Block

T = TypeVar("T")
HEADS = ("norm_post", "proj", "head", "pool")  # what comes after a tower's last block


def lock_image(network: CLIP) -> None:
    """Freeze the image tower whole, projection and batch-norm statistics too, in place: only texts learn to fit the
    pictures (LiT; Zhai et al. 2022, section 3). It computes no gradients, draws no dropout, and stays in evaluation
    mode whatever `network.train()` says. Call it before DistributedDataParallel and the optimizer see the network."""
    network.image.requires_grad_(False)
    _hold_in_evaluation(network.image)


def freeze_batch_norm(network: nn.Module) -> None:
    """Keep every batch norm's statistics, gain and bias as they are, in place, through `network.train()` too: a small
    batch's own statistics would be worse than those that the model came with."""
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.requires_grad_(False)
            _hold_in_evaluation(module)


def _hold_in_evaluation(module: nn.Module) -> None:
    module.eval()
    # Bound to the object as an argument, so that a copy's, by copy or by pickle, is bound to the copy.
    module.train = partial(_stay, module)


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    return module


def parameter_groups(network: CLIP, *, weight_decay: float, layer_decay: float = 1.0) -> list[dict[str, Any]]:
    """AdamW's groups of all that is trainable. Each has an "lr_scale", by which the schedule's rate is multiplied.

    Matrices decay; gains, biases, the class token and the logit scale do not (Radford et al. 2021, section 2.5). In
    each tower the rate shrinks by `layer_decay` from layer to layer downwards (Clark et al. 2020, appendix B; BEiT, Bao
    et al. 2022): what follows the last residual block has scale 1, that block layer_decay, the one before it
    layer_decay squared, and the embedding or stem the least. The logit scale and bias have 1. ArgumentError where
    `layer_decay` is not above 0 and at most 1.
    """
    if not 0 < layer_decay <= 1:
        raise ArgumentError(f"layer_decay is {layer_decay}; wanted a number above 0, at most 1 (1: every layer alike).")
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for parameter, above in _layers_above(network):
        if parameter.requires_grad:
            scale, decay = layer_decay**above, weight_decay if parameter.ndim >= 2 else 0.0
            group = {"params": [], "weight_decay": decay, "lr_scale": scale}
            groups.setdefault((scale, decay), group)["params"].append(parameter)
    return list(groups.values())


def _layers_above(network: CLIP) -> Iterator[tuple[nn.Parameter, int]]:
    """Every parameter, and how many layers of its tower come after it."""
    yield from ((parameter, 0) for parameter in network.parameters(recurse=False))  # logit scale and bias
    for tower in (network.image, network.text):
        blocks = [f"{name}." for name, module in tower.named_modules() if isinstance(module, (Block, Bottleneck))]
        for name, parameter in tower.named_parameters():
            inside = next((depth for depth, block in enumerate(blocks, start=1) if name.startswith(block)), 0)
            yield parameter, 0 if name.partition(".")[0] in HEADS else len(blocks) + 1 - inside


def interpolate(before: dict[str, Tensor], after: dict[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """The weights (1 - alpha) * before + alpha * after of two states of one model, batch-norm statistics included
    (WiSE-FT; Wortsman et al. 2022, equation 1); counters are rounded. 0 and 1 are the ends, to the bit.

    Half-way is the paper's advice where nothing tells better: most of what was learnt is there, and most of
    what was known before has not gone. Merge adapters first. Raises ArgumentError where the states are of two models.
    """
    if unlike := [name for name in before.keys() | after.keys() if _shape(before, name) != _shape(after, name)]:
        name = min(unlike)
        raise ArgumentError(
            f"{len(unlike)} tensors are not alike in both states, as {name}: {_shape(before, name)} before, "
            f"{_shape(after, name)} after. Take the state that the same run began with."
        )
    return {name: _between(tensor, after[name].to(tensor.device), alpha) for name, tensor in before.items()}


def _shape(state: dict[str, Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(state[name].shape) if name in state else None


def _between(before: Tensor, after: Tensor, alpha: float) -> Tensor:
    if before.is_floating_point():
        return torch.lerp(before, after, alpha)
    return torch.lerp(before.double(), after.double(), alpha).round().to(before.dtype)


def sweep(
    before: dict[str, Tensor], after: dict[str, Tensor], evaluate: Callable[[dict[str, Tensor]], T],
    alphas: Sequence[float] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
) -> dict[float, T]:  # fmt: skip
    """What `evaluate` says of the states along the line from `before` to `after`."""
    return {alpha: evaluate(interpolate(before, after, alpha)) for alpha in alphas}
