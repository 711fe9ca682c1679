"""Several processes as one, started by torchrun: every gradient is that of one process with the whole batch.

That holds for towers without batch statistics. Batch norm is synchronised on GPUs; on processors each process sees its
own pictures' statistics, and the run says so. Dropout draws other numbers in each process, as it should."""

from __future__ import annotations

import atexit
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from diptych.errors import ArgumentError, Setting
from diptych.nets.clip import CLIP, Output
from diptych.training.objectives.contrastive import Part, Sums, chance_loss, sigmoid_loss, softmax_loss
from diptych.training.objectives.targets import Identities, positives
from diptych.training.parallel.sharding import split

if TYPE_CHECKING:
    from jaxtyping import Float

T = TypeVar("T")
LONGEST = timedelta(hours=4)  # the others wait while the first learns a tokenizer, or measures what was forgotten


class Place(NamedTuple):
    """Which of how many processes this is."""

    rank: int = 0
    world: int = 1


def join(device: torch.device) -> tuple[Place, torch.device]:
    """Join the processes that torchrun started, each on an accelerator of its own; alone without it.

    Raises ValueError where this process finds no accelerator left for it, or Apple's is asked for.
    """
    world, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    if world == 1:
        return Place(), device
    if device.type == "mps":
        raise ArgumentError(
            "several processes need NVIDIA GPUs or the processor.", remedy=["Pass ", Setting("device", "cpu"), "."]
        )
    if device.type == "cuda":
        if local >= torch.cuda.device_count():
            raise ArgumentError(f"process {local} has no GPU of its own; this machine has {torch.cuda.device_count()}.")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=LONGEST)
        atexit.register(_part)
    return Place(dist.get_rank(), world), device


def _part() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def wait_for_all() -> None:
    """Go on when every process is here. One that ends first would take the others' connections with it."""
    if not is_alone():
        dist.barrier()


def is_alone() -> bool:
    """Whether there is no other process to talk to."""
    return not dist.is_initialized() or dist.get_world_size() == 1


def is_first() -> bool:
    """Whether this is the process that writes and speaks for all."""
    return not dist.is_initialized() or dist.get_rank() == 0


def from_all(value: T) -> list[T]:
    """Every process's value, in every process."""
    if is_alone():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def from_first(value: T) -> T:
    """The first process's value in every process, for what all have to take alike."""
    if is_alone():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def share_batch_norm(network: CLIP, device: torch.device) -> str | None:
    """Have batch norm that is being trained see all processes' pictures, where it can: on GPUs, in place. Elsewhere
    each sees its own, and the sentence that says so is returned."""
    live = [
        module for module in network.modules() if isinstance(module, nn.BatchNorm2d) and module.weight.requires_grad
    ]
    if is_alone() or not live:
        return None
    if device.type != "cuda":
        return "batch norm sees each process's own pictures here: gradients differ from one process's"
    nn.SyncBatchNorm.convert_sync_batchnorm(network)  # in place: the network itself is no batch norm
    return None


def wrap(
    network: CLIP, device: torch.device, *, shard: bool = False, precision: torch.dtype | None = None
) -> nn.Module:
    """The network as training calls it, its gradients averaged over the processes; what it is if there is but one.

    With `shard` each process keeps a part of every weight,
    for towers that do not fit on one device; `precision` is then what their blocks compute in. See `sharding`.
    """
    if is_alone():
        return network.to(device)
    return split(network, device, precision) if shard else DistributedDataParallel(network.to(device))


class _Gather(torch.autograd.Function):
    """Concatenate every process's rows, of which each may have another number; backwards, sum every process's gradient
    of one's own rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: list[int]) -> Tensor:  # type: ignore[override]
        ctx.sizes = sizes
        padded = x.new_zeros(max(sizes), *x.shape[1:])
        padded[: len(x)] = x
        rows = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(rows, padded)
        return torch.cat([row[:size] for row, size in zip(rows, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        widest = max(ctx.sizes)
        padded = [F.pad(part, (0, 0, 0, widest - len(part))) for part in grad.split(ctx.sizes)]
        mine = torch.empty_like(padded[0])
        dist.reduce_scatter(mine, padded)
        return mine[: ctx.sizes[dist.get_rank()]], None


class _Total(torch.autograd.Function):
    """The sum of every process's share. Backwards the gradient is multiplied by the number of processes, by which the
    average of the parameters' gradients over them then divides."""

    @staticmethod
    def forward(ctx: Any, share: Tensor) -> Tensor:  # type: ignore[override]
        total = share.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return grad * dist.get_world_size()


def _merge(columns: Sums) -> Sums:
    """The sums over whole columns, from every process's of its own rows."""
    highest = columns.highest.clone()
    dist.all_reduce(highest, dist.ReduceOp.MAX)
    sums = columns.sums * (columns.highest - highest).exp()
    dist.all_reduce(sums)
    return Sums(highest, sums)


def _sizes(*counts: int, device: torch.device) -> list[list[int]]:
    """For each of `counts`, every process's."""
    mine = torch.tensor(counts, device=device)
    everyones = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(everyones, mine)
    return torch.stack(everyones).T.tolist()


class Contrast(NamedTuple):
    """A loss, and that of a model which guesses, on the same batch; and that of regions, where these are known."""

    loss: Float[Tensor, ""]
    chance: float
    places: Float[Tensor, ""] | None = None


def whole_loss(output: Output, batch: Identities) -> Contrast:
    """The model's own loss over the pictures and texts of all processes, of which `output` and `batch` are this one's.

    Every process gathers all texts and works on its own pictures' rows of the similarity matrix, so that together they
    do the work of one. Each gets the whole loss; its gradients, averaged over the processes, are those of one process.
    """
    if is_alone():
        return _loss(output, output.text, batch, None)
    pictures, texts = _sizes(len(output.image), len(output.text), device=output.image.device)
    first = sum(pictures[: dist.get_rank()])
    mine = Identities(*(x.to(output.image.device) for x in batch))
    everyones = Identities(
        _Gather.apply(mine.owners + first, texts),  # type: ignore[arg-type]
        _Gather.apply(mine.captions, texts),  # type: ignore[arg-type]
        _Gather.apply(mine.pictures, pictures),  # type: ignore[arg-type]
    )
    all_text: Tensor = _Gather.apply(output.text, texts)  # type: ignore[assignment]
    share, chance, _ = _loss(output, all_text, everyones, Part(first, sum(pictures), _merge))
    return Contrast(_Total.apply(share), chance)  # type: ignore[arg-type]


def _loss(output: Output, text: Tensor, batch: Identities, part: Part | None) -> Contrast:
    pairs, pictures = positives(batch, text.device), len(batch.pictures)
    if output.bias is None:
        loss = softmax_loss(output.image, text, output.scale, pairs=pairs, part=part)
        return Contrast(loss, chance_loss(pictures, len(text)))
    loss = sigmoid_loss(output.image, text, output.scale, output.bias, pairs=pairs, part=part)
    return Contrast(loss, chance_loss(pictures, len(text), int(pairs.counts()[0].sum())))
