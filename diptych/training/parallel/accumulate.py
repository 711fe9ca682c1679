"""Gradient accumulation: the gradients of one large batch, computed in micro-batches.

Contrastive gradients do not add up over micro-batches, because every text is a negative of every picture. So the towers
first compute all features without a graph; the loss of the whole batch gives the gradient of each feature; then each
micro-batch runs again with a graph, and backpropagates the gradients of its features (Gao et al. 2021, "Scaling deep
contrastive learning batch size under memory limited setup", section 3). This costs one more forward pass and is exact:
dropout and stochastic depth draw the same random numbers in both passes.

Trainable batch norm is the exception. It normalises by the statistics of one micro-batch, so its gradients are those of
small batches, as with any accumulation. The second pass updates running statistics, once per micro-batch. Frozen batch
norm (in eval mode) is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from diptych.errors import ArgumentError
from diptych.nets.clip import Output
from diptych.nets.resnet import frozen_batch_statistics
from diptych.training.objectives.regions import RegionTargets, region_loss
from diptych.training.objectives.targets import PairIds
from diptych.training.parallel.distributed import LossResult, distributed_loss, is_single_process

if TYPE_CHECKING:
    from jaxtyping import Float, Int

MicroBatch = tuple[slice, slice]  # of the pictures, of the texts


def backward(
    model: nn.Module,
    pixels: Any,
    ids: Int[Tensor, "texts tokens"],
    batch: PairIds,
    *,
    micro_batches: int = 1,
    autocast: torch.dtype | None = None,
    factor: float | Tensor = 1.0,
    prepare: Callable[[Any], Float[Tensor, "pictures 3 height width"]] = lambda pixels: pixels,
    regions: RegionTargets | None = None,
) -> LossResult:
    """Add the gradients of the loss over all processes' pictures and texts to the parameters. Returns the loss without
    a graph, and that of chance.

    `model` is a CLIP, alone or as `distributed.wrap` returned it. `pixels` and `ids` are this process's part of the
    batch; `prepare` turns a slice of `pixels` into the model's input, so that only one micro-batch is on the device as
    floats. With `micro_batches` over 1 the towers run on that many parts of the batch, twice. `autocast` is the dtype
    of mixed precision. `factor` multiplies the gradients, but not the returned loss (for float16). With `regions` the
    loss gains their `weight` times the region loss, which each process computes over its own regions; this needs the
    batch in one piece (ArgumentError otherwise).
    """
    device = ids.device
    micro_batches = _fewest(min(micro_batches, len(pixels), len(ids)), device) if micro_batches > 1 else 1

    def forward(model: nn.Module, pictures: slice, texts: slice) -> Output:
        with torch.autocast(device.type, autocast, enabled=autocast is not None):
            return model(prepare(pixels[pictures]), ids[texts], *([regions.ids] if regions else []))

    if micro_batches == 1:
        output = forward(model, slice(None), slice(None))
        loss, chance, _ = distributed_loss(output, batch)
        if regions is None:
            (loss * factor).backward()
            return LossResult(loss.detach(), chance)
        of_regions = region_loss(output.image, output.patches, output.phrases, output.scale, regions.batch)  # type: ignore[arg-type]
        ((loss + regions.weight * of_regions) * factor).backward()
        return LossResult(loss.detach(), chance, of_regions.detach())
    if regions:
        raise ArgumentError("the region loss needs a whole batch; pass accumulate=1, or region_weight=0.")
    slices = list(zip(_split(len(pixels), micro_batches), _split(len(ids), micro_batches), strict=True))
    states, outputs = [], []
    unwrapped = model.module if isinstance(model, DistributedDataParallel) else model
    with torch.no_grad(), frozen_batch_statistics(unwrapped):
        for each in slices:
            states.append(random_state(device))
            outputs.append(forward(unwrapped, *each))
    features = _detached_features(outputs)
    loss, chance, _ = distributed_loss(features, batch)
    (loss * factor).backward()
    for index, (each, state) in enumerate(zip(slices, states, strict=True)):
        is_last = index == len(slices) - 1
        set_random_state(state, device)
        # Gradients are averaged over the processes once, when they are complete.
        with model.no_sync() if isinstance(model, DistributedDataParallel) and not is_last else nullcontext():
            _backward_micro_batch(forward(model, *each), features, each, is_last)
    return LossResult(loss.detach(), chance)


def _fewest(micro_batches: int, device: torch.device) -> int:
    """The smallest number of any process: all must call the towers equally often."""
    if is_single_process():
        return micro_batches
    number = torch.tensor(micro_batches, device=device)
    dist.all_reduce(number, dist.ReduceOp.MIN)
    return int(number)


def _split(count: int, parts: int) -> list[slice]:
    """`parts` slices of nearly equal length."""
    edges = [count * i // parts for i in range(parts + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


def _detached_features(outputs: Sequence[Output]) -> Output:
    """The outputs of all micro-batches as one, whose tensors are leaves that receive gradients."""
    image, text = torch.cat([each.image for each in outputs]), torch.cat([each.text for each in outputs])
    scale, bias = outputs[0].scale.clone(), None if outputs[0].bias is None else outputs[0].bias.detach().clone()
    return Output(*(None if x is None else x.requires_grad_() for x in (image, text, scale, bias)))  # type: ignore[arg-type]


def _backward_micro_batch(output: Output, features: Output, micro_batch: MicroBatch, is_last: bool) -> None:
    """Backpropagate the gradients of a micro-batch's features, and with the last one those of scale and bias."""
    pictures, texts = micro_batch
    steps = [(output.image, features.image.grad[pictures]), (output.text, features.text.grad[texts])]  # type: ignore[index]
    if is_last:
        steps += [(output.scale, features.scale.grad)]
        steps += [(output.bias, features.bias.grad)] if output.bias is not None and features.bias is not None else []
    steps = [(tensor, gradient) for tensor, gradient in steps if tensor.requires_grad]  # a frozen tower needs none
    if steps:
        torch.autograd.backward(*zip(*steps, strict=True))


def random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    """The states of the CPU's random generator and of the accelerator's, from which dropout draws."""
    accelerator = None if device.type == "cpu" else torch.get_device_module(device).get_rng_state()
    return torch.get_rng_state(), accelerator


def set_random_state(state: tuple[Tensor, Tensor | None], device: torch.device) -> None:
    """Restore a `random_state`."""
    torch.set_rng_state(state[0])
    if state[1] is not None and device.type != "cpu":
        torch.get_device_module(device).set_rng_state(state[1])
