"""What one of two processes does for tests/training/parallel/test_distributed.py."""

import copy
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor

from diptych.nets.clip import CLIP
from diptych.training.objectives.targets import PairIds
from diptych.training.optim.ema import update_ema
from diptych.training.optim.muon import orthogonalise_all
from diptych.training.parallel.accumulate import backward
from diptych.training.parallel.distributed import (
    ProcessInfo,
    all_gather_object,
    barrier,
    init_process_group_from_env,
    wrap,
)
from diptych.training.parallel.named_tensors import copy_whole, named_tensors
from diptych.training.parallel.sharding import full_state, local_shards
from tests.training.parallel.test_accumulate import batch, small
from tests.training.parallel.test_distributed import CASES, matrices, stepped

CPU = torch.device("cpu")


def mine(process: ProcessInfo, tower: str) -> tuple:
    """Five pictures for the first process, three for the second."""
    pixels, ids, who = batch(tower)
    first = slice(0, 5) if process.rank == 0 else slice(5, 8)
    texts = (who.image_index >= first.start) & (who.image_index < first.stop)
    part = PairIds(who.image_index[texts] - first.start, who.captions[texts], who.pictures[first])
    return pixels[first], ids[texts], part


def averaged(process: ProcessInfo, tower: str, loss: str, micro_batches: int) -> dict:
    """Loss and gradients under DistributedDataParallel; frozen batch norm."""
    network = small(tower, loss).eval()
    value, chance, _ = backward(wrap(network, CPU), *mine(process, tower), micro_batches=micro_batches)
    return {"loss": value, "chance": torch.tensor(chance)} | {
        name: p.grad for name, p in network.named_parameters() if p.grad is not None
    }


def whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def sharded(process: ProcessInfo, tower: str, micro_batches: int) -> dict:
    """Weights after two steps, their average, and the same through a restart after the first."""
    made = small(tower, "sigmoid").eval()
    if process.rank:
        torch.nn.init.zeros_(made.text.proj.weight)  # the first process's are everybody's
    average = wrap(copy.deepcopy(made).requires_grad_(False), CPU, sharded=True)
    network, again = wrap(made, CPU, sharded=True), wrap(small(tower, "sigmoid").eval(), CPU, sharded=True)
    assert sum(p.numel() for p in local_shards(network.parameters())) < 0.7 * sum(
        p.numel() for p in network.parameters()
    )

    def step(network: CLIP, optimizer: torch.optim.Optimizer | None = None) -> torch.optim.Optimizer:
        return stepped(network, optimizer, *mine(process, tower), micro_batches=micro_batches)

    optimizer = step(network)
    other = step(again)
    saved = {name: whole(each).clone() for name, each in named_tensors(network, None, [optimizer]).items()}
    copy_whole(named_tensors(again, None, [other]), saved)
    step(again, other)
    step(network, optimizer)
    update_ema(average, network, decay=0.75)
    return {"weights": full_state(network), "again": full_state(again), "average": full_state(average)}


def compared(path: Path) -> None:
    """All cases; the first process writes what came of them."""
    process, _ = init_process_group_from_env(CPU)
    results = {case: averaged(process, *case) for case in CASES}
    results |= {
        ("sharded", tower): sharded(process, tower, micro_batches)
        for tower, micro_batches in (("vit", 1), ("resnet", 2))
    }
    results["steps"] = all_gather_object(orthogonalise_all(matrices()))
    if process.rank == 0:
        torch.save(results, path)
    barrier()
