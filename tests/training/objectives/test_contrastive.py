"""Both losses against open_clip's, in float64, and against the plain computation: values, and gradients with respect to
all that goes in."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from diptych.training.objectives.contrastive import LocalRows, RunningLogSumExp, sigmoid_loss, softmax_loss
from diptych.training.objectives.positives import GroupedPositives

GOLDEN = load_file(Path(__file__).parents[2] / "golden" / "loss.safetensors")
INPUTS = {softmax_loss: ("image", "text", "scale"), sigmoid_loss: ("image", "text", "scale", "bias")}
both = pytest.mark.parametrize("loss", list(INPUTS), ids=["softmax", "sigmoid"])


def plain_softmax(image: Tensor, text: Tensor, scale: Tensor, matches: Tensor) -> Tensor:
    """With the whole matrix, as a textbook has it."""
    logits, halves = scale * image @ text.T, []
    for scores, target in ((logits, matches.to(logits.dtype)), (logits.T, matches.T.to(logits.dtype))):
        some = target.sum(1) > 0
        halves.append(F.cross_entropy(scores[some], F.normalize(target[some], p=1, dim=1)))
    return sum(halves) / 2  # type: ignore[return-value]


def plain_sigmoid(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, matches: Tensor) -> Tensor:
    signs = 2 * matches.to(image.dtype) - 1
    return -F.logsigmoid(signs * (scale * image @ text.T + bias)).sum() / len(image)


PLAIN = {softmax_loss: plain_softmax, sigmoid_loss: plain_sigmoid}


def made(pictures: int, texts: int, seed: int, scale: float = 10.0, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Unit vectors, a scale and a bias."""
    rng = torch.Generator().manual_seed(seed)
    vectors = [F.normalize(torch.randn(n, 8, generator=rng, dtype=torch.float64), dim=1) for n in (pictures, texts)]
    return [x.to(dtype) for x in (*vectors, torch.tensor(scale), torch.tensor(-3.0))]


def value_and_gradients(loss: Callable[..., Tensor], inputs: list[Tensor], *rest, **named) -> list[Tensor]:
    leaves = [x.clone().requires_grad_() for x in inputs]
    value = loss(*leaves, *rest, **named)
    return [value.detach(), *torch.autograd.grad(value, leaves)]


@both
def test_values_and_gradients_are_the_reference_s(loss: Callable[..., Tensor]) -> None:
    name, inputs = loss.__name__.removesuffix("_loss"), INPUTS[loss]
    value, *gradients = value_and_gradients(loss, [GOLDEN[key] for key in inputs])
    torch.testing.assert_close(value, GOLDEN[f"{name}_loss"], rtol=0, atol=1e-9)
    for key, gradient in zip(inputs, gradients, strict=True):
        torch.testing.assert_close(gradient, GOLDEN[f"{name}_grad_{key}"], rtol=0, atol=1e-9)


@both
@given(pictures=st.integers(1, 9), texts=st.integers(1, 9), tile=st.integers(1, 10), data=st.data())
def test_any_tile_and_any_pairs_equal_the_plain_computation(
    loss: Callable[..., Tensor], pictures: int, texts: int, tile: int, data: st.DataObject
) -> None:
    cells = st.tuples(st.integers(0, pictures - 1), st.integers(0, texts - 1))
    cells = data.draw(st.lists(cells, min_size=1, unique=True))
    rows, columns = torch.tensor(cells).T
    matches = torch.zeros(pictures, texts, dtype=torch.bool)
    matches[rows, columns] = True
    inputs = made(pictures, texts, len(cells))[: len(INPUTS[loss])]
    ours = value_and_gradients(loss, inputs, pairs=(rows, columns), tile=tile)
    for a, b in zip(ours, value_and_gradients(PLAIN[loss], inputs, matches), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@both
@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0, 1000.0])
def test_float32_equals_the_plain_computation_at_every_temperature(loss: Callable[..., Tensor], scale: float) -> None:
    """Also where a row's best logit lies 100 and more under the bound: nothing vanishes, nothing overflows."""
    inputs = made(300, 300, 0, scale, torch.float32)[: len(INPUTS[loss])]
    ours = value_and_gradients(loss, inputs, tile=64)
    exact = value_and_gradients(PLAIN[loss], [x.double() for x in inputs], torch.eye(300))
    plain = value_and_gradients(PLAIN[loss], inputs, torch.eye(300))
    for a, b, c in zip(ours, exact, plain, strict=True):
        assert a.dtype == torch.float32
        error, theirs = (a - b).norm() / b.norm(), (c - b).norm() / b.norm()
        assert error <= max(1e-6, 2 * theirs)  # at 1000 float32 itself has but 1e-5 left
    assert scale > 100 or (ours[0] - exact[0]).abs() <= 1e-6 * exact[0].abs()


