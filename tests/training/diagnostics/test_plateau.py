"""Each reason for a loss that stays at chance, provoked in a tiny model and named; runs that learn hear nothing."""

import math
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from diptych.nets.clip import CLIP
from diptych.nets.config import CLIPConfig, TextConfig, ViTConfig
from diptych.training.diagnostics.plateau import Plateau, StepEvidence, mean_cosine
from diptych.training.objectives.contrastive import chance_loss, sigmoid_loss, softmax_loss

THINGS, BATCH = 64, 16
LOOKS = torch.randn(THINGS, 3, 16, 16, generator=torch.Generator().manual_seed(1))
WORDS = torch.randint(1, 60, (THINGS, 6), generator=torch.Generator().manual_seed(2))
Pairs = tuple[Tensor, Tensor, list[str]]


def tiny(loss: str = "softmax") -> CLIP:
    torch.manual_seed(0)
    text = TextConfig(8, 64, 32, 1, 1, 64, pool="end", end_id=63)
    return CLIP(CLIPConfig(32, ViTConfig(16, 8, 32, 1, 1, 64), text, loss=loss))


def pairs(generator: torch.Generator) -> Pairs:
    """Noisy pictures of 16 of 64 things, with their names."""
    which = torch.randperm(THINGS, generator=generator)[:BATCH]
    pixels = LOOKS[which] + 0.5 * torch.randn(BATCH, 3, 16, 16, generator=generator)
    return pixels, torch.cat([WORDS[which], torch.full((BATCH, 1), 63)], dim=1), [f"thing {i}" for i in which.tolist()]


def learn(
    network: CLIP, *, spoil: Callable[..., Pairs] = lambda *batch: batch, lr: float = 1e-3, steps: int = 61
) -> list[str]:
    """Train for so many steps, and return what was said. The warm-up takes ten of them."""
    chance = chance_loss(BATCH, BATCH, BATCH if network.config.loss == "sigmoid" else None)
    plateau = Plateau(network, patience=24)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=lr)
    generator, said = torch.Generator().manual_seed(3), []
    for number in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, (number + 1) / 10)
        pixels, ids, captions = spoil(*pairs(generator))
        output = network(pixels, ids)
        loss = softmax_loss if output.bias is None else sigmoid_loss
        value = loss(*(part for part in output if part is not None))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if number >= 10 and plateau.is_stuck(number + 1, value.item(), chance):
            said += plateau.causes(StepEvidence(pixels, ids, captions, {"lr": lr}))
    return said


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_a_run_that_learns_hears_nothing(loss: str) -> None:
    assert learn(tiny(loss), steps=121) == []


def test_a_slow_run_that_starts_above_chance_hears_nothing() -> None:
    """Its loss passes through chance on its way down."""
    assert learn(tiny(), lr=1e-5, steps=121) == []


def same_captions(pixels: Tensor, ids: Tensor, captions: list[str]) -> Pairs:
    return pixels, ids[:1].expand(BATCH, -1), ["a photo"] * BATCH


def same_tokens(pixels: Tensor, ids: Tensor, captions: list[str]) -> Pairs:
    return pixels, ids[:1].expand(BATCH, -1), captions


def same_pictures(pixels: Tensor, ids: Tensor, captions: list[str]) -> Pairs:
    return LOOKS[:1].expand(BATCH, -1, -1, -1), ids, captions


def blank_pictures(pixels: Tensor, ids: Tensor, captions: list[str]) -> Pairs:
    return torch.rand(BATCH, 3, 1, 1).expand(-1, -1, 16, 16), ids, captions


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (same_captions, "Distinct captions in the batch: 1 of 16; 16 are 'a photo'."),
        (same_tokens, "The tokenizer turns 16 captions into 1 different token sequences"),
        (same_pictures, "Distinct pictures in the batch: 1 of 16."),
        (blank_pictures, "16 of 16 pictures of the batch have a single colour."),
    ],
)
def test_what_is_wrong_with_the_batch(spoil: Callable[..., Pairs], cause: str) -> None:
    head, *causes = learn(tiny(), spoil=spoil)
    assert re.fullmatch(r"After \d+ steps the loss \(2\.7\d+\) is still at chance level \(2\.773\)\.", head)
    assert len(causes) == 1
    assert causes[0].startswith(cause)


