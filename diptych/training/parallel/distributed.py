"""Training in several processes, started by torchrun: every gradient equals that of one process with the whole batch.

This holds for towers without batch norm. Batch norm is synchronised on GPUs; on CPUs each process normalises by its own
pictures, and the run logs that. Dropout draws different numbers in each process.
"""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from diptych.errors import ArgumentError, Setting, WorkerLostError
from diptych.nets.clip import CLIP, Output
from diptych.training.objectives.contrastive import (
    LocalRows,
    RunningLogSumExp,
    chance_loss,
    sigmoid_loss,
    softmax_loss,
)
from diptych.training.objectives.targets import PairIds, positives
from diptych.training.parallel.sharding import shard

if TYPE_CHECKING:
    from jaxtyping import Float

T = TypeVar("T")
TIMEOUT = timedelta(minutes=30)  # in a step
PATIENCE = timedelta(hours=4)  # others wait while rank 0 trains a tokenizer or measures forgetting
# What gloo's errors, which have no class of their own, say of a process that is gone or silent.
LOST = ("gloo/transport", "caused pair closure", "Connection closed by peer", "Connection reset by peer")
_patient_group: dist.ProcessGroup | None = None


class ProcessInfo(NamedTuple):
    """This process's rank, and the number of processes."""

    rank: int = 0
    world_size: int = 1


def init_process_group_from_env(device: torch.device, timeout: timedelta = TIMEOUT) -> tuple[ProcessInfo, torch.device]:
    """Join the processes that torchrun started, each with an accelerator of its own. Without torchrun there is one.
    A process that is silent for `timeout` within a step counts as lost.

    Raises ValueError if there are fewer accelerators than processes, or for several processes on Apple's GPU.
    """
    world_size, local_rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    if world_size == 1:
        return ProcessInfo(), device
    if device.type == "mps":
        raise ArgumentError(
            "several processes need NVIDIA GPUs or the CPU.", remedy=["Pass ", Setting("device", "cpu"), "."]
        )
    if device.type == "cuda":
        if local_rank >= (count := torch.cuda.device_count()):
            raise ArgumentError(f"process {local_rank} has no GPU of its own; this machine has {count}.")
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timeout)
        atexit.register(_destroy_process_group)
    global _patient_group
    _patient_group = gloo_group(PATIENCE)
    return ProcessInfo(dist.get_rank(), world_size), device


def shared_store_warning() -> str | None:
    """A sentence for the log if a restart by torchrun may fail: unless told otherwise, it keeps one store for all
    restarts, in which processes may find the addresses of those that were there before."""
    restarts = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"))
    if restarts and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        return "a restart may fail: set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in the environment of torchrun"
    return None


@contextlib.contextmanager
def lost_workers_named() -> Iterator[None]:
    """Turns the errors of a connection to another process into WorkerLostError."""
    try:
        yield
    except RuntimeError as error:
        if is_single_process() or not (isinstance(error, dist.DistError) or any(sign in str(error) for sign in LOST)):
            raise
        raise WorkerLostError(
            f"process {dist.get_rank()} lost the connection to another of the {dist.get_world_size()} processes "
            f"({' '.join(str(error).split()):.300}).",
            remedy=["Resume with ", Setting("resume", True), "; started with it, torchrun restarts the run by itself."],
        ) from error


def gloo_group(timeout: timedelta) -> dist.ProcessGroup:
    """A further group of all processes, whose messages do not mix with those of others. Every process must call it."""
    group = dist.new_group(backend="gloo", timeout=timeout)
    assert isinstance(group, dist.ProcessGroup)
    return group


def _destroy_process_group() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def barrier() -> None:
    """Wait for all processes, which may take hours. One that ends early would close the others' connections."""
    if not is_single_process():
        dist.barrier(_patient_group)


def is_single_process() -> bool:
    """Whether this is the only process of the run."""
    return not dist.is_initialized() or dist.get_world_size() == 1


def is_rank_zero() -> bool:
    """Whether this process writes files and logs for all."""
    return not dist.is_initialized() or dist.get_rank() == 0


def all_gather_object(value: T) -> list[T]:
    """Every process's value, in every process."""
    if is_single_process():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def broadcast_object(value: T) -> T:
    """Rank 0's value, in every process. Others wait for hours if it takes so long to make."""
    if is_single_process():
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0, group=_patient_group)
    return values[0]


