"""The gradients of one large batch through towers that hold only a part of it at a time.

Contrastive gradients do not add up over parts: every text is every picture's negative. So the features of all parts are
made first, without a graph; the loss of the whole batch gives each feature's gradient; then each part runs again, with
a graph, and takes its features' gradients through the towers (Gao et al. 2021, "Scaling deep contrastive learning batch
size under memory limited setup", section 3). It costs one more forward pass and is exact: dropout and stochastic depth
draw in the second pass what they drew in the first.

Batch norm that is being trained is the exception. It normalises by the statistics of what it sees, which here is one
part: its gradients are those of small batches, as anywhere with accumulation. Running statistics are updated once per
part in each step, by the second pass alone. Frozen (in eval mode), it is exact.
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
from diptych.training.objectives.regions import Grounded, places_loss
from diptych.training.objectives.targets import Identities
from diptych.training.parallel.distributed import Contrast, is_alone, whole_loss

if TYPE_CHECKING:
    from jaxtyping import Float, Int


def backward(
    model: nn.Module,
    pixels: Any,
    ids: Int[Tensor, "texts tokens"],
    batch: Identities,
    *,
    chunks: int = 1,
    autocast: torch.dtype | None = None,
    factor: float | Tensor = 1.0,
    prepare: Callable[[Any], Float[Tensor, "pictures 3 height width"]] = lambda pixels: pixels,
    grounded: Grounded | None = None,
) -> Contrast:
    """Add the gradients of the loss over the pictures and texts of all processes; give the loss, which has no graph,
    and that of guessing.

    `model` is a CLIP, alone or as `distributed.wrap` left it. `pixels` and `ids` are this process's part of the batch;
    `prepare` makes of a slice of `pixels` what the model reads, so that only one chunk's floats need be on the device.
    With `chunks` over 1 the pictures and the texts go through the towers in that many parts, twice. `autocast` is the
    dtype of mixed precision; the gradients, not the loss, are multiplied by `factor` (for float16). With `grounded` the
    gradients are those of the loss plus `weight` times the loss of the regions, each among this process's own; it wants
    the batch in one piece.
    """
    device = ids.device
    chunks = _agreed(min(chunks, len(pixels), len(ids)), device) if chunks > 1 else 1

    def forward(model: nn.Module, pictures: slice, texts: slice) -> Output:
        with torch.autocast(device.type, autocast, enabled=autocast is not None):
            return model(prepare(pixels[pictures]), ids[texts], *([grounded.ids] if grounded else []))

    if chunks == 1:
        output = forward(model, slice(None), slice(None))
        loss, chance, _ = whole_loss(output, batch)
        if grounded is None:
            (loss * factor).backward()
            return Contrast(loss.detach(), chance)
        where = places_loss(output.image, output.patches, output.phrases, output.scale, grounded.known)  # type: ignore[arg-type]
        ((loss + grounded.weight * where) * factor).backward()
        return Contrast(loss.detach(), chance, where.detach())
    if grounded:
        raise ArgumentError("regions are told apart in a whole batch; pass accumulate=1, or places=0.")
    parts = list(zip(_split(len(pixels), chunks), _split(len(ids), chunks), strict=True))
    states, leaves = [], []
    bare = model.module if isinstance(model, DistributedDataParallel) else model
    with torch.no_grad(), frozen_batch_statistics(bare):
        for part in parts:
            states.append(random_state(device))
            leaves.append(forward(bare, *part))
    whole = _leaf(leaves)
    loss, chance, _ = whole_loss(whole, batch)
    (loss * factor).backward()
    for index, (part, state) in enumerate(zip(parts, states, strict=True)):
        last = index == len(parts) - 1
        set_random_state(state, device)
        # Gradients are averaged over the processes once, when they are complete.
        with model.no_sync() if isinstance(model, DistributedDataParallel) and not last else nullcontext():
            _through(forward(model, *part), whole, part, last)
    return Contrast(loss.detach(), chance)


def _agreed(chunks: int, device: torch.device) -> int:
    """The least number that any process wants: all must call the towers alike."""
    if is_alone():
        return chunks
    box = torch.tensor(chunks, device=device)
    dist.all_reduce(box, dist.ReduceOp.MIN)
    return int(box)


def _split(count: int, chunks: int) -> list[slice]:
    """`chunks` slices, as even as may be."""
    edges = [count * i // chunks for i in range(chunks + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


def _leaf(parts: Sequence[Output]) -> Output:
    """The outputs of all parts as one, from which the loss's gradients can be read."""
    image, text = torch.cat([part.image for part in parts]), torch.cat([part.text for part in parts])
    scale, bias = parts[0].scale.clone(), None if parts[0].bias is None else parts[0].bias.detach().clone()
    return Output(*(None if x is None else x.requires_grad_() for x in (image, text, scale, bias)))  # type: ignore[arg-type]


def _through(output: Output, whole: Output, part: tuple[slice, slice], last: bool) -> None:
    """Take the gradients of a part's features, and with the last part the temperature's, through the towers."""
    steps = [(output.image, whole.image.grad[part[0]]), (output.text, whole.text.grad[part[1]])]  # type: ignore[index]
    if last:
        steps += [(output.scale, whole.scale.grad)]
        steps += [(output.bias, whole.bias.grad)] if output.bias is not None and whole.bias is not None else []
    steps = [(tensor, gradient) for tensor, gradient in steps if tensor.requires_grad]  # a frozen tower has none
    if steps:
        torch.autograd.backward(*zip(*steps, strict=True))


def random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    """What dropout will draw from: the processor's generator, and the accelerator's."""
    other = None if device.type == "cpu" else torch.get_device_module(device).get_rng_state()
    return torch.get_rng_state(), other


def set_random_state(state: tuple[Tensor, Tensor | None], device: torch.device) -> None:
    """Have dropout draw from here on what it drew after `random_state`."""
    torch.set_rng_state(state[0])
    if state[1] is not None and device.type != "cpu":
        torch.get_device_module(device).set_rng_state(state[1])
