"""The towers: sizes as published, one graph, and the switches that must not change a result."""

import dataclasses
import functools
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from diptych.nets.clip import CLIP, meta_model
from diptych.nets.config import CLIPConfig, ResNetConfig, TextConfig, ViTConfig
from diptych.nets.presets import PRESETS, preset
from diptych.nets.resize import resize_positions, resized
from diptych.nets.transformer import MAX_MATMUL_TOKENS, attention, matmul_attention
from diptych.nets.vision import drop_patches

# Millions of parameters: open_clip's docs/model_profile.csv, columns mparams, image_mparams and text_mparams (the
# published profile of the same architectures; the logit scale is in no column but the first).
PUBLISHED = {
    "RN50": (102.01, 38.32, 63.69),
    "RN101": (119.69, 56.26, 63.43),
    "RN50x4": (178.3, 87.14, 91.16),
    "RN50x16": (290.98, 167.33, 123.65),
    "RN50x64": (623.26, 420.38, 202.88),
    "ViT-B/32": (151.28, 87.85, 63.43),
    "ViT-B/16": (149.62, 86.19, 63.43),
    "ViT-L/14": (427.62, 303.97, 123.65),
    "ViT-L/14@336": (427.94, 304.29, 123.65),
    "ViT-H/14": (986.11, 632.08, 354.03),
    "ViT-g/14": (1366.68, 1012.65, 354.03),
    "ViT-bigG/14": (2539.57, 1844.91, 694.66),
    "SigLIP-B/16": (203.16, 92.88, 110.27),
    "SigLIP-B/16@256": (203.2, 92.93, 110.27),
    "SigLIP-B/16@384": (203.45, 93.18, 110.27),
    "SigLIP-B/16@512": (203.79, 93.52, 110.27),
    "SigLIP-L/16@256": (652.15, 315.96, 336.19),
    "SigLIP-L/16@384": (652.48, 316.28, 336.19),
    "SigLIP-So400m/14": (877.36, 427.68, 449.68),
    "SigLIP-So400m/14@384": (877.96, 428.23, 449.73),
}
TINY = ("vit-tiny", "resnet-tiny", "efficientnet-tiny")


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def tiny(name: str = "vit-tiny", **changes) -> CLIP:
    torch.manual_seed(0)
    return CLIP(dataclasses.replace(preset(name), **changes))


def siglip() -> CLIP:
    image = ViTConfig(32, 8, 64, 2, 2, 256, "gelu_tanh", pool="map", norm_pre=False, patch_bias=True)
    text = TextConfig(12, 1024, 64, 2, 2, 256, "gelu_tanh", pool="last", causal=False, end_id=1, proj_bias=True)
    torch.manual_seed(0)
    return CLIP(CLIPConfig(64, image, text, loss="sigmoid"))


def mean_pooled() -> CLIP:
    torch.manual_seed(0)
    made = preset("vit-tiny")
    return CLIP(dataclasses.replace(made, image=dataclasses.replace(made.image, pool="mean")))


def without_fine_path() -> CLIP:
    """An EfficientNet whose every weight the picture's vector needs."""
    return tiny("efficientnet-tiny", image=dataclasses.replace(preset("efficientnet-tiny").image, fine_width=0))


