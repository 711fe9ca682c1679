"""Several processes as one, started by torchrun: every process sees all features, and every gradient is that of one
process with the whole batch.

That holds for towers without batch statistics. Batch norm is synchronised on GPUs; on processors each process sees its
own pictures' statistics, and the run says so. Dropout draws other numbers in each process, as it should."""

import atexit
import os
from typing import NamedTuple, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int
from torch import Tensor

from diptych.nets.clip import Output
from diptych.nets.loss import sigmoid_loss, softmax_loss

T = TypeVar("T")


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
        raise ValueError("several processes need NVIDIA GPUs or the processor; pass device='cpu'.")
    if device.type == "cuda":
        if local >= torch.cuda.device_count():
            raise ValueError(f"process {local} has no GPU of its own; this machine has {torch.cuda.device_count()}.")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
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


def from_first(value: T) -> T:
    """The first process's value in every process, for what all have to take alike."""
    if is_alone():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


class _Gather(torch.autograd.Function):
    """Concatenate every process's rows, of which each may have another number.

    Backwards each process keeps its own rows' gradient, times the number of processes: all compute the same loss of
    all rows, and DistributedDataParallel then averages the parameters' gradients, which divides by that number again.
    """

    @staticmethod
    def forward(ctx, x: Tensor, sizes: list[int]) -> Tensor:  # type: ignore[override]
        rank, widest = dist.get_rank(), max(sizes)
        padded = x.new_zeros(widest, *x.shape[1:])
        padded[: len(x)] = x
        rows = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(rows, padded)
        ctx.first, ctx.count, ctx.world = sum(sizes[:rank]), sizes[rank], len(sizes)
        return torch.cat([row[:size] for row, size in zip(rows, sizes, strict=True)])

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return grad[ctx.first : ctx.first + ctx.count] * ctx.world, None


def gather(x: Tensor) -> tuple[Tensor, int]:
    """The rows of all processes, and where this process's rows begin among them."""
    if is_alone():
        return x, 0
    counts = [torch.zeros(1, dtype=torch.long, device=x.device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor([len(x)], device=x.device))
    sizes = [int(count) for count in counts]
    return _Gather.apply(x, sizes), sum(sizes[: dist.get_rank()])  # type: ignore[return-value]


def whole_loss(output: Output, owners: Int[Tensor, " texts"]) -> Float[Tensor, ""]:
    """The model's own loss over the pictures and texts of all processes. Text j belongs to this process's picture
    owners[j]."""
    image, first = gather(output.image)
    text, _ = gather(output.text)
    all_owners, _ = gather(owners + first)
    matches: Bool[Tensor, "pictures texts"] = (
        all_owners[None, :] == torch.arange(len(image), device=image.device)[:, None]
    )
    if output.bias is None:
        return softmax_loss(image, text, output.scale, matches=matches)
    return sigmoid_loss(image, text, output.scale, output.bias, matches=matches)
