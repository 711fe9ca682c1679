"""The denoiser's graph, the words' states and the drawing are those of PyTorch and diffusers, without them."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from diptych.checkpoint import read
from diptych.checkpoint.formats.text_tower import TextTower
from diptych.errors import ArgumentError, CheckpointError, TokenizerError
from diptych.generation.noise import noise_of
from diptych.generation.openvino.denoiser import _chunks, waves
from diptych.generation.openvino.pipeline import OpenVINOPipeline, read_pipeline
from diptych.generation.openvino.settings import sizes_of

PROMPTS = ["a red circle", "", "a large blue star above a small red square"]
UNET = Path("unet") / "config.json"
WEIGHTS = Path("unet") / "diffusion_pytorch_model.safetensors"


class Trained(NamedTuple):
    """A generator's folder and its parts in PyTorch."""

    folder: Path
    network: Any
    words: TextTower


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Norms and biases are random as well, so that none can be left out unseen; two layers to a block, an attending
    block at 8 and 4 px."""
    diffusers = pytest.importorskip("diffusers")
    from diptych.generation.folder import write_generator

    checkpoint = read(tiny_model)
    state = {name: tensor for name, tensor in checkpoint.state.items() if name.startswith("text.")}
    assert checkpoint.tokenizer_json is not None
    words = TextTower(checkpoint.config.text, state, checkpoint.tokenizer_json, checkpoint.text_preprocessing)
    torch.manual_seed(0)
    network = diffusers.UNet2DConditionModel(
        sample_size=16, in_channels=3, out_channels=3, block_out_channels=(16, 24, 32), layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), norm_num_groups=8,
        cross_attention_dim=words.config.width, attention_head_dim=(1, 3, 2),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter += 0.3 * torch.randn_like(parameter)
    schedule = diffusers.DDIMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", timestep_spacing="trailing"
    )
    folder = write_generator(tmp_path_factory.mktemp("generator") / "plain", network, schedule, words)
    return Trained(folder, network.eval(), words)


@pytest.fixture(scope="module")
def pipeline(trained: Trained) -> OpenVINOPipeline:
    return read_pipeline(trained.folder)


@pytest.fixture
def copy(trained: Trained, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained.folder, tmp_path / "copy"))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@torch.inference_mode()
def by_torch(trained: Trained, noisy: np.ndarray, level: int, prompts: list[str]) -> np.ndarray:
    tokens = trained.words.tokenizer()(prompts, fill_context=True)
    states = trained.words.network().states(torch.from_numpy(tokens.ids))
    mask = torch.from_numpy(tokens.mask)
    network = trained.network
    return network(torch.from_numpy(noisy), level, states, encoder_attention_mask=mask).sample.numpy()


def test_states_are_those_of_the_network(trained: Trained, pipeline: OpenVINOPipeline) -> None:
    tokens = trained.words.tokenizer()(PROMPTS, fill_context=True)
    with torch.inference_mode():
        expected = trained.words.network().states(torch.from_numpy(tokens.ids)).numpy()
    found = pipeline.read([*PROMPTS, PROMPTS[0]])
    assert np.abs(found.states[:3] - expected).max() < 1e-5
    assert np.array_equal(found.is_text[:3], tokens.mask)
    assert np.array_equal(found.states[3], found.states[0])


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_predictions_are_those_of_diffusers(trained: Trained, pipeline: OpenVINOPipeline, guidance: float) -> None:
    """Three pictures are two inferences: of two, and of one."""
    noisy, levels = noise_of([0, 1, 2], 16), np.array([999, 3])
    without = pipeline.read([""] * 3) if guidance > 1 else None
    predict = pipeline.denoiser.predictor(pipeline.read(PROMPTS), without, guidance, levels)
    for number, level in enumerate(levels.tolist()):
        expected = by_torch(trained, noisy, level, PROMPTS)
        if without is not None:
            unguided = by_torch(trained, noisy, level, [""] * 3)
            expected = unguided + guidance * (expected - unguided)
        assert np.abs(predict(noisy, number) - expected).max() < 1e-4
    assert np.abs(expected).max() > 0.1


def test_a_large_mean_loses_no_digits(trained: Trained, copy: Path) -> None:
    """A bias of a thousand in front of a group norm, whose variance is then a millionth of the mean's square."""
    arrays = load_file(copy / WEIGHTS)
    arrays["conv_in.bias"] = arrays["conv_in.bias"] + np.float32(1000)
    save_file(arrays, copy / WEIGHTS, metadata={"format": "pt"})
    moved = read_pipeline(copy)
    network = type(trained.network).from_config(trained.network.config)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    noisy = noise_of([0], 16)
    found = moved.denoiser.predictor(moved.read(PROMPTS[:1]), None, 1, np.array([500]))(noisy, 0)
    expected = by_torch(trained._replace(network=network.eval()), noisy, 500, PROMPTS[:1])
    assert np.abs(found - expected).max() < 5e-3 * np.abs(expected).max()


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("shift", [0, 1])
def test_waves_are_those_of_diffusers(trained: Trained, flip: bool, shift: int) -> None:
    from diffusers.models.embeddings import get_timestep_embedding

    config = json.loads((trained.folder / UNET).read_text()) | {"flip_sin_to_cos": flip, "freq_shift": shift}
    levels = np.array([0, 1, 500, 999])
    expected = get_timestep_embedding(torch.from_numpy(levels), 16, flip, shift)
    assert np.abs(waves(levels, sizes_of(config, "x")) - expected.numpy()).max() < 1e-4


