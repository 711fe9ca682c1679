"""The text tower that averages its tokens: padding changes nothing, in training as in use."""

import dataclasses

import pytest
import torch
from torch import Tensor

from diptych.nets.clip import CLIP
from diptych.nets.config import TextConfig
from diptych.nets.presets import preset
from diptych.nets.text import LENGTH_BUCKET_SIZE, TextTransformer

PAD, END = 0, 3
CONFIG = TextConfig(
    24, 60, 32, 2, 4, 48, pool="mean", causal=False, end_id=END, pad_id=PAD, norm_eps=1e-12, norm_position="post"
)


def tower(**changes) -> TextTransformer:
    torch.manual_seed(0)
    return TextTransformer(dataclasses.replace(CONFIG, **changes), 16)


def texts(count: int = 6, context: int = 24) -> Tensor:
    """Ids of texts of all lengths, the longest as long as the context."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(4, 60, (count, context), generator=generator)
    lengths = torch.randint(3, context + 1, (count,), generator=generator)
    lengths[0] = context
    ids[torch.arange(count), lengths - 1] = END
    return ids.masked_fill(torch.arange(context) >= lengths[:, None], PAD)


def alone(net: TextTransformer, ids: Tensor) -> Tensor:
    """Each text's vector without any padding."""
    return torch.cat([net(row[row != PAD][None]) for row in ids])


@pytest.mark.parametrize("norm_position", ["pre", "post"])
@torch.no_grad()
def test_padding_changes_nothing(norm_position: str) -> None:
    net, ids = tower(norm_position=norm_position).eval(), texts()
    torch.testing.assert_close(net(ids), alone(net, ids), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_states_are_those_of_the_text_alone() -> None:
    net, ids = tower().eval(), texts()
    row = ids[1][ids[1] != PAD]
    torch.testing.assert_close(net.states(ids)[1, : len(row)], net.states(row[None])[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_training_by_length_gives_the_same_vectors_and_gradients(precision: torch.dtype) -> None:
    ids = texts(LENGTH_BUCKET_SIZE + 9)
    tolerance = 1e-5 if precision == torch.float32 else 0.1
    gradients = []
    for net in (tower().train(), tower().eval()):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            vectors = net(ids)
        vectors.float().square().sum().backward()
        gradients.append([vectors, *(parameter.grad for parameter in net.parameters())])
    for bucketed, whole in zip(*gradients, strict=True):
        assert (bucketed - whole).norm() <= tolerance * whole.norm() + 1e-6


def test_a_text_of_padding_alone_has_a_vector_and_a_gradient() -> None:
    net = tower()
    net(torch.full((2, 5), PAD)).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in net.parameters())


def test_recomputed_activations_give_the_same_gradients() -> None:
    model = CLIP(dataclasses.replace(preset("vit-tiny"), text=CONFIG)).train()
    gradients = []
    for on in (False, True):
        model.set_gradient_checkpointing(on)
        model.zero_grad()
        model.encode_text(texts()).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.text.parameters()])
    for stored, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, stored)


def test_dropout_acts_in_training_alone() -> None:
    net, ids = tower(), texts()
    for block in net.transformer.blocks:
        block.dropout = 0.5
    assert not torch.equal(net(ids), net(ids))
    net.eval()
    assert torch.equal(net(ids), net(ids))


def test_one_graph() -> None:
    """fullgraph=True raises on any graph break."""
    torch._dynamo.reset()
    net, ids = tower().eval(), texts()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(ids), net(ids))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"norm_position": "middle"}, "norm_position 'middle' is not known; choose pre or post"),
        ({"pool": "max"}, "pool 'max' is not known; choose end, argmax, last or mean"),
        ({"causal": True}, "pool='mean' averages what every token sees"),
    ],
)
def test_a_form_that_does_not_exist(changes: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(CONFIG, **changes)
