"""LoRA: nothing changes at the start, only the detours learn, and merged away nobody can tell."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from diptych.checkpoint import read, save_folder
from diptych.media.preprocessing import Preprocess
from diptych.nets.clip import CLIP
from diptych.nets.config import TextConfig, ViTConfig
from diptych.nets.presets import preset
from diptych.training.finetuning.freezing import lock_image, parameter_groups
from diptych.training.finetuning.lora import PLAIN, add, merge, merged_state
from tests.training.finetuning.test_freezing import changed, kept, pairs, towers, train_a_little


def siglip() -> CLIP:
    torch.manual_seed(0)
    image = ViTConfig(32, 8, 64, 2, 2, 256, "gelu_tanh", pool="map", norm_pre=False, patch_bias=True)
    text = TextConfig(16, 700, 64, 2, 2, 256, "gelu_tanh", "last", causal=False, end_id=1, pad_id=1, proj_bias=True)
    return CLIP(replace(preset("vit-tiny"), image=image, text=text, loss="sigmoid"))


MAKERS = {"vit": lambda: towers("vit-tiny"), "resnet": lambda: towers("resnet-tiny"), "siglip": siglip}
each_tower = pytest.mark.parametrize("network", [pytest.param(make, id=name) for name, make in MAKERS.items()])


def vectors(network: CLIP) -> Tensor:
    torch.manual_seed(2)
    with torch.no_grad():
        output = network.eval()(*pairs(network))
    return torch.cat([output.image, output.text])


def adapted(network: CLIP) -> list[str]:
    return [name for name, module in network.named_modules() if type(module) in PLAIN]


def test_layers_by_hand() -> None:
    network = towers("vit-tiny")
    add(network, 4, 8)
    linears = ("attention.qkv", "attention.out", "mlp.fc", "mlp.proj")
    blocks = [f"{tower}.transformer.blocks.{block}" for tower in ("image", "text") for block in (0, 1)]
    assert adapted(network) == [f"{block}.{linear}" for block in blocks for linear in linears]
    network = towers("resnet-tiny")
    add(network, 4, 8)
    image = [name for name in adapted(network) if name.startswith("image.")]
    stage = ("conv1", "conv2", "conv3", "downsample.conv")
    wanted = [f"image.stages.{s}.0.{layer}" for s in range(4) for layer in stage]
    assert image == [*wanted, *(f"image.pool.{letter}" for letter in ("q", "k", "v", "out"))]
    network = siglip()
    add(network, 4, 8)
    heads = [name for name in adapted(network) if ".head." in name]
    assert heads == ["image.head.attention.out", "image.head.mlp.fc", "image.head.mlp.proj"]


@each_tower
def test_it_starts_as_the_model_that_it_was_to_the_bit(network) -> None:
    """Beside the same weights frozen: torch chooses another kernel, in the last bit, by whether a weight learns."""
    network = network()
    before = vectors(copy.deepcopy(network).requires_grad_(False))
    add(network, 4, 8)
    assert torch.equal(vectors(network), before)


@each_tower
def test_the_adapters_alone_learn(network) -> None:
    """And all of them do; batch norm's statistics stay, too."""
    network = network()
    add(network, 4, 8)
    before = kept(network)
    trainable = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    scalars = {"logit_scale"} | ({"logit_bias"} if network.logit_bias is not None else set())
    assert trainable == scalars | {f"{name}.{part}" for name in adapted(network) for part in ("down", "up")}
    losses = train_a_little(network)
    assert losses[-1] < losses[0]
    assert changed(network, before) == trainable - ({"logit_bias"} & trainable)  # this loss has no bias
    assert all(p.grad is None for name, p in network.named_parameters() if name not in trainable)


@each_tower
def test_merged_it_is_an_ordinary_model_with_the_same_vectors(network) -> None:
    network = network()
    names, kinds = list(network.state_dict()), [type(module) for module in network.modules()]
    start = vectors(network)
    add(network, 4, 8)
    train_a_little(network)
    learnt, before = vectors(network), kept(network)
    assert (learnt - start).abs().max() > 1e-3
    merged = merge(copy.deepcopy(network))
    assert list(merged.state_dict()) == names
    assert [type(module) for module in merged.modules()] == kinds
    torch.testing.assert_close(vectors(merged), learnt, rtol=0, atol=1e-5)
    assert not changed(network, before)  # the one that goes on training
    assert train_a_little(network)