def test_a_picture_is_the_same_in_any_company(pipeline: OpenVINOPipeline) -> None:
    seen = list[tuple[int, int]]()
    both = pipeline.draw(["a red circle"] * 3, steps=3, seed=5, shown=2, on_step=lambda *step: seen.append(step))
    alone = pipeline.draw(["a red circle"], steps=3, seed=7)
    assert np.abs(both.pictures[2].astype(int) - alone.pictures[0]).max() <= 1
    assert both.pictures.shape == (3, 16, 16, 3)
    assert both.strip.shape == (3, 3, 16, 16, 3)
    assert alone.strip.shape == (0, 1, 16, 16, 3)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert both.images()[0].size == (16, 16)


def test_words_and_negative_words_matter(pipeline: OpenVINOPipeline) -> None:
    red = pipeline.draw(["a red circle"], steps=2)
    assert not np.array_equal(red.pictures, pipeline.draw(["a blue star"], steps=2).pictures)
    assert not np.array_equal(red.pictures, pipeline.draw(["a red circle"], steps=2, negative="a star").pictures)


def test_a_compiled_denoiser_is_found_again(copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = read_pipeline(copy).draw(["a red circle"], steps=1).pictures
    again = read_pipeline(copy)
    monkeypatch.setattr(again.denoiser, "_graph", lambda *shape: pytest.fail("it was built again"))
    assert np.array_equal(again.draw(["a red circle"], steps=1).pictures, first)


def test_neither_pytorch_nor_diffusers_is_imported(trained: Trained) -> None:
    code = (
        "import sys; from diptych.generation.openvino.pipeline import read_pipeline\n"
        f"read_pipeline({str(trained.folder)!r}).draw(['a red circle'], steps=1)\n"
        "print([name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("count", [1, 3, 4, 7, 13])
def test_chunks_are_all_rows_once(count: int) -> None:
    rows = [row for each in _chunks(count) for row in range(each.start, each.stop)]
    assert rows == list(range(count))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("act_fn", "gelu"), ("use_linear_projection", True), ("time_embedding_type", "fourier"), ("colour", "red"),
        ("transformer_layers_per_block", 2), ("block_out_channels", [16, 20, 32]), ("block_out_channels", 16),
        ("attention_head_dim", [1, 3]), ("attention_head_dim", 5), ("down_block_types", ["DownBlock2D"] * 2),
        ("down_block_types", ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D"]), ("up_block_types", None),
        ("sample_size", 18), ("layers_per_block", [2, 2, 2]), ("layers_per_block", 10**9), ("norm_eps", "small"),
        ("out_channels", 6), ("sample_size", 4096), ("freq_shift", 8),
    ],
)  # fmt: skip
def test_another_setting_is_refused_by_name(copy: Path, key: str, value: object) -> None:
    edit(copy / UNET, **{key: value})
    with pytest.raises(CheckpointError, match=key):
        read_pipeline(copy)


def test_a_missing_setting_is_named(copy: Path) -> None:
    config = json.loads((copy / UNET).read_text())
    del config["norm_num_groups"]
    (copy / UNET).write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="norm_num_groups"):
        read_pipeline(copy)


def without_one(arrays: dict[str, np.ndarray]) -> None:
    del arrays["mid_block.resnets.1.conv2.bias"]


def with_one_more(arrays: dict[str, np.ndarray]) -> None:
    arrays["class_embedding.weight"] = np.zeros((2, 2), np.float32)


def of_another_shape(arrays: dict[str, np.ndarray]) -> None:
    arrays["conv_out.bias"] = np.zeros(1, np.float32)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (without_one, "mid_block.resnets.1.conv2.bias"),
        (with_one_more, "class_embedding"),
        (of_another_shape, "conv_out.bias"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    copy: Path, change: Callable[[dict[str, np.ndarray]], None], named: str
) -> None:
    arrays = load_file(copy / WEIGHTS)
    change(arrays)
    save_file(arrays, copy / WEIGHTS)
    with pytest.raises(CheckpointError, match=named):
        read_pipeline(copy)


def test_weights_that_are_not_finite_are_named(copy: Path) -> None:
    arrays = load_file(copy / WEIGHTS)
    arrays["up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_v.weight"][0, 0] = np.nan
    save_file(arrays, copy / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"attn2\.to_v\.weight has NaN"):
        read_pipeline(copy).draw(["a red circle"], steps=1)


def test_what_is_no_generator(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no generator; wanted a folder with model_index.json"):
        read_pipeline(tmp_path)
    (copy / WEIGHTS).write_bytes((copy / WEIGHTS).read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_pipeline(copy)
    edit(copy / "vae" / "config.json", decoder_block_out_channels=[64, 64])
    with pytest.raises(CheckpointError, match="latents"):
        read_pipeline(copy)
    edit(copy / "model_index.json", _class_name="FluxPipeline")
    with pytest.raises(CheckpointError, match="FluxPipeline"):
        read_pipeline(copy)


def test_a_text_encoder_of_another_width(copy: Path) -> None:
    edit(copy / "text_encoder" / "config.json", hidden_size=32, num_attention_heads=1)
    with pytest.raises(CheckpointError, match="text_encoder"):
        read_pipeline(copy)


def test_numbers_and_prompts_outside_their_range(pipeline: OpenVINOPipeline) -> None:
    for guidance in (-1, float("nan"), 101):
        with pytest.raises(ArgumentError, match="guidance"):
            pipeline.draw(["a star"], guidance=guidance)
    with pytest.raises(ArgumentError, match="steps=0"):
        pipeline.draw(["a star"], steps=0)
    with pytest.raises(ArgumentError, match="0 pictures"):
        pipeline.draw([])
    with pytest.raises(TokenizerError):
        pipeline.draw(["star " * 100], steps=1)
    assert pipeline.draw(["star " * 100], steps=1, truncate=True).pictures.shape == (1, 16, 16, 3)
