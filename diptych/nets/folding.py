"""Batch norm folded into the convolutions before it, for inference: the same function in fewer passes over the maps."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

Network = TypeVar("Network", bound=nn.Module)


def has_batch_norm(module: nn.Module) -> bool:
    """Whether there is something to fold."""
    return any(isinstance(each, _BatchNorm) for each in module.modules())


def folded(network: Network) -> Network:
    """A copy of a network in evaluation mode whose convolutions contain the batch norm after them. Other weights are
    shared."""
    memo = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    made = copy.deepcopy(network, memo).eval()
    for module in list(made.modules()):
        for name, child in list(module.named_children()):
            norm = getattr(module, _norm_of(name), None)
            if isinstance(child, nn.Conv2d) and isinstance(norm, _BatchNorm):
                setattr(module, name, fuse_conv_bn_eval(child, norm).requires_grad_(False))
                setattr(module, _norm_of(name), nn.Identity())
    return made


def _norm_of(name: str) -> str:
    """The name of the norm after a convolution: bn1 after conv1 in a ResNet, expand_norm after expand in an
    EfficientNet."""
    return name.replace("conv", "bn") if name.startswith("conv") else f"{name}_norm"