def share_batch_norm(network: CLIP, device: torch.device) -> str | None:
    """Synchronise trainable batch norm over the processes; GPUs only. On other devices each process
    normalises by its own pictures: returns a sentence for the log."""
    trainable = [
        module for module in network.modules() if isinstance(module, nn.BatchNorm2d) and module.weight.requires_grad
    ]
    if is_single_process() or not trainable:
        return None
    if device.type != "cuda":
        return "batch norm uses each process's own pictures here: gradients differ from one process's"
    nn.SyncBatchNorm.convert_sync_batchnorm(network)  # changes the network, which is not a batch norm itself
    return None


def wrap(
    network: CLIP, device: torch.device, *, sharded: bool = False, precision: torch.dtype | None = None
) -> nn.Module:
    """The network to call in training, with gradients averaged over the processes; in one process the network itself.

    With `sharded` each process stores a part of every weight, for towers that do not fit on one device; their blocks
    then compute in `precision`. See `sharding`.
    """
    if is_single_process():
        return network.to(device)
    return shard(network, device, precision) if sharded else DistributedDataParallel(network.to(device))


class _AllGather(torch.autograd.Function):
    """Concatenate the rows of all processes, which may differ in number. The backward pass sums the gradients of this
    process's rows over all processes."""

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
        max_size = max(ctx.sizes)
        padded = [F.pad(part, (0, 0, 0, max_size - len(part))) for part in grad.split(ctx.sizes)]
        local = torch.empty_like(padded[0])
        dist.reduce_scatter(local, padded)
        return local[: ctx.sizes[dist.get_rank()]], None


class _AllReduceSum(torch.autograd.Function):
    """The sum of all processes' local losses. The backward pass multiplies the gradient by the number of processes,
    because parameter gradients are averaged over them afterwards."""

    @staticmethod
    def forward(ctx: Any, local_loss: Tensor) -> Tensor:  # type: ignore[override]
        total = local_loss.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return grad * dist.get_world_size()


def _merge_column_sums(columns: RunningLogSumExp) -> RunningLogSumExp:
    """The sums of whole columns, from every process's sums over its own rows."""
    maxima = columns.max.clone()
    dist.all_reduce(maxima, dist.ReduceOp.MAX)
    sums = columns.sum * (columns.max - maxima).exp()
    dist.all_reduce(sums)
    return RunningLogSumExp(maxima, sums)


def _sizes(*counts: int, device: torch.device) -> list[list[int]]:
    """For each of `counts`, the numbers of all processes."""
    local = torch.tensor(counts, device=device)
    gathered = [torch.empty_like(local) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, local)
    return torch.stack(gathered).T.tolist()


class LossResult(NamedTuple):
    """The contrastive loss of a batch, that of a model at chance level, and the region loss if there are regions."""

    loss: Float[Tensor, ""]
    chance: float
    regions: Float[Tensor, ""] | None = None


def distributed_loss(output: Output, batch: PairIds) -> LossResult:
    """The model's contrastive loss over the pictures and texts of all processes; `output` and `batch` are this one's.

    Every process gathers all texts and computes its own pictures' rows of the similarity matrix, so that together they
    do the work of one. Each returns the whole loss. Its gradients, averaged over the processes, are those of one
    process.
    """
    if is_single_process():
        return _contrastive_loss(output, output.text, batch, None)
    pictures, texts = _sizes(len(output.image), len(output.text), device=output.image.device)
    offset = sum(pictures[: dist.get_rank()])
    local = PairIds(*(x.to(output.image.device) for x in batch))
    gathered = PairIds(
        _AllGather.apply(local.image_index + offset, texts),  # type: ignore[arg-type]
        _AllGather.apply(local.captions, texts),  # type: ignore[arg-type]
        _AllGather.apply(local.pictures, pictures),  # type: ignore[arg-type]
    )
    all_texts: Tensor = _AllGather.apply(output.text, texts)  # type: ignore[assignment]
    local_rows = LocalRows(offset, sum(pictures), _merge_column_sums)
    local_loss, chance, _ = _contrastive_loss(output, all_texts, gathered, local_rows)
    return LossResult(_AllReduceSum.apply(local_loss), chance)  # type: ignore[arg-type]


def _contrastive_loss(output: Output, text: Tensor, batch: PairIds, local_rows: LocalRows | None) -> LossResult:
    pairs, n_images = positives(batch, text.device), len(batch.pictures)
    if output.bias is None:
        loss = softmax_loss(output.image, text, output.scale, pairs=pairs, local_rows=local_rows)
        return LossResult(loss, chance_loss(n_images, len(text)))
    loss = sigmoid_loss(output.image, text, output.scale, output.bias, pairs=pairs, local_rows=local_rows)
    return LossResult(loss, chance_loss(n_images, len(text), int(pairs.counts()[0].sum())))
