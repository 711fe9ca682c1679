"""torch.compile, where it pays."""

from collections.abc import Callable

from torch import nn

from diptych.nets.clip import CLIP
from diptych.nets.transformer import Block


def compile_towers(network: CLIP, *, backend: str | Callable = "inductor") -> None:
    """Compile the transformers block by block, in place. The first steps wait for it; ResNets stay as they are.

    Blocks of a transformer are alike, so that a few compilations serve them all and the wait does not grow with depth;
    texts may have another length at every step. Call it after the network is copied for its average, and after
    `set_gradient_checkpointing`, which goes on working. Parameter names stay as they are.
    """
    for module in network.modules():
        if isinstance(module, Block):
            nn.Module.compile(module, backend=backend)
