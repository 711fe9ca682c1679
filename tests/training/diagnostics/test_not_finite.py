"""Each way to lose a number, provoked in a tiny model: the tensor is named."""

import math

import pytest
import torch

from diptych.nets.clip import CLIP
from diptych.nets.config import CLIPConfig, TextConfig, ViTConfig
from diptych.nets.transformer import attention
from diptych.training.diagnostics.not_finite import find_non_finite
from diptych.training.objectives.contrastive import softmax_loss
from diptych.training.parallel.compilation import compile_towers

BLOCK = "image.transformer.blocks.0"


def tiny() -> CLIP:
    torch.manual_seed(0)
    text = TextConfig(8, 64, 32, 1, 1, 64, pool="end", end_id=63)
    return CLIP(CLIPConfig(32, ViTConfig(16, 8, 32, 1, 1, 64), text))


def why(network: CLIP, pixels: torch.Tensor | None = None, precision: torch.dtype = torch.float32) -> str:
    generator = torch.Generator().manual_seed(1)
    if pixels is None:
        pixels = torch.randn(8, 3, 16, 16, generator=generator)
    ids = torch.cat([torch.randint(1, 60, (8, 6), generator=generator), torch.full((8, 1), 63)], dim=1)

    def replay() -> None:
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            output = network(pixels, ids)
        softmax_loss(output.image, output.text, output.scale).backward()

    return find_non_finite(network, pixels, replay)


def test_a_pixel() -> None:
    pixels = torch.randn(8, 3, 16, 16)
    pixels[3, 0, 5, 5], pixels[6, 1, 0, 0] = math.nan, math.inf
    assert why(tiny(), pixels).startswith("The pixels of picture 3 of the batch are not finite (2 of 8 pictures).")


def test_a_weight() -> None:
    network = tiny()
    network.text.token.weight.data[5, 0] = math.inf
    assert why(network).startswith("The weights text.token.weight are not finite before this step.")


@pytest.mark.parametrize(
    ("weights", "factor", "precision", "names"),
    [
        (
            f"{BLOCK}.mlp.fc.weight",
            3e39,
            torch.float32,
            [f"the output of {BLOCK}.mlp.fc (float32", "Lower the learn"],
        ),
        (
            f"{BLOCK}.mlp.fc.weight",
            3e39,
            torch.bfloat16,
            [f"the output of {BLOCK}.mlp.fc (bfloat16", "Lower the learn"],
        ),
        (f"{BLOCK}.mlp.fc.weight", 1e6, torch.float16, [f"the output of {BLOCK}.mlp.fc (float16", "train in bf16"]),
        (f"{BLOCK}.norm_2.weight", 3e38, torch.float32, [f"the output of {BLOCK}.norm_2 (float32, from inputs of up"]),
        ("logit_scale", 50.0, torch.float32, ["is scale (float32", "The temperature diverges"]),
    ],
)
def test_the_first_module(weights: str, factor: float, precision: torch.dtype, names: list[str]) -> None:
    """Weights that are finite, times inputs of usual size."""
    network = tiny()
    network.get_parameter(weights).data.mul_(factor).clamp_(-3e38, 3e38)
    said = why(network, precision=precision)
    assert all(name in said for name in names), said


def test_a_module_inside_what_is_compiled() -> None:
    torch._dynamo.reset()
    network = tiny()
    network.get_parameter(f"{BLOCK}.mlp.fc.weight").data.mul_(3e39).clamp_(-3e38, 3e38)
    compile_towers(network, backend="aot_eager")
    network.train()(torch.randn(8, 3, 16, 16), torch.full((8, 7), 63))  # the step itself, compiled
    assert f"the output of {BLOCK}.mlp.fc (float32" in why(network)


def test_between_two_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention divides by nothing between its two layers: neither of them is to blame."""
    network = tiny()
    monkeypatch.setattr("diptych.nets.transformer.attention", lambda *args, **kwargs: attention(*args, **kwargs) / 0)
    assert f"an intermediate result of {BLOCK}.attention before {BLOCK}.attention.out (float32)" in why(network)


def test_the_first_gradient_on_the_way_back() -> None:
    """The loss is fine, and the gradient breaks in the first block: its later layers have theirs."""
    network = tiny()
    network.image.transformer.blocks[0].norm_1.register_full_backward_hook(
        lambda module, grads_in, grads_out: tuple(g if g is None else g * math.inf for g in grads_in)
    )
    said = why(network)
    assert "the gradient of image.norm_pre." in said
    assert "The backward pass overflows" in said


def test_what_does_not_come_again() -> None:
    assert why(tiny()).startswith("In a second run the step is finite")


def test_nothing_stays_on_the_network() -> None:
    network = tiny()
    with pytest.raises(RuntimeError, match="broken"):
        find_non_finite(network, torch.zeros(1, 3, 16, 16), lambda: (_ for _ in ()).throw(RuntimeError("broken")))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    assert not any(p._backward_hooks for p in network.parameters())