def test_what_is_added_by_hand() -> None:
    """W + alpha / rank * up @ down, for a linear layer and a 3 x 3 convolution."""
    network = towers("resnet-tiny")
    before = kept(network)
    add(network, 2, 6.0)
    layers = {name: module for name, module in network.named_modules() if type(module) in PLAIN}
    for layer in layers.values():
        nn.init.normal_(layer.up)
    merged = merged_state(network.state_dict())
    for name in ("text.transformer.blocks.0.mlp.fc", "image.stages.1.0.conv2"):
        layer = layers[name]
        wanted = before[f"{name}.weight"].flatten(1) + 3.0 * layer.up @ layer.down
        torch.testing.assert_close(merged[f"{name}.weight"].flatten(1), wanted)
    pixels = torch.randn(2, *layer.weight.shape[1:2], 5, 5)
    plain = nn.functional.conv2d(pixels, merged["image.stages.1.0.conv2.weight"], None, padding=1)
    torch.testing.assert_close(layer(pixels), plain, rtol=1e-5, atol=1e-5)


def test_merging_without_adapters_changes_nothing() -> None:
    network = towers()
    before = kept(network)
    assert not changed(merge(network), before)


@each_tower
def test_a_run_is_taken_up_from_its_state(network) -> None:
    first, second = network(), network()
    for each in (first, second):
        add(each, 4, 8)
    train_a_little(first)
    assert not torch.equal(vectors(second), vectors(first))
    second.load_state_dict(first.state_dict())
    assert torch.equal(vectors(second), vectors(first))


def test_a_locked_tower_gets_no_adapters() -> None:
    network = towers()
    lock_image(network)
    add(network, 4, 8)
    assert all(name.startswith("text.") for name in adapted(network))
    network.text.requires_grad_(False)
    network = merge(network)
    with pytest.raises(ValueError, match="nothing to adapt"):
        add(network, 4, 8)


@pytest.mark.parametrize(("rank", "alpha"), [(0, 8), (-1, 8), (4, 0)])
def test_wrong_ranks(rank: int, alpha: float) -> None:
    with pytest.raises(ValueError, match=f"rank {rank} and alpha {alpha}"):
        add(towers(), rank, alpha)


def test_adapters_are_not_added_twice() -> None:
    network = towers()
    add(network, 4, 8)
    with pytest.raises(ValueError, match="merge them first"):
        add(network, 4, 8)


def test_adapters_have_their_layers_rate() -> None:
    network = towers()
    add(network, 4, 8)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = parameter_groups(network, weight_decay=0.1, layer_decay=0.5)
    scales = {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]}
    assert scales["image.transformer.blocks.1.mlp.fc.down"] == 0.5
    assert scales["text.transformer.blocks.0.attention.qkv.up"] == 0.25


def test_in_bfloat16_too_it_starts_as_it_was() -> None:
    network = towers()
    with torch.autocast("cpu", torch.bfloat16):
        before = vectors(copy.deepcopy(network).requires_grad_(False))
        add(network, 4, 8)
        assert torch.equal(vectors(network), before)


def test_transformers_opens_what_was_merged(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    transformers.logging.set_verbosity_error()
    network = towers()
    add(network, 4, 8)
    train_a_little(network)
    state = merged_state(network.state_dict())
    spec = Preprocess(size_px=32).to_hugging_face()
    folder = save_folder(tmp_path / "model", (network.config, state), tokenizer_json=None, preprocess=spec)
    assert read(folder).state.keys() == state.keys()
    model, report = transformers.CLIPModel.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    torch.manual_seed(2)
    pixels, ids = pairs(network)
    with torch.no_grad():
        theirs = model.eval()(input_ids=ids, pixel_values=pixels)
    torch.testing.assert_close(
        torch.cat([theirs.image_embeds, theirs.text_embeds]), vectors(network), rtol=0, atol=1e-5
    )
