"""What one of two processes does for tests/training/parallel/test_distributed.py."""

import copy
import io
from pathlib import Path

import torch

from diptych.nets.clip import CLIP
from diptych.training.objectives.targets import Identities
from diptych.training.optim.muon import orthogonal_each
from diptych.training.optim.weight_average import update_average
from diptych.training.parallel.accumulate import backward
from diptych.training.parallel.distributed import Place, from_all, join, wait_for_all, wrap
from diptych.training.parallel.sharding import full_optimizer_state, full_state, load_full, parts
from tests.training.parallel.test_accumulate import batch, small
from tests.training.parallel.test_distributed import CASES, matrices, stepped

CPU = torch.device("cpu")


def mine(place: Place, tower: str) -> tuple:
    """Five pictures for the first process, three for the second."""
    pixels, ids, who = batch(tower)
    first = slice(0, 5) if place.rank == 0 else slice(5, 8)
    texts = (who.owners >= first.start) & (who.owners < first.stop)
    part = Identities(who.owners[texts] - first.start, who.captions[texts], who.pictures[first])
    return pixels[first], ids[texts], part


def averaged(place: Place, tower: str, loss: str, chunks: int) -> dict:
    """Loss and gradients under DistributedDataParallel; frozen batch norm."""
    network = small(tower, loss).eval()
    value, chance, _ = backward(wrap(network, CPU), *mine(place, tower), chunks=chunks)
    return {"loss": value, "chance": torch.tensor(chance)} | {
        name: p.grad for name, p in network.named_parameters() if p.grad is not None
    }


def sharded(place: Place, tower: str, chunks: int) -> dict:
    """Weights after two steps, their average, and the same through a restart after the first."""
    made = small(tower, "sigmoid").eval()
    if place.rank:
        torch.nn.init.zeros_(made.text.proj.weight)  # the first process's are everybody's
    average = wrap(copy.deepcopy(made).requires_grad_(False), CPU, shard=True)
    network, again = wrap(made, CPU, shard=True), wrap(small(tower, "sigmoid").eval(), CPU, shard=True)
    assert sum(p.numel() for p in parts(network.parameters())) < 0.7 * sum(p.numel() for p in network.parameters())

    def step(network: CLIP, optimizer: torch.optim.Optimizer | None = None) -> torch.optim.Optimizer:
        return stepped(network, optimizer, *mine(place, tower), chunks=chunks)

    optimizer = step(network)
    other = step(again)
    file = io.BytesIO()
    torch.save((full_state(network), full_optimizer_state(network, optimizer)), file)
    file.seek(0)
    state, optimizer_state = torch.load(file)
    load_full(again, state, [other], [optimizer_state])
    step(again, other)
    step(network, optimizer)
    update_average(average, network, keep=0.75)
    return {"weights": full_state(network), "again": full_state(again), "average": full_state(average)}


def compared(path: Path) -> None:
    """All cases; the first process writes what came of them."""
    place, _ = join(CPU)
    results = {case: averaged(place, *case) for case in CASES}
    results |= {("sharded", tower): sharded(place, tower, chunks) for tower, chunks in (("vit", 1), ("resnet", 2))}
    results["steps"] = from_all(orthogonal_each(matrices()))
    if place.rank == 0:
        torch.save(results, path)
    wait_for_all()
