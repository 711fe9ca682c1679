"""Accumulation in one process: the gradients of the whole batch, what dropout drew, what batch norm counted."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diptych.nets.clip import CLIP
from diptych.nets.config import CLIPConfig, ResNetConfig, TextConfig, ViTConfig
from diptych.training.objectives.targets import PairIds
from diptych.training.parallel.accumulate import backward
from diptych.training.setup import set_dropout

TEXT = TextConfig(10, 64, 16, 2, 2, 32, pool="end", end_id=63)
IMAGE = {"vit": ViTConfig(16, 8, 16, 2, 2, 32), "resnet": ResNetConfig(32, (1, 1, 1, 1), 4, 4)}


def small(tower: str, loss: str) -> CLIP:
    """A network in float64, the same each time, whose residual branches all do something."""
    torch.manual_seed(3)
    network = CLIP(CLIPConfig(16, IMAGE[tower], TEXT, loss)).double()  # type: ignore[arg-type]
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1)
            nn.init.uniform_(module.running_var, 0.5, 1)
    return network


def batch(tower: str) -> tuple[Tensor, Tensor, PairIds]:
    """Eight pictures with one to three captions each. Two captions are one, and so are two pictures."""
    torch.manual_seed(4)
    image_index = torch.tensor([0, 0, 0, 1, 2, 2, 3, 4, 5, 5, 6, 7])
    ids = torch.randint(1, 63, (len(image_index), 10))
    ids[:, -1] = 63
    captions, pictures = torch.arange(12), torch.arange(8)
    captions[7], pictures[6] = captions[3], pictures[0]
    ids[7] = ids[3]
    size = IMAGE[tower].image_size
    return torch.randn(8, 3, size, size, dtype=torch.float64), ids, PairIds(image_index, captions, pictures)


def gradients(network: nn.Module, *inputs, **named) -> dict[str, Tensor]:
    """The loss, and every parameter's gradient."""
    network.zero_grad(set_to_none=True)
    loss, chance, _ = backward(network, *inputs, **named)
    assert not loss.requires_grad
    return {
        "loss": loss,
        "chance": torch.tensor(chance),
        **{name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None},
    }


def assert_alike(ours: dict[str, Tensor], theirs: dict[str, Tensor], relative: float) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        # Where the true gradient is nought (a bias before a softmax over keys), what is there is rounding.
        assert (ours[name] - value).double().norm() <= relative * value.double().norm() + 1e-14, name


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
@pytest.mark.parametrize("tower", ["vit", "resnet"])
def test_four_parts_give_the_gradients_of_the_whole(tower: str, loss: str) -> None:
    """Every parameter, the temperature and the bias; batch norm frozen."""
    network = small(tower, loss).eval()
    whole = gradients(network, *batch(tower))
    assert {"logit_scale", "text.token.weight"} <= whole.keys()
    for micro_batches in (2, 4, 5, 100):  # even, uneven, and more than there are pictures
        assert_alike(gradients(network, *batch(tower), micro_batches=micro_batches), whole, 1e-9)


def test_the_factor_multiplies_gradients_and_not_the_loss() -> None:
    network = small("vit", "sigmoid")
    for micro_batches in (1, 3):
        plain = gradients(network, *batch("vit"), micro_batches=micro_batches)
        scaled = gradients(network, *batch("vit"), micro_batches=micro_batches, factor=torch.tensor(1024.0))
        for name in ("loss", "chance"):
            assert scaled.pop(name) == plain.pop(name)
        assert_alike({name: value / 1024 for name, value in scaled.items()}, plain, 1e-12)


def test_gradients_are_added_to_those_that_are_there() -> None:
    network = small("vit", "softmax")
    once = gradients(network, *batch("vit"), micro_batches=2)
    backward(network, *batch("vit"), micro_batches=2)
    torch.testing.assert_close(network.logit_scale.grad, 2 * once["logit_scale"])