def inputs(model: CLIP, pictures: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    size = model.config.image.image_size
    ids = torch.randint(1, 1000, (pictures, 12), generator=generator)
    ids[:, -1] = model.config.text.end_id
    return torch.randn(pictures, 3, size, size, generator=generator), ids


@pytest.fixture
def compiler():
    """torch.compile without what it remembers of other tests' towers: it gives up after some shapes of one function."""
    torch._dynamo.reset()
    return functools.partial(torch.compile, fullgraph=True, backend="aot_eager")


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameter_counts(name: str) -> None:
    model = meta_model(preset(name))
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    counts = tuple(round(count(part) / 1e6, 2) for part in (model, model.image, model.text))
    assert counts == pytest.approx(PUBLISHED[name], abs=1e-9)


def test_exact_counts_of_the_two_largest() -> None:
    """The same integers that open_clip_torch 3.3.0 counts for RN50x64 and ViT-bigG-14."""
    assert count(meta_model(preset("RN50x64"))) == 623_258_305
    assert count(meta_model(preset("ViT-bigG/14"))) == 2_539_567_105


def test_unknown_preset_names_the_known() -> None:
    with pytest.raises(
        ValueError, match=r"called 'vit-b-31'; did you mean .*ViT-B/32.*\? `diptych models` lists all 44"
    ):
        preset("vit-b-31")
    with pytest.raises(ValueError, match=r"called 'dog'; `diptych models` lists all"):
        preset("dog")


@pytest.mark.parametrize(
    "make", [lambda: tiny("vit-tiny"), lambda: tiny("resnet-tiny"), lambda: tiny("efficientnet-tiny"), siglip]
)
def test_one_graph(make, compiler) -> None:
    """fullgraph=True raises on any graph break; the traced graph runs eagerly, so that no compiler is needed."""
    model = make().eval()
    pixels, ids = inputs(model)
    compiled = compiler(model)
    for ours, expected in zip(compiled(pixels, ids)[:3], model(pixels, ids)[:3], strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("make", [lambda: tiny("vit-tiny"), lambda: tiny("resnet-tiny"), without_fine_path, siglip])
def test_one_graph_in_training(make, compiler) -> None:
    model = make().train()
    pixels, ids = inputs(model)
    compiler(model)(pixels, ids).image.sum().backward()
    assert all(p.grad is not None for p in model.image.parameters())


def test_one_graph_with_checkpointing_and_patch_dropout(compiler) -> None:
    model = tiny().train()
    model.set_gradient_checkpointing()
    model.image.patch_dropout = 0.5
    compiler(model)(*inputs(model)).image.sum().backward()
    assert all(p.grad is not None for p in model.image.parameters())


@pytest.mark.parametrize(
    "make", [lambda: tiny("vit-tiny"), lambda: tiny("resnet-tiny"), lambda: tiny("efficientnet-tiny"), siglip]
)
def test_bf16_autocast_stays_near_float32(make) -> None:
    model = make().eval()
    pixels, ids = inputs(model)
    exact = model(pixels, ids)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(pixels, ids)
    assert rounded.image.dtype == torch.float32
    for ours, expected in ((rounded.image, exact.image), (rounded.text, exact.text)):
        assert (ours * expected).sum(dim=1).min() > 0.999


def gradients(model: torch.nn.Module, pixels: torch.Tensor, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of the sum of squared similarities of all pairs, by parameter."""
    model.zero_grad()
    image, text = model.encode_image(pixels), model.encode_text(ids)
    (image.to(pixels.dtype) @ text.to(pixels.dtype).T).square().sum().backward()
    return {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}


def assert_same(ours: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == expected.keys()
    for key, gradient in expected.items():
        torch.testing.assert_close(ours[key], gradient, rtol=1e-9, atol=1e-9, msg=key)


@pytest.mark.parametrize("make", [lambda: tiny("vit-tiny"), lambda: tiny("resnet-tiny"), siglip])
def test_bf16_gradients_stay_near_float32(make) -> None:
    torch.manual_seed(0)
    model = make().train()
    pixels, ids = inputs(model, 16)
    exact = gradients(model, pixels, ids)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = gradients(model, pixels, ids)
    for tower in ("image.", "text."):
        ours, expected = (
            torch.cat([g.flatten() for key, g in each.items() if key.startswith(tower)]) for each in (rounded, exact)
        )
        assert torch.cosine_similarity(ours, expected, dim=0) > 0.995


@pytest.mark.parametrize("way", ["all", "causal", "mask"])
def test_plain_attention_is_attention(way: str) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(3, 2, 7, 4, dtype=torch.double, generator=generator) for _ in range(3))
    mask = torch.rand(3, 1, 7, 7, generator=generator) < 0.5
    mask |= torch.eye(7, dtype=torch.bool)
    options = {"causal": way == "causal", "mask": mask if way == "mask" else None}
    results = []
    for way_there in (matmul_attention, attention):
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        out = way_there(*leaves, **options)
        out.square().sum().backward()
        results.append([out, *(leaf.grad for leaf in leaves)])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-14)


def test_only_short_bf16_training_leaves_the_fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory does not grow with the square of the length, and in float32 it is the faster one."""
    fused, calls = F.scaled_dot_product_attention, []
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or fused(*a, **k))
    short, long = (torch.randn(1, 1, n, 4, dtype=torch.bfloat16) for n in (MAX_MATMUL_TOKENS, MAX_MATMUL_TOKENS + 1))
    attention(short, short, short, training=True)
    assert not calls
    attention(long, long, long, training=True)
    attention(short.float(), short.float(), short.float(), training=True)
    attention(short, short, short)
    assert len(calls) == 3


def test_one_token_of_the_last_block_is_that_token() -> None:
    """What the towers compute is what they would read out of all states, and so are the gradients."""

    class Whole(CLIP):
        def encode_image(self, pixels):
            return self.image.proj(self.image.tokens(pixels)[:, 0])

        def encode_text(self, ids):
            at = (ids == self.config.text.end_id).int().argmax(dim=1)
            return self.text.proj(self.text.states(ids)[torch.arange(len(ids)), at])

    model = tiny().double().train()
    pixels, ids = inputs(model)
    ids[0, 3] = ids[1, 5] = model.config.text.end_id
    ours = gradients(model, pixels.double(), ids)
    whole = Whole(model.config).double().train()
    whole.load_state_dict(model.state_dict())
    assert_same(ours, gradients(whole, pixels.double(), ids))


def test_texts_grouped_by_length_are_the_same_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny().double().train()
    pixels, ids = inputs(model, 12)
    for row, end in enumerate([11, 2, 5, 5, 9, 1, 7, 3, 11, 4, 6, 8]):
        ids[row, end] = model.config.text.end_id
        ids[row, end + 1 :] = 0
    expected = gradients(model, pixels.double(), ids)
    whole = model.encode_text(ids)
    lengths = []
    read = model.text._pooled
    monkeypatch.setattr(model.text, "_pooled", lambda ids: lengths.append(tuple(ids.shape)) or read(ids))
    monkeypatch.setattr("diptych.nets.text.LENGTH_BUCKET_SIZE", 5)
    torch.testing.assert_close(model.encode_text(ids), whole, rtol=1e-12, atol=1e-14)
    assert lengths == [(5, 6), (5, 10), (2, 12)]
    assert_same(gradients(model, pixels.double(), ids), expected)


@pytest.mark.parametrize("name", TINY)
def test_gradient_checkpointing_changes_no_gradient(name: str) -> None:
    plain, saving = tiny(name).double(), tiny(name).double()
    saving.set_gradient_checkpointing()
    pixels, ids = inputs(plain)
    for model in (plain, saving):
        output = model.train()(pixels.double(), ids)
        (output.image @ output.text.T).square().sum().backward()
    for (key, ours), expected in zip(saving.named_parameters(), plain.parameters(), strict=True):
        if expected.grad is not None:
            torch.testing.assert_close(ours.grad, expected.grad, rtol=1e-12, atol=1e-14, msg=key)
    for (key, ours), expected in zip(saving.named_buffers(), plain.buffers(), strict=True):
        if "running" in key:  # batch norm saw the batch once, though its layers ran twice
            torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-14, msg=key)


@pytest.mark.parametrize("pool", ["class", "map", "mean"])
def test_patch_dropout_leaves_out_patches_in_training_alone(pool: str) -> None:
    model = tiny(image=dataclasses.replace(preset("vit-tiny").image, pool=pool))
    pixels, _ = inputs(model)
    expected = model.eval().encode_image(pixels)
    model.image.patch_dropout = 0.75
    torch.testing.assert_close(model.encode_image(pixels), expected, rtol=0, atol=0)
    lengths = []
    model.image.transformer.register_forward_pre_hook(lambda _, arguments: lengths.append(arguments[0].shape[1]))
    features = model.train().encode_image(pixels)
    assert lengths == [4 + (pool == "class")]  # of 4 x 4 patches
    assert features.shape == expected.shape
    assert not torch.allclose(features, model.encode_image(pixels))  # drawn anew
    features.sum().backward()
    assert model.image.patch.weight.grad.any()


def test_dropped_patches_are_drawn_evenly_and_for_each_sample() -> None:
    torch.manual_seed(0)
    numbered = torch.arange(9.0).expand(4000, -1)[..., None]
    left = drop_patches(numbered, 0.5, keep_first=1)[..., 0]
    assert left.shape == (4000, 5)
    assert (left[:, 0] == 0).all()
    assert all(len(set(row)) == 5 for row in left.tolist())
    shares = torch.bincount(left.flatten().long(), minlength=9)[1:] / 4000
    torch.testing.assert_close(shares, torch.full((8,), 0.5), rtol=0, atol=0.04)
    assert len({tuple(sorted(row)) for row in left.tolist()}) == 70  # all the ways to take 4 of 8
    assert drop_patches(numbered, 0.99, keep_first=1).shape == (4000, 2, 1)


def test_text_is_causal_and_padding_changes_nothing() -> None:
    model = tiny().eval()
    ids = torch.tensor([[5, 6, 7, model.config.text.end_id]])
    padded = torch.tensor([[5, 6, 7, model.config.text.end_id, 0, 0, 0]])
    torch.testing.assert_close(model.encode_text(ids), model.encode_text(padded))
    later = padded.clone()
    later[0, 5] = 9
    torch.testing.assert_close(model.text.states(padded)[:, :5], model.text.states(later)[:, :5])


def test_siglip_reads_both_ways_and_its_padding() -> None:
    model = siglip().eval()
    ids = torch.tensor([[5, 6, 7, 1, 0, 0]])
    changed = torch.tensor([[5, 6, 7, 1, 0, 2]])
    assert not torch.allclose(model.text.states(ids)[:, 0], model.text.states(changed)[:, 0])
    assert not torch.allclose(model.encode_text(ids), model.encode_text(ids[:, :5]))


def test_openai_argmax_pools_at_the_highest_id() -> None:
    text = dataclasses.replace(preset("vit-tiny").text, pool="argmax")
    model = tiny(text=text).eval()
    end, ids = 900, torch.tensor([[5, 900, 3, 2]])
    assert end == ids.max()
    torch.testing.assert_close(model.encode_text(ids), model.text.proj(model.text.states(ids)[:, 1]))


@pytest.mark.parametrize("name", TINY)
def test_wrong_picture_size_says_both(name: str) -> None:
    model = tiny(name)
    size = model.config.image.image_size
    with pytest.raises(ValueError, match=f"48 x 50.*{size} x {size}"):
        model.encode_image(torch.zeros(1, 3, 48, 50))


def test_too_many_tokens_says_both() -> None:
    with pytest.raises(ValueError, match=r"41 tokens.*reads 40"):
        tiny().encode_text(torch.zeros(1, 41, dtype=torch.long))


def test_logit_scale_is_clamped_under_softmax_alone() -> None:
    clip, sigmoid = tiny(), siglip()
    assert clip.logit_scale.item() == pytest.approx(math.log(1 / 0.07))
    assert (sigmoid.logit_scale.item(), sigmoid.logit_bias.item()) == pytest.approx((math.log(10), -10))
    for model in (clip, sigmoid):
        model.logit_scale.data.fill_(6.0)
        model.clamp_logit_scale()
    assert clip.logit_scale.exp().item() == pytest.approx(100, rel=1e-6)
    assert sigmoid.logit_scale.item() == 6.0


def test_openai_initialisation() -> None:
    """Standard deviations of Radford et al.'s release, for a text tower of width w and L layers, and the ResNet."""
    torch.manual_seed(0)
    text = TextConfig(width=256, layers=4, heads=4, mlp_width=1024)
    model = CLIP(CLIPConfig(128, ResNetConfig(64, (1, 1, 1, 1), 16, 8), text))
    block = model.text.transformer.blocks[0]
    expected = {
        model.text.token.weight: 0.02,
        model.text.positions: 0.01,
        block.attention.qkv.weight: 256**-0.5,
        block.attention.out.weight: 256**-0.5 * 8**-0.5,
        block.mlp.proj.weight: 256**-0.5 * 8**-0.5,
        block.mlp.fc.weight: 512**-0.5,
        model.text.proj.weight: 256**-0.5,
        model.image.pool.q.weight: 512**-0.5,
        model.image.pool.out.weight: 512**-0.5,
    }
    for tensor, std in expected.items():
        assert tensor.std().item() == pytest.approx(std, rel=0.05)
    assert all(not block.bn3.weight.any() for stage in model.image.stages for block in stage)


def test_resize_positions_keeps_a_linear_ramp() -> None:
    """Bicubic interpolation reproduces a linear function away from the border, and leaves the class token alone."""
    rows = torch.arange(8.0).repeat_interleave(8)[:, None]
    positions = torch.cat([torch.tensor([[99.0]]), rows])
    bigger = resize_positions(positions, 8, 16)
    assert bigger.shape == (257, 1)
    assert bigger[0] == 99
    grid = bigger[1:].reshape(16, 16)
    torch.testing.assert_close(grid[4:12, 3], (torch.arange(4, 12) + 0.5) / 2 - 0.5)
    assert resize_positions(positions, 8, 8) is positions
    with pytest.raises(ValueError, match="65 positions are no 5 x 5 grid"):
        resize_positions(positions, 5, 6)


@pytest.mark.parametrize("name", TINY)
def test_resized_model_runs_at_its_new_size(name: str) -> None:
    model = tiny(name)
    size = 2 * model.config.image.image_size
    config, state = resized(model.config, model.state_dict(), size)
    bigger = CLIP(config)
    bigger.load_state_dict(state)
    assert bigger.eval().encode_image(torch.zeros(2, 3, size, size)).shape == (2, 64)


def test_a_finer_map_of_the_same_weights() -> None:
    model = tiny("resnet-tiny")
    config, state = resized(model.config, model.state_dict(), None, 16)
    finer = CLIP(config)
    finer.load_state_dict(state)
    vector, places = finer.eval().encode_patches(torch.zeros(2, 3, 64, 64))
    assert (vector.shape, places.shape) == ((2, 64), (2, 16, 64))
    with pytest.raises(ValueError, match="stride is a ResNet's"):
        resized(tiny().config, tiny().state_dict(), None, 16)
    with pytest.raises(ValueError, match="stride is 8 px"):
        ResNetConfig(stride=8)


@pytest.mark.parametrize("make", [lambda: tiny("vit-tiny"), lambda: tiny("resnet-tiny"), siglip, mean_pooled])
def test_places_come_with_the_same_vector(make: Callable[[], CLIP]) -> None:
    model = make().eval()
    pixels, _ = inputs(model)
    vector, places = model.encode_patches(pixels)
    torch.testing.assert_close(vector, model.encode_image(pixels))
    assert places.shape == (len(pixels), model.config.image.grid**2, model.config.embed_dim)


def test_a_mean_is_that_of_its_places() -> None:
    model = mean_pooled().eval()
    vector, places = model.encode_patches(inputs(model)[0])
    torch.testing.assert_close(places.mean(dim=1), vector)


def test_even_attention_pools_the_mean_of_the_places() -> None:
    """With keys of nothing every token counts alike: the places, and the mean of the map."""
    pool = tiny("resnet-tiny").image.pool
    with torch.no_grad():
        pool.k.weight.zero_()
        pool.positions[0] = pool.positions[1:].mean(dim=0)
        vector, places = pool.with_patches(torch.randn(3, pool.q.in_features, 2, 2))
    torch.testing.assert_close(vector, places.mean(dim=1))


def test_a_probe_that_sees_one_patch() -> None:
    head = siglip().image.head.eval()
    tokens = torch.randn(3, 1, head.probe.shape[-1])
    torch.testing.assert_close(head.patch_embeddings(tokens)[:, 0], head(tokens))


def test_unknown_choices_fail_by_name() -> None:
    with pytest.raises(ValueError, match="swish"):
        ViTConfig(activation="swish")
    with pytest.raises(ValueError, match="first"):
        TextConfig(pool="first")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="hinge"):
        CLIPConfig(loss="hinge")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="depth"):
        ViTConfig(depth=3)  # type: ignore[call-arg]


def test_every_preset_is_there() -> None:
    assert {"RN50x64", "ViT-L/14@336", "ViT-bigG/14", "SigLIP-So400m/14@384", "SigLIP2-So400m/16@512"} <= set(PRESETS)


def test_the_old_name_of_encode_patches() -> None:
    model, pixels = tiny("vit-tiny").eval(), torch.zeros(1, 3, 32, 32)
    with pytest.warns(DeprecationWarning, match="encode_places is now encode_patches"):
        found = model.encode_places(pixels)
    assert torch.equal(found[1], model.encode_patches(pixels)[1])
