"""The tensors of a network, worked out without PyTorch, are those that the network has."""

from dataclasses import replace

import pytest

from diptych.nets.clip import meta_model
from diptych.nets.config import CLIPConfig, ResNetConfig
from diptych.nets.presets import PRESETS
from diptych.nets.shapes import COUNTER, parameter_count, shapes
from tests.checkpoint.test_checkpoint import varied


def assert_as_the_network(config: CLIPConfig) -> None:
    state = meta_model(config).state_dict()
    assert shapes(config) == {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert {name for name, tensor in state.items() if not tensor.is_floating_point()} == {
        name for name in state if name.endswith(COUNTER)
    }
    assert parameter_count(config) == sum(each.numel() for each in meta_model(config).parameters())


@pytest.mark.parametrize("name", PRESETS)
def test_as_the_network_has_them(name: str) -> None:
    assert_as_the_network(PRESETS[name])


@pytest.mark.parametrize(
    "config",
    [
        varied(image__pool="mean", image__patch_bias=True),
        varied(image__norm_pre=False, image__image_size=20, image__patch_size=8),
        varied(text__proj_bias=True, loss="sigmoid"),
        varied(text__pool="mean", text__causal=False, text__norm_position="post"),
        varied(text__pool="mean", text__causal=False),
        replace(varied(), image=ResNetConfig(64, (1, 2, 1, 1), 10, heads=5, stride=16), embed_dim=24),
    ],
)
def test_in_every_form(config: CLIPConfig) -> None:
    assert_as_the_network(config)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (varied(image__heads=5), "64 does not divide into 5 heads"),
        (varied(image__pool="map", embed_dim=9), "the embedding is 64 wide, as the tower; embed_dim is 9"),
        (varied(image__width="64"), "image.width='64'; wanted whole numbers"),
        (varied(text__layers=0), "text.layers=0; wanted whole numbers, 1 or more"),
        (varied(text__vocab_size=True), "text.vocab_size=True; wanted"),
        (varied(text__norm_eps=float("nan")), "text.norm_eps=nan; wanted a number"),
        (varied(text__causal=0), "text.causal=0; wanted true or false"),
        (varied(text__proj_bias="no"), "text.proj_bias='no'; wanted true or false"),
        (varied(image__norm_pre=None), "image.norm_pre=None; wanted true or false"),
        (varied(text__pad_id=None), "text.pad_id=None; wanted the id of a token"),
        (varied(text__pad_id=-1), "text.pad_id=-1; wanted the id of a token"),
        (varied(text__pad_id=10**30), "text.pad_id=10+; wanted the id of a token"),
        (varied(text__end_id=1.5), "text.end_id=1.5; wanted the id of a token"),
        (varied(image__norm_eps="1e-5"), "image.norm_eps='1e-5'; wanted a number"),
        (replace(varied(), image=ResNetConfig(64, (1, 1, 1, 1), 8, heads=7)), "channels do not divide into 7 heads"),
        (replace(varied(), image=ResNetConfig(64, (1, 0, 1, 1), 8, heads=4)), r"image.layers=\(1, 0, 1, 1\)"),
    ],
)
def test_numbers_that_make_no_network(config: CLIPConfig, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        shapes(config)
