"""The tensors of a run by name: weights, their moving average and the optimizers' state, whole or sharded alike. The
names do not depend on how the weights are spread, so what one number of processes saved another can load."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from diptych.errors import ArgumentError

NETWORK, AVERAGE, OPTIMIZERS = "network.", "average.", "optimizers."


def named_tensors(
    network: nn.Module, average: nn.Module | None, optimizers: Sequence[torch.optim.Optimizer]
) -> dict[str, Tensor]:
    """Every tensor that a step changes, sharing memory with it: `network.NAME`, `average.NAME` and
    `optimizers.NUMBER.PARAMETER:KEY`. Sharded ones are DTensors."""
    tensors = {NETWORK + name: tensor for name, tensor in network.state_dict().items()}
    if average is not None:
        tensors |= {AVERAGE + name: tensor for name, tensor in average.state_dict().items()}
    names: dict[Tensor, str] = {parameter: name for name, parameter in network.named_parameters()}
    for number, optimizer in enumerate(optimizers):
        for parameter, state in optimizer.state.items():
            tensors |= {f"{OPTIMIZERS}{number}.{names[parameter]}:{key}": value for key, value in state.items()}
    return tensors


def share_buffers(tensors: Mapping[str, Tensor], modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """`tensors` with rank 0's copies of the `modules`' buffers, by prefix: batch norm's statistics differ between
    processes, and any of these may save them. All processes must call it."""
    shared = dict(tensors)
    for prefix, module in modules.items():
        for name, _ in module.named_buffers():
            if (tensor := shared.get(prefix + name)) is not None:
                shared[prefix + name] = tensor.detach().clone()
                dist.broadcast(shared[prefix + name], src=0)
    return shared


def allocate_states(
    network: nn.Module, optimizers: Sequence[torch.optim.Optimizer], shapes: Mapping[str, Sequence[int]]
) -> None:
    """Give the optimizers a state for every name in `shapes` that is one of theirs, filled with zeros: scalars, and
    tensors of the parameter's shape, which are sharded as the parameter is. Raises ArgumentError for others."""
    parameters = dict(network.named_parameters())
    for name, shape in shapes.items():
        if not name.startswith(OPTIMIZERS):
            continue
        number, _, rest = name.removeprefix(OPTIMIZERS).partition(".")
        parameter_name, _, key = rest.rpartition(":")
        parameter = parameters.get(parameter_name)
        if parameter is None or tuple(shape) not in ((), tuple(parameter.shape)):
            raise ArgumentError(f"the checkpoint has {name:.300} of shape {(*shape,)}, which this run does not have.")
        is_whole = tuple(shape) == tuple(parameter.shape)
        zeros = torch.zeros_like(parameter) if is_whole else torch.zeros((), device=parameter.device)
        optimizers[int(number)].state[parameter][key] = zeros.detach()


def by_name(optimizer_states: Iterable[Mapping[str, Any]], order: Sequence[Sequence[str]]) -> dict[str, Tensor]:
    """The states in `optimizer.state_dict()` by the names of `named_tensors`. They count parameters, whose names are in
    `order` for each optimizer; or name them already."""
    tensors = {}
    for number, (state, names) in enumerate(zip(optimizer_states, order, strict=True)):
        for parameter, values in state["state"].items():
            name = names[parameter] if isinstance(parameter, int) else parameter
            tensors |= {f"{OPTIMIZERS}{number}.{name}:{key}": torch.as_tensor(value) for key, value in values.items()}
    return tensors


def parameter_names(network: nn.Module, optimizers: Iterable[torch.optim.Optimizer]) -> list[list[str]]:
    """The names of the parameters of each optimizer, in its order."""
    names = {parameter: name for name, parameter in network.named_parameters()}
    return [[names[p] for group in each.param_groups for p in group["params"]] for each in optimizers]


@torch.no_grad()
def copy_whole(targets: Mapping[str, Tensor], whole: Mapping[str, Tensor]) -> None:
    """Copy whole tensors, the same in all processes, into `targets`, which may be sharded. Raises KeyError for one that
    is missing."""
    for name, target in targets.items():
        value = whole[name].to(target.device, target.dtype)
        if isinstance(target, DTensor):
            value = distribute_tensor(value, target.device_mesh, target.placements)
        target.copy_(value)