def shuffled(pixels: Tensor, ids: Tensor, captions: list[str]) -> Pairs:
    return pixels, ids.roll(1, dims=0)[torch.randperm(BATCH)], captions


def test_captions_of_other_pictures() -> None:
    """One vector for all is the best that can be learnt of them; and steps were of a good length."""
    said = learn(tiny(), spoil=shuffled)
    assert "it has collapsed. Probably the captions do not belong to their pictures" in said[1]


@pytest.mark.parametrize("lr", [0.1, 0.3])
def test_steps_that_are_too_long(lr: float) -> None:
    said = learn(tiny(), lr=lr)
    assert f"it has collapsed. Probably too large steps of lr ({lr}) (the weights have changed by" in said[1]
    assert len(said) == 2  # once


@pytest.mark.parametrize(
    ("lr", "cause"), [(0.0, "The learning rates are zero: lr (0)."), (1e-8, "The weights have changed")]
)
def test_steps_that_are_too_short(lr: float, cause: str) -> None:
    _, *causes = learn(tiny(), lr=lr)
    assert len(causes) == 1
    assert causes[0].startswith(cause)


def test_frozen_towers() -> None:
    network = tiny()
    network.image.requires_grad_(False)
    network.text.requires_grad_(False)
    assert any(line.startswith("Frozen: the picture and the text tower.") for line in learn(network, lr=1e-4))


def test_one_frozen_tower_does_not_stop_the_other() -> None:
    network = tiny()
    network.image.requires_grad_(False)
    assert learn(network, steps=121) == []


def test_no_way_back() -> None:
    network = tiny()
    network.image.proj.weight.data.zero_()
    network.image.proj.weight.requires_grad_(False)
    said = learn(network)
    assert said[1].startswith("No gradient reaches the picture and the text tower")
    assert len(said) == 2


def test_a_temperature_at_its_end() -> None:
    network = tiny()
    network.logit_scale.data.fill_(-6)
    network.logit_scale.requires_grad_(False)
    assert any("The temperature is 1/0.00248: similarities have hardly any effect." in line for line in learn(network))


def test_what_can_only_be_supposed_is_said_last() -> None:
    """A loss at chance with nothing wrong: not at the first look, and once."""
    network = tiny()
    plateau = Plateau(network, patience=40)
    for parameter in network.parameters():
        parameter.data.mul_(1.05)
        parameter.grad = torch.ones_like(parameter)
    evidence = StepEvidence(*pairs(torch.Generator().manual_seed(0)), {"lr": 1e-3})
    said = [plateau.causes(evidence) for step in range(1, 700) if plateau.is_stuck(step, 2.77, 2.77)]
    assert [len(lines) for lines in said] == [0, 2, 0, 0, 0]
    assert "Do the captions belong to their pictures?" in said[1][1]


def test_looking_changes_nothing() -> None:
    network = tiny().train()
    plateau = Plateau(network, patience=2)
    plateau.is_stuck(1, 2.77, 2.77)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    plateau.causes(StepEvidence(*pairs(torch.Generator().manual_seed(0)), {"lr": 1e-3}))
    assert network.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_resumed_run_goes_on_with_what_was_counted() -> None:
    """It measures from the random start, not from the checkpoint."""
    network = tiny()
    whole = Plateau(network, patience=4)
    for parameter in network.parameters():
        parameter.data.mul_(1.5)
    for step in range(1, 3):
        whole.is_stuck(step, 2.77, 2.77)
    resumed = Plateau(network, patience=4)
    resumed.restore(whole.state())
    for step in range(3, 5):
        assert resumed.is_stuck(step, 2.77, 2.77) == whole.is_stuck(step, 2.77, 2.77) == (step == 4)
    assert resumed._relative_change() == whole._relative_change() == pytest.approx(0.5)


def test_mean_cosine_by_hand() -> None:
    assert mean_cosine(torch.tensor([[1.0, 0], [1, 0], [0, 1]])) == pytest.approx(1 / 3)
    assert mean_cosine(torch.tensor([[0.6, 0.8]] * 5)) == pytest.approx(1)
    assert math.isnan(mean_cosine(torch.ones(1, 1)))
