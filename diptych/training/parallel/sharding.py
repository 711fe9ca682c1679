"""Towers that do not fit on one device: each process keeps a part of every weight, of its gradient and of the
optimizer's state, and a block's weights are put together only while it runs (Zhao et al. 2023, "PyTorch FSDP", in
PyTorch's second form of it).

The parts stay float32 whatever the towers compute in. The temperature and the bias are scalars, which nothing can
split: every process keeps them whole and their gradients are averaged.

An average of weights (EMA) under sharding is a copy of the network made before `split`, split in the same way: then
the parts of both lie alike, and `parts` of the one move towards `parts` of the other without any communication.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict as whole_states
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.modules.batchnorm import _BatchNorm

from diptych.nets.clip import CLIP
from diptych.nets.resnet import Bottleneck
from diptych.nets.transformer import Block

WHOLE = whole_states.StateDictOptions(full_state_dict=True, cpu_offload=True)
Network = TypeVar("Network", bound=CLIP)


def split(network: Network, device: torch.device, precision: torch.dtype | None = None) -> Network:
    """Split each block and what is left of each tower, in place. The first process's weights are everybody's.

    The network may be on the processor still: weights move to `device` a block at a time. With `precision` (bfloat16)
    blocks compute in it and send their weights in it; gradients are summed in float32. To be called before the
    optimizer is made, for the parameters are others afterwards.
    """
    for tensor in (*network.parameters(), *network.buffers()):
        _take_from_first(tensor.detach(), device)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for tower in (network.image, network.text):
        live = any(isinstance(module, _BatchNorm) for module in tower.modules())  # its statistics stay float32
        policy = MixedPrecisionPolicy(None if live else precision, torch.float32 if precision else None)
        blocks = [module for module in tower.modules() if isinstance(module, Block | Bottleneck)]
        for module in (*blocks, tower):
            fully_shard(module, mesh=mesh, mp_policy=policy)
    for scalar in (network.logit_scale, network.logit_bias):
        if scalar is not None:
            scalar.data = scalar.data.to(device)
            if scalar.requires_grad:
                scalar.register_post_accumulate_grad_hook(_average)
    return network


def _take_from_first(tensor: Tensor, device: torch.device) -> None:
    box = tensor.to(device)
    dist.broadcast(box, src=0)
    tensor.copy_(box)


def _average(parameter: Tensor) -> None:
    assert parameter.grad is not None
    dist.all_reduce(parameter.grad)
    parameter.grad /= dist.get_world_size()


def parts(tensors: Iterable[Tensor]) -> list[Tensor]:
    """This process's parts of `tensors` that are split, and the others as they are, all sharing their memory.

    They are changed under torch.no_grad() alone, as weights are everywhere."""
    return [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]


def groups_apart(groups: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Optimizer groups in which no split weight stands beside a whole one, which the optimizers refuse to step."""
    apart = []
    for group in groups:
        for kind in (True, False):
            if alike := [p for p in group["params"] if isinstance(p, DTensor) is kind]:
                apart.append({**group, "params": alike})
    return apart


@torch.no_grad()
def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients down together where their norm is over `max_norm`; the norm as it was. Split ones, too."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    mine = parts(gradients)
    squares = torch.stack(torch._foreach_norm(mine)).square()
    split_ones = torch.tensor([isinstance(gradient, DTensor) for gradient in gradients])
    whole, of_parts = squares[~split_ones].sum(), squares[split_ones].sum()
    if split_ones.any():
        dist.all_reduce(of_parts)
    norm = (whole + of_parts).sqrt()
    torch._foreach_mul_(mine, (max_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm


def full_state(network: nn.Module) -> dict[str, Any]:
    """Every weight and buffer, whole, on the processor, in the first process; all processes must call. Elsewhere an
    empty dictionary. Works alike on a network that is alone, in DistributedDataParallel, or split. It is for saving:
    what is whole on the processor already is given as it is, and not copied."""
    return whole_states.get_model_state_dict(network, options=WHOLE)


def full_optimizer_state(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimizer's state: of a split network whole, by the parameters' names, where and when as in `full_state`; of
    another as the optimizer gives it."""
    if not _is_split(network):
        return optimizer.state_dict()
    return whole_states.get_optimizer_state_dict(network, optimizer, options=WHOLE)


def load_full(
    network: nn.Module,
    state: dict[str, Any],
    optimizers: Sequence[torch.optim.Optimizer] = (),
    optimizer_states: Sequence[dict[str, Any]] = (),
) -> None:
    """Put back what `full_state` and `full_optimizer_state` gave; all must call. Into a split network the first
    process's goes, whatever the others have."""
    if _is_split(network):
        options = whole_states.StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
        whole_states.set_model_state_dict(network, state, options=options)
    else:
        network.load_state_dict(state)
    for optimizer, its_state in zip(optimizers, optimizer_states, strict=True):
        if _is_split(network):
            whole_states.set_optimizer_state_dict(network, optimizer, its_state, options=options)
        else:
            optimizer.load_state_dict(its_state)


def _is_split(network: nn.Module) -> bool:
    return any(isinstance(parameter, DTensor) for parameter in network.parameters())
