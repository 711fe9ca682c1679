"""torch.compile for the transformers."""

from collections.abc import Callable

from torch import nn

from diptych.nets.clip import CLIP
from diptych.nets.transformer import Block


def compile_towers(network: CLIP, *, backend: str | Callable = "inductor") -> None:
    """Compile the transformers of `network` block by block. The first steps wait for it. ResNets are not compiled.

    All blocks of a transformer share a few compilations, so the wait does not grow with depth; texts may differ in
    length from step to step. Call it after the network is copied for its average and after
    `set_gradient_checkpointing`, which stays in effect. Parameter names do not change.
    """
    for module in network.modules():
        if isinstance(module, Block):
            nn.Module.compile(module, backend=backend)
