"""The exponential moving average (EMA) of the weights, which is evaluated and saved instead of the last weights."""

import torch
from torch import nn

from diptych.training.parallel.sharding import local_shards


@torch.no_grad()
def update_ema(average: nn.Module, network: nn.Module, decay: float) -> None:
    """average = decay * average + (1 - decay) * network, batch-norm statistics included; counters are copied."""
    pairs = list(zip(*(local_shards(each.state_dict().values()) for each in (average, network)), strict=True))
    floats = [(a, b) for a, b in pairs if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in floats], [b for _, b in floats], 1 - decay)
    for a, b in pairs:
        if not a.is_floating_point():
            a.copy_(b)
