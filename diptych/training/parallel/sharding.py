"""Sharding, for towers that do not fit on one device: each process stores a part (shard) of every weight, its gradient
and the optimizer's state, and a block's weights are gathered only while it runs (Zhao et al. 2023, "PyTorch FSDP"; here
FSDP2).

Shards are float32 whatever the towers compute in. The temperature and the bias are scalars, which cannot be sharded:
every process has them, and their gradients are averaged.

An average of weights (EMA) under sharding is a copy of the network made before `shard` and sharded in the same way.
Then both have equal shards, and `local_shards` of the one move towards those of the other without communication.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict as full_states
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.modules.batchnorm import _BatchNorm

from diptych.nets.clip import CLIP
from diptych.nets.efficientnet import InvertedResidual
from diptych.nets.resnet import Bottleneck
from diptych.nets.transformer import Block

FULL_STATE_OPTIONS = full_states.StateDictOptions(full_state_dict=True, cpu_offload=True)
Network = TypeVar("Network", bound=CLIP)


def shard(network: Network, device: torch.device, precision: torch.dtype | None = None) -> Network:
    """Shard each block and the rest of each tower of `network`. All processes take rank 0's weights.

    The network may be on the CPU: weights move to `device` a block at a time. With `precision` (bfloat16) blocks
    compute in it and gather their weights in it; gradients are summed in float32. Call it before the optimizer is
    created, because it replaces the parameters.
    """
    for tensor in (*network.parameters(), *network.buffers()):
        _copy_from_rank_zero(tensor.detach(), device)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for tower in (network.image, network.text):
        has_batch_norm = any(
            isinstance(module, _BatchNorm) for module in tower.modules()
        )  # its statistics stay float32
        policy = MixedPrecisionPolicy(None if has_batch_norm else precision, torch.float32 if precision else None)
        blocks = [module for module in tower.modules() if isinstance(module, Block | Bottleneck | InvertedResidual)]
        for module in (*blocks, tower):
            fully_shard(module, mesh=mesh, mp_policy=policy)
    for scalar in (network.logit_scale, network.logit_bias):
        if scalar is not None:
            scalar.data = scalar.data.to(device)
            if scalar.requires_grad:
                scalar.register_post_accumulate_grad_hook(_average)
    return network


def _copy_from_rank_zero(tensor: Tensor, device: torch.device) -> None:
    received = tensor.to(device)
    dist.broadcast(received, src=0)
    tensor.copy_(received)


def _average(parameter: Tensor) -> None:
    assert parameter.grad is not None
    dist.all_reduce(parameter.grad)
    parameter.grad /= dist.get_world_size()


def local_shards(tensors: Iterable[Tensor]) -> list[Tensor]:
    """This process's shards of sharded `tensors`, and the others themselves, all sharing memory. Change them only under
    torch.no_grad()."""
    return [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]


def uniform_groups(groups: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Optimizer groups that are either sharded or not: optimizers do not accept mixed ones."""
    uniform = []
    for group in groups:
        for is_sharded in (True, False):
            if params := [p for p in group["params"] if isinstance(p, DTensor) is is_sharded]:
                uniform.append({**group, "params": params})
    return uniform


@torch.no_grad()
def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients, sharded ones too, so that their norm is at most `max_norm`. Returns the norm before."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    local = local_shards(gradients)
    squares = torch.stack(torch._foreach_norm(local)).square()
    sharded = torch.tensor([isinstance(gradient, DTensor) for gradient in gradients])
    of_full, of_shards = squares[~sharded].sum(), squares[sharded].sum()
    if sharded.any():
        dist.all_reduce(of_shards)
    norm = (of_full + of_shards).sqrt()
    torch._foreach_mul_(local, (max_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm


def full_state(network: nn.Module) -> dict[str, Any]:
    """Every full weight and buffer, on the CPU, in rank 0; an empty dictionary in other processes. All processes must
    call it. The network may be alone, in DistributedDataParallel, or sharded. It is for saving: full tensors that are
    on the CPU already are not copied."""
    return full_states.get_model_state_dict(network, options=FULL_STATE_OPTIONS)
