"""Muon: what a step is, worked out by singular values."""

import pytest
import torch
from torch import nn

from diptych.nets.clip import CLIP
from diptych.nets.presets import preset
from diptych.training.config import TrainConfig
from diptych.training.finetuning.lora import add
from diptych.training.optim.muon import Muon, is_hidden, orthogonalise
from diptych.training.setup import optimizers

pytestmark = pytest.mark.precision


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 6, 20), (2, 20, 6)])
def test_singular_values_come_near_one(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    """Between 0.68 and 1.13 at the quintic's five rounds, a little wider in bfloat16; the singular vectors stay."""
    torch.manual_seed(0)
    x = torch.randn(shape)
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    values = u.mT @ orthogonalise(x, dtype) @ v.mT
    diagonal = values.diagonal(dim1=1, dim2=2)
    assert 0.6 < diagonal.min() < diagonal.max() < 1.3
    torch.testing.assert_close(values, torch.diag_embed(diagonal), atol=0.05, rtol=0)


def stepped(weight: torch.Tensor, gradient: torch.Tensor, **group) -> torch.Tensor:
    parameter = nn.Parameter(weight.clone())
    parameter.grad = gradient.clone()
    Muon([{"params": [parameter], "lr": 0.1, **group}]).step()
    return parameter.detach()


def test_a_step_has_the_size_of_its_rate_whatever_the_gradients() -> None:
    torch.manual_seed(0)
    weight, gradient = torch.zeros(8, 8), torch.randn(8, 8)
    step = stepped(weight, gradient)
    assert torch.linalg.svdvals(step).max() < 0.13
    torch.testing.assert_close(stepped(weight, 1000 * gradient), step)  # in float32, which is Muon's default
    assert (step * gradient).sum() < 0  # downhill


def test_tall_matrices_step_further_and_convolutions_are_matrices() -> None:
    torch.manual_seed(0)
    gradient = torch.randn(16, 4)
    tall = stepped(torch.zeros(16, 4), gradient)
    assert 0.12 < torch.linalg.svdvals(tall).min() < torch.linalg.svdvals(tall).max() < 0.26  # about 0.1 x sqrt(16 / 4)
    torch.testing.assert_close(stepped(torch.zeros(16, 1, 2, 2), gradient.view(16, 1, 2, 2)).flatten(1), tall)


def test_weight_decay_is_the_rates_share() -> None:
    weight = torch.randn(4, 4)
    torch.testing.assert_close(stepped(weight, torch.zeros(4, 4), weight_decay=0.5), 0.95 * weight)


def test_every_weight_is_learnt_once() -> None:
    network = CLIP(preset("resnet-tiny"))
    adamw, muon = optimizers(network, TrainConfig(data=("x",)))
    groups = [p for optimizer in (adamw, muon) for group in optimizer.param_groups for p in group["params"]]
    assert len(groups) == len({id(p) for p in groups}) == len(list(network.parameters()))
    by_muon = {id(p) for group in muon.param_groups for p in group["params"]}
    assert by_muon == {id(p) for key, p in network.named_parameters() if is_hidden(key, p)}


def test_adapters_are_no_hidden_matrices() -> None:
    network = CLIP(preset("vit-tiny"))
    add(network, 4, 16.0)
    _, *muon = optimizers(network, TrainConfig(data=("x",), init="m", lora=4))
    assert not muon
