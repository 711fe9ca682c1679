"""Both losses against open_clip's, in float64: values, and gradients with respect to all that goes in."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from diptych.nets.loss import sigmoid_loss, softmax_loss

GOLDEN = load_file(Path(__file__).parent / "golden" / "loss.safetensors")


@pytest.mark.parametrize(
    ("loss", "name", "inputs"),
    [
        (softmax_loss, "softmax", ("image", "text", "scale")),
        (sigmoid_loss, "sigmoid", ("image", "text", "scale", "bias")),
    ],
)
def test_values_and_gradients_are_the_reference_s(
    loss: Callable[..., Tensor], name: str, inputs: tuple[str, ...]
) -> None:
    leaves = [GOLDEN[key].clone().requires_grad_() for key in inputs]
    value = loss(*leaves)
    value.backward()
    torch.testing.assert_close(value.detach(), GOLDEN[f"{name}_loss"], rtol=0, atol=1e-9)
    for key, leaf in zip(inputs, leaves, strict=True):
        assert leaf.grad is not None
        torch.testing.assert_close(leaf.grad, GOLDEN[f"{name}_grad_{key}"], rtol=0, atol=1e-9)


def test_one_match_a_row_is_the_loss_of_pairs() -> None:
    image, text, scale, bias = (GOLDEN[key] for key in ("image", "text", "scale", "bias"))
    pairs = torch.eye(len(image), dtype=torch.bool)
    torch.testing.assert_close(softmax_loss(image, text, scale, matches=pairs), GOLDEN["softmax_loss"])
    torch.testing.assert_close(sigmoid_loss(image, text, scale, bias, matches=pairs), GOLDEN["sigmoid_loss"])


def test_several_captions_share_a_picture_s_target() -> None:
    """Worked by hand: orthogonal vectors, two captions of the first picture, one of the second."""
    image, text = torch.eye(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)[[0, 0, 1]]
    matches = torch.tensor([[True, True, False], [False, False, True]])
    e = torch.tensor(1.0, dtype=torch.float64).exp()
    rows = ((2 * e + 1).log() - 1 + (2 + e).log() - 1) / 2
    columns = (e + 1).log() - 1
    torch.testing.assert_close(softmax_loss(image, text, torch.tensor(1.0), matches=matches), (rows + columns) / 2)


def test_a_row_without_a_match_is_left_out() -> None:
    image, text, scale = GOLDEN["image"], GOLDEN["text"], GOLDEN["scale"]
    matches = torch.eye(len(image), dtype=torch.bool)
    matches[3, 3] = False
    assert softmax_loss(image, text, scale, matches=matches).isfinite()


@pytest.mark.parametrize("loss", [softmax_loss, lambda i, t, s: sigmoid_loss(i, t, s, torch.tensor(0.0))])
def test_uneven_pairs_are_refused(loss: Callable[..., Tensor]) -> None:
    with pytest.raises(ValueError, match="3 pictures and 2 texts"):
        loss(torch.eye(3), torch.eye(3)[:2], torch.tensor(1.0))
