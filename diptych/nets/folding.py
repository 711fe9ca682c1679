"""Batch norm folded into the convolutions before it, for inference: the same function in fewer passes over the maps."""

from __future__ import annotations

import copy

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval


def has_batch_norm(module: nn.Module) -> bool:
    """Whether there is something to fold."""
    return any(isinstance(each, _BatchNorm) for each in module.modules())


def folded(tower: nn.Module) -> nn.Module:
    """A copy of a tower in evaluation mode whose convolutions contain the batch norm after them. Other weights are
    shared with the tower."""
    memo = {id(tensor): tensor for tensor in (*tower.parameters(), *tower.buffers())}
    made = copy.deepcopy(tower, memo).eval()
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