def test_dropout_draws_the_same_twice_and_then_goes_on() -> None:
    """What the second pass draws is what the first drew; had it not, the gradients were not those of any network. The
    features that the loss sees are recorded and must come again."""
    network = small("vit", "softmax").train()
    set_dropout(network, 0.5, 0.5)
    seen: list[Tensor] = []
    network.register_forward_hook(lambda module, inputs, output: seen.append(output.image.detach()))
    network.text.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    pixels, ids, who = batch("vit")
    torch.manual_seed(7)
    gradients(network, pixels, ids, who, micro_batches=4)
    after = torch.get_rng_state()
    first, second = seen[:8], seen[8:]
    torch.testing.assert_close(second, first, rtol=0, atol=1e-12)
    assert not torch.allclose(first[1], network(pixels[:2], ids[:3]).image)  # it does draw
    torch.manual_seed(7)
    with torch.no_grad():
        for part in range(4):
            network(pixels[2 * part : 2 * part + 2], ids[3 * part : 3 * part + 3])
    assert torch.equal(after, torch.get_rng_state())


def test_live_batch_norm_counts_each_part_once() -> None:
    """As if the parts had gone through once, one after the other, each a batch of its own."""
    network = small("resnet", "softmax").train()
    once = copy.deepcopy(network)
    gradients(network, *batch("resnet"), micro_batches=4)
    with torch.no_grad():
        for pixels in batch("resnet")[0].split(2):
            once.encode_image(pixels)
    assert network.image.bn1.num_batches_tracked == 4
    for name, buffer in once.named_buffers():
        torch.testing.assert_close(network.get_buffer(name), buffer, rtol=0, atol=1e-12)
    assert network.image.bn1.momentum == 0.1


def test_gradient_checkpointing_counts_once_too() -> None:
    network = small("resnet", "softmax").train()
    plain = gradients(network, *batch("resnet"), micro_batches=2)
    network = small("resnet", "softmax").train()
    network.set_gradient_checkpointing()
    assert_alike(gradients(network, *batch("resnet"), micro_batches=2), plain, 1e-9)
    assert network.image.stages[0][0].bn1.num_batches_tracked == 2


def test_a_frozen_tower_and_temperature_get_no_gradient() -> None:
    network = small("vit", "sigmoid")
    network.image.requires_grad_(False)
    network.logit_scale.requires_grad_(False)
    parts = gradients(network, *batch("vit"), micro_batches=4)
    assert "logit_bias" in parts
    assert not any(name.startswith(("image.", "logit_scale")) for name in parts)
    assert_alike(parts, gradients(network, *batch("vit")), 1e-9)


def test_mixed_precision_is_as_exact_as_itself() -> None:
    """bfloat16 in the towers: the parts give what the whole gives under the same rounding."""
    network = small("vit", "softmax").float()
    pixels, ids, who = batch("vit")
    whole = gradients(network, pixels.float(), ids, who, autocast=torch.bfloat16)
    parts = gradients(network, pixels.float(), ids, who, autocast=torch.bfloat16, micro_batches=4)
    exact = gradients(network, pixels.float(), ids, who)
    for name, value in exact.items():
        assert (parts[name] - value).norm() <= 2 * (whole[name] - value).norm() + 1e-2 * value.norm(), name
    assert any((whole[name] - value).abs().max() > 0 for name, value in exact.items())


def test_pixels_may_wait_as_bytes_until_their_part_comes() -> None:
    network = small("vit", "softmax").double()
    pixels = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    sizes = []

    def prepare(part: np.ndarray) -> Tensor:
        sizes.append(len(part))
        return torch.from_numpy(part).permute(0, 3, 1, 2).double() / 255

    parts = gradients(network, pixels, *batch("vit")[1:], micro_batches=4, prepare=prepare)
    assert sizes == [2] * 8
    assert_alike(parts, gradients(network, prepare(pixels), *batch("vit")[1:]), 1e-9)