@both
def test_shares_of_parts_add_up(loss: Callable[..., Tensor]) -> None:
    """As processes freeze them: 3, 0 and 4 pictures, and all texts."""
    inputs = made(7, 9, 1)[: len(INPUTS[loss])]
    pairs = torch.tensor([0, 1, 1, 4, 6]), torch.tensor([2, 0, 2, 8, 5])
    whole = value_and_gradients(loss, inputs, pairs=pairs)
    columns = RunningLogSumExp(torch.zeros(9).double(), (inputs[2] * inputs[0] @ inputs[1].T).exp().sum(0))
    total = [torch.zeros_like(x) for x in whole]
    for rows in (slice(0, 3), slice(3, 3), slice(3, 7)):
        local_rows = LocalRows(rows.start, 7, lambda _: columns)
        share = value_and_gradients(loss, [inputs[0][rows], *inputs[1:]], pairs=pairs, local_rows=local_rows, tile=2)
        total[1][rows] += share.pop(1)
        for into, value in zip([total[0], *total[2:]], share, strict=True):
            into += value
    torch.testing.assert_close(total, whole, rtol=1e-12, atol=1e-12)


def test_several_captions_share_a_picture_s_target() -> None:
    """Worked by hand: orthogonalise vectors, two captions of the first picture, one of the second."""
    image, text = torch.eye(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)[[0, 0, 1]]
    pairs = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 2])
    e = torch.tensor(1.0, dtype=torch.float64).exp()
    rows = ((2 * e + 1).log() - 1 + (2 + e).log() - 1) / 2
    columns = (e + 1).log() - 1
    torch.testing.assert_close(softmax_loss(image, text, torch.tensor(1.0), pairs=pairs), (rows + columns) / 2)


def test_the_whole_matrix_is_never_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 600 x 600 no tensor is larger than a tile of 50 rows."""
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if isinstance(result, Tensor):
                largest = max(largest, result.numel())
            return result

    everything = GroupedPositives.of(*torch.zeros(3, 600, dtype=torch.long))  # 600 pictures of one class
    with Watch():
        for loss in INPUTS:
            value_and_gradients(loss, made(600, 600, 2)[: len(INPUTS[loss])], tile=50)
            value_and_gradients(loss, made(600, 600, 2)[: len(INPUTS[loss])], tile=50, pairs=everything)
    assert largest == 50 * 600


@both
def test_float32_under_autocast(loss: Callable[..., Tensor]) -> None:
    inputs = made(40, 40, 3, dtype=torch.float32)[: len(INPUTS[loss])]
    with torch.autocast("cpu", torch.bfloat16):
        under = value_and_gradients(loss, inputs)
    torch.testing.assert_close(under, value_and_gradients(loss, inputs), rtol=0, atol=0)


@both
def test_half_precision_features_are_worked_on_in_float32(loss: Callable[..., Tensor]) -> None:
    inputs = made(40, 40, 4, dtype=torch.bfloat16)[: len(INPUTS[loss])]
    value, image, *_ = value_and_gradients(loss, inputs)
    assert (value.dtype, image.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(value, loss(*(x.float() for x in inputs)))


def test_what_does_not_fit_is_refused() -> None:
    image, text, scale = torch.eye(3), torch.eye(3)[:2], torch.tensor(1.0)
    for loss in (softmax_loss, lambda *a, **k: sigmoid_loss(*a, torch.tensor(0.0), **k)):
        with pytest.raises(ValueError, match="3 pictures and 2 texts"):
            loss(image, text, scale)
        with pytest.raises(ValueError, match="names texts 2 to 2; there are 2"):
            loss(image, text, scale, pairs=(torch.tensor([0]), torch.tensor([2])))
        with pytest.raises(ValueError, match="pairs is empty"):
            loss(image, text, scale, pairs=(torch.tensor([], dtype=torch.long),) * 2)
