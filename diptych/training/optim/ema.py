"""The moving average of weights that is evaluated and saved in place of the last ones."""

import torch
from torch import nn

from diptych.training.parallel.sharding import parts


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, keep: float) -> None:
    """average = keep * average + (1 - keep) * network, batch-norm statistics included; counters are copied."""
    pairs = list(zip(parts(average.state_dict().values()), parts(network.state_dict().values()), strict=True))
    floats = [(a, b) for a, b in pairs if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in floats], [b for _, b in floats], 1 - keep)
    for a, b in pairs:
        if not a.is_floating_point():
            a.copy_(b)
