"""Two processes give what one gives: one start of both for all that is compared."""

import pytest
import torch
from processes import together
from torch import nn

from diptych.errors import ArgumentError
from diptych.training.optim.muon import assigned_ranks, orthogonalise_all
from diptych.training.parallel.accumulate import backward
from diptych.training.parallel.distributed import shared_store_warning
from diptych.training.parallel.named_tensors import allocate_states
from diptych.training.parallel.sharding import clip_gradients, full_state, uniform_groups
from tests.training.parallel.test_accumulate import assert_alike, batch, gradients, small

CASES = [(tower, loss, 4) for tower in ("vit", "resnet") for loss in ("softmax", "sigmoid")]
CASES += [("vit", "softmax", 1), ("vit", "sigmoid", 1)]
CASES += [("vit", "softmax", 3)]  # the second process has three pictures; the first's five do not divide


def matrices() -> list[torch.Tensor]:
    """Of several shapes, an odd number of them."""
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=draw) for shape in ((8, 8), (12, 4), (8, 8), (3, 27), (8, 8))]


def stepped(network: nn.Module, optimizer: torch.optim.Optimizer | None, *inputs, **named) -> torch.optim.Optimizer:
    """One clipped step of AdamW, by a new optimizer where there is none."""
    optimizer = optimizer or torch.optim.AdamW(
        uniform_groups([{"params": list(network.parameters())}]), 1e-2, fused=True
    )
    optimizer.zero_grad(set_to_none=True)
    backward(network, *inputs, **named)
    clip_gradients(network.parameters(), 0.5)
    optimizer.step()
    return optimizer


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> dict:
    from distributed_worker import compared

    process = tmp_path_factory.mktemp("distributed")
    together(process, compared, process / "results.pt")
    return torch.load(process / "results.pt")


@pytest.mark.parametrize(("tower", "loss", "micro_batches"), CASES)
def test_two_processes_in_parts_give_the_gradients_of_one(
    two_processes: dict, tower: str, loss: str, micro_batches: int
) -> None:
    """Every parameter, the temperature and the bias, in float64; uneven parts, several captions a picture, captions
    and pictures that come twice, one of each in either process."""
    assert_alike(two_processes[tower, loss, micro_batches], gradients(small(tower, loss).eval(), *batch(tower)), 1e-9)


@pytest.mark.parametrize("tower", ["vit", "resnet"])
def test_sharded_weights_step_and_restart_as_those_of_one_process(two_processes: dict, tower: str) -> None:
    network = small(tower, "sigmoid").eval()
    before = {name: value.clone() for name, value in full_state(network).items()}
    stepped(network, stepped(network, None, *batch(tower)), *batch(tower))
    results = two_processes["sharded", tower]
    assert_alike(results["weights"], full_state(network), 1e-9)
    assert_alike(results["again"], results["weights"], 0)
    moved = {
        name: before[name] + 0.25 * (results["weights"][name] - before[name]) for name, _ in network.named_parameters()
    }
    assert_alike({name: results["average"][name] for name in moved}, moved, 1e-12)


def test_muon_s_matrices_are_shared_out_and_all_get_all(two_processes: dict) -> None:
    first, second = two_processes["steps"]
    alone = orthogonalise_all(matrices())
    for a, b, wanted in zip(first, second, alone, strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, wanted)
    assert assigned_ranks([(8, 8), (12, 4), (8, 8), (3, 27), (8, 8)], 2) == [0, 1, 1, 1, 0]  # 512, 192, 512, 243, 512
    assert assigned_ranks([], 3) == []


def test_clipping_is_torch_s_own() -> None:
    ours, theirs = small("vit", "softmax"), small("vit", "softmax")
    for network in (ours, theirs):
        backward(network, *batch("vit"))
    norm = clip_gradients(ours.parameters(), 0.1)
    torch.testing.assert_close(norm, nn.utils.clip_grad_norm_(theirs.parameters(), 0.1))
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    before = [p.grad.clone() for p in ours.parameters()]
    clip_gradients(ours.parameters(), 1e9)
    torch.testing.assert_close([p.grad for p in ours.parameters()], before)


def test_a_store_that_torchrun_shares_between_restarts_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it may restart, and was not told otherwise."""
    assert shared_store_warning() is None
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "False")
    assert shared_store_warning() is None
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    assert "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1" in str(shared_store_warning())


def test_states_that_fit_no_parameter_are_refused() -> None:
    """A checkpoint from elsewhere claims what it likes; nothing is allocated for it."""
    network = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    allocate_states(network, [optimizer], {"optimizers.0.weight:step": (), "optimizers.0.weight:exp_avg": (2, 3)})
    assert {key: tuple(value.shape) for key, value in optimizer.state[network.weight].items()} == {
        "step": (), "exp_avg": (2, 3)
    }  # fmt: skip
    for name, shape in {"optimizers.0.weight:exp_avg": (10**15,), "optimizers.0.other:exp_avg": (2, 3)}.items():
        with pytest.raises(ArgumentError, match="which this run does not have"):
            allocate_states(network, [optimizer], {name: shape})
