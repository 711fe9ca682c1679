"""Fine-tuning on a little data: frozen parts, layer-wise learning rates, and interpolation with the old weights
(WiSE-FT)."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # the base class of SyncBatchNorm too

from diptych.errors import ArgumentError
from diptych.nets.clip import CLIP
from diptych.nets.efficientnet import InvertedResidual
from diptych.nets.resnet import Bottleneck
from diptych.nets.transformer import Block

T = TypeVar("T")
LAYERS = (Block, Bottleneck, InvertedResidual)
AFTER_BLOCKS = (
    "norm_post",
    "proj",
    "head",
    "pool",
    "last",
    "last_norm",
    "fine",
    "classes",
)  # the modules after a tower's last block
POOLING = ("norm_post", "proj", "head", "pool", "classes")  # those that a locked trunk leaves to be trained


def lock_image(network: CLIP) -> None:
    """Freeze the image tower with its projection and batch-norm statistics, so that only the text tower
    trains (LiT; Zhai et al. 2022, section 3). The image tower computes no gradients, draws no dropout, and stays in
    evaluation mode after `network.train()`. Call it before DistributedDataParallel and the optimizer get the
    network."""
    network.image.requires_grad_(False)
    _keep_in_eval_mode(network.image)


def lock_trunk(network: CLIP) -> None:
    """Freeze all of the image tower that is below its pooling, with batch-norm statistics: pooling and projection
    train, as for a tower that has none yet. Otherwise as `lock_image`."""
    for name, module in network.image.named_children():
        if name not in POOLING:
            module.requires_grad_(False)
            _keep_in_eval_mode(module)
    for parameter in network.image.parameters(recurse=False):
        parameter.requires_grad_(False)


def lock_text(network: CLIP) -> None:
    """Freeze the text tower with its projection, as `lock_image` does with the other one."""
    network.text.requires_grad_(False)
    _keep_in_eval_mode(network.text)


def freeze_batch_norm(network: nn.Module) -> None:
    """Freeze the statistics, gain and bias of every batch norm, also after `network.train()`: the statistics
    of small batches would be worse than the pretrained ones."""
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.requires_grad_(False)
            _keep_in_eval_mode(module)


def _keep_in_eval_mode(module: nn.Module) -> None:
    module.eval()
    # The module is an argument and not a closure, so that copy and pickle bind the copy.
    module.train = partial(_ignore_train_mode, module)


def _ignore_train_mode(module: nn.Module, mode: bool = True) -> nn.Module:
    return module


def parameter_groups(network: CLIP, *, weight_decay: float, layer_decay: float = 1.0) -> list[dict[str, Any]]:
    """AdamW's groups of the trainable parameters. Each has an "lr_scale", a factor of the schedule's learning rate.

    Weight decay applies to matrices, but not to gains, biases, the class token and the logit scale (Radford et al.
    2021, section 2.5). In each tower the learning rate shrinks by `layer_decay` per layer from top to bottom (Clark et
    al. 2020, appendix B; BEiT, Bao et al. 2022): modules after the last residual block have scale 1, that block
    layer_decay, the one before it layer_decay squared, and the embedding or stem the smallest. The logit scale and bias
    have 1. Raises ArgumentError unless 0 < layer_decay <= 1.
    """
    if not 0 < layer_decay <= 1:
        raise ArgumentError(
            f"layer_decay is {layer_decay}; wanted a number above 0, at most 1 (1: the same rate for every layer)."
        )
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for parameter, above in _layers_above(network):
        if parameter.requires_grad:
            scale, decay = layer_decay**above, weight_decay if parameter.ndim >= 2 else 0.0
            group = {"params": [], "weight_decay": decay, "lr_scale": scale}
            groups.setdefault((scale, decay), group)["params"].append(parameter)
    return list(groups.values())


def _layers_above(network: CLIP) -> Iterator[tuple[nn.Parameter, int]]:
    """Every parameter, and the number of layers of its tower above it."""
    yield from ((parameter, 0) for parameter in network.parameters(recurse=False))  # logit scale and bias
    for tower in (network.image, network.text):
        blocks = [f"{name}." for name, module in tower.named_modules() if isinstance(module, LAYERS)]
        for name, parameter in tower.named_parameters():
            block_number = next((depth for depth, block in enumerate(blocks, start=1) if name.startswith(block)), 0)
            yield parameter, 0 if name.partition(".")[0] in AFTER_BLOCKS else len(blocks) + 1 - block_number


def interpolate(before: dict[str, Tensor], after: dict[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """theta = (1 - alpha) * before + alpha * after, for two states of one model, batch-norm statistics included
    (WiSE-FT; Wortsman et al. 2022, equation 1); counters are rounded. Alpha 0 and 1 give the states bit for bit.

    The paper recommends alpha 0.5 without further measurements: most of the new task is learnt and most of the old
    knowledge kept. Merge adapters first. Raises ArgumentError if the states are of different models.
    """
    if unlike := [name for name in before.keys() | after.keys() if _shape(before, name) != _shape(after, name)]:
        name = min(unlike)
        raise ArgumentError(
            f"{len(unlike)} tensors differ in shape between the states, as {name}: {_shape(before, name)} before, "
            f"{_shape(after, name)} after. Pass the state that the same run started from."
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
    """`evaluate` of the interpolated state at each alpha."""
    return {alpha: evaluate(interpolate(before, after, alpha)) for alpha in alphas}
