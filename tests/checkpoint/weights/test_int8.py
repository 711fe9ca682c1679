"""Weights in 8 bits: half a step of accuracy, a file of a quarter, and one model for every reader."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import diptych
from diptych.checkpoint import convert, read, save_folder
from diptych.checkpoint.weights.int8 import MIN_ROW, quantised
from diptych.engines.graph import text_graph
from diptych.errors import ArgumentError, CheckpointError
from tests.checkpoint.test_checkpoint import HF_SIGLIP, assert_same_state

TEXTS = ["a red star above a blue square", "two circles"]
TOKENS = "text.token.weight"


@pytest.fixture(scope="module")
def small(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model in 8 bits."""
    return convert(tiny_model, tmp_path_factory.mktemp("int8") / "small", dtype=torch.int8, notice=print)


@pytest.fixture
def changed(small: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the small model whose tensors went through a function."""

    def copy(change: Callable[[dict[str, Tensor]], object]) -> Path:
        target = tmp_path / "changed"
        target.mkdir()
        for path in small.iterdir():
            (target / path.name).write_bytes(path.read_bytes())
        tensors = load_file(small / "model.safetensors")
        change(tensors)
        save_file(tensors, target / "model.safetensors")
        return target

    return copy


def test_each_row_is_rounded_to_its_own_steps() -> None:
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(7, 5, 3, 3)).astype(np.float32) * 10.0 ** np.arange(-5, 2)[:, None, None, None]
    weights[3] = 0
    stored = quantised(weights)
    assert (stored.values.dtype, stored.values.shape, stored.scale.shape) == (np.int8, weights.shape, (7,))
    assert np.abs(stored.values[3]).max() == 0
    steps = np.abs(weights).max(axis=(1, 2, 3)) / 127
    assert (np.abs(stored.floats() - weights).max(axis=(1, 2, 3)) <= 0.51 * steps).all()
    again = quantised(stored.floats())
    np.testing.assert_array_equal(again.floats(), stored.floats())


def test_weights_near_the_smallest_and_the_largest_floats() -> None:
    weights = np.array([[1e-44] * MIN_ROW, [3e38] * MIN_ROW, [-1e-30] * MIN_ROW], np.float32)
    np.testing.assert_allclose(quantised(weights).floats(), weights, rtol=1e-4, atol=1e-40)


def test_what_is_stored_in_which_type(small: Path, tiny_model: Path) -> None:
    tensors = load_file(small / "model.safetensors")
    assert tensors[TOKENS].dtype == torch.int8
    assert tensors[f"{TOKENS}.scale"].dtype == torch.float32
    assert tensors["text.positions"].dtype == tensors["text.norm_post.bias"].dtype == torch.float16
    assert tensors["logit_scale"].dtype == torch.float32
    assert json.loads((small / "config.json").read_text())["model_type"] == "diptych"
    assert 0.2 < (small / "model.safetensors").stat().st_size / (tiny_model / "model.safetensors").stat().st_size < 0.35


def test_a_number_that_float16_cannot_hold_stays_float32(tiny_model: Path, tmp_path: Path) -> None:
    checkpoint = read(tiny_model)
    state = {**checkpoint.state, "text.norm_post.bias": torch.full_like(checkpoint.state["text.norm_post.bias"], 1e6)}
    folder = save_folder(
        tmp_path / "it", (checkpoint.config, state), tokenizer_json=None, preprocess={}, dtype=torch.int8
    )
    assert float(read(folder).state["text.norm_post.bias"][0]) == 1e6


@pytest.mark.precision
@pytest.mark.parametrize("numpy_calls", [0, 9])
def test_both_engines_and_every_form_have_the_same_weights(
    small: Path, pictures: Path, numpy_calls: int, tmp_path: Path
) -> None:
    """Read by either engine, saved again in 8 bits, or written as floats for other programs; texts in a compiled tower
    or in NumPy."""
    picture = pictures / "scene-0.png"
    openvino = diptych.load(small, engine="openvino", precision="float32")
    pytorch = diptych.load(small, engine="pytorch", device="cpu")
    assert openvino.fingerprint == pytorch.fingerprint
    written = {name: convert(small, tmp_path / name, to=name, notice=print) for name in ("hf", "open_clip")}
    written["again"] = convert(small, tmp_path / "again", dtype=torch.int8, notice=print)
    written["saved"] = openvino.save(tmp_path / "saved")
    models = [pytorch, *(diptych.load(path, engine="openvino", precision="float32") for path in written.values())]
    pixels = np.asarray(openvino.model_input(picture))[None]
    for model in models:
        model.engine.numpy_calls = numpy_calls
        np.testing.assert_allclose(model.embed_texts(TEXTS), openvino.embed_texts(TEXTS), atol=2e-6)
        np.testing.assert_allclose(model.embed_images(picture), openvino.embed_images(picture), atol=2e-6)
        one, other = (each.engine.encode_patches(pixels).patches for each in (model, openvino))
        np.testing.assert_allclose(one, other, atol=5e-6)
    assert {diptych.load(path).fingerprint for path in written.values()} == {openvino.fingerprint}
    same = (path / "model.safetensors" for path in (small, written["again"]))
    assert_same_state(*map(load_file, same))
    assert all(tensor.dtype == torch.float32 for tensor in read(written["hf"], dtype=None).state.values())


def test_vectors_are_close_to_those_of_floats(small: Path, tiny_model: Path) -> None:
    one, other = (diptych.load(path, precision="float32").embed_texts(TEXTS) for path in (small, tiny_model))
    assert ((one * other).sum(axis=1) > 0.999).all()


def test_openvino_keeps_8_bits_in_its_graph(small: Path) -> None:
    """Opening a text tower makes floats neither of the vocabulary nor of a layer."""
    model = diptych.load(small, engine="openvino")
    graph = text_graph(model.config, model._checkpoint.state)
    sizes = {
        each.get_friendly_name(): each.get_element_type().size
        for each in graph.get_ordered_ops()
        if each.get_type_name() == "Constant" and np.prod(each.get_output_shape(0)) >= 64 * 64
    }
    assert len(sizes) > 4
    assert set(sizes.values()) == {1}


def test_siglip_keeps_its_texts_and_its_vectors(tmp_path: Path) -> None:
    folder = convert(HF_SIGLIP, tmp_path / "it", dtype=torch.int8, notice=print)
    before, after = read(HF_SIGLIP), read(folder)
    assert (after.config, after.text_preprocessing) == (before.config, before.text_preprocessing)


def remove(name: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda tensors: tensors.pop(name)


def put(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], object]:
    return lambda tensors: tensors.update({name: change(tensors[name]).contiguous()})


def with_one(scale: Tensor, number: float) -> Tensor:
    scale[0] = number
    return scale


@pytest.mark.parametrize("engine", ["openvino", "pytorch"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove(f"{TOKENS}.scale"), rf"{TOKENS} is \(\d+, \d+\) int8 without its scale, {TOKENS}.scale \(\d+\)"),
        (put(f"{TOKENS}.scale", lambda scale: scale[1:]), rf"{TOKENS}.scale is \(\d+\), wanted \(\d+\), a number for"),
        (put(f"{TOKENS}.scale", lambda scale: scale[:, None]), rf"{TOKENS}.scale is \(\d+, 1\), wanted"),
        (put(f"{TOKENS}.scale", lambda scale: scale.to(torch.int32)), rf"{TOKENS}.scale is \(\d+\) int32, wanted"),
        (put(TOKENS, lambda weights: weights.float()), rf"{TOKENS}.scale is the scale of .* not int8"),
        (put(TOKENS, lambda weights: weights[:, 1:]), rf"{TOKENS} is \(\d+, \d+\), wanted"),
        (put(TOKENS, lambda weights: weights.view(torch.uint8)), rf"{TOKENS}.scale is the scale of .* uint8, not int8"),
        (put("logit_scale", lambda number: number.to(torch.int8)), "logit_scale is a single int8"),
        (put(f"{TOKENS}.scale", lambda scale: with_one(scale, np.nan)), "scale has NaN, infinity or too large .* in 1"),
        (put(f"{TOKENS}.scale", lambda scale: with_one(scale, np.inf)), "scale has NaN, infinity or too large .* in 1"),
        (put(f"{TOKENS}.scale", lambda scale: with_one(scale, 3e38)), "scale has NaN, infinity or too large .* in 1"),
    ],
)
def test_a_damaged_file_says_what_is_wrong(
    change: Callable[[dict[str, Tensor]], object], message: str, engine: str, changed: Callable[..., Path]
) -> None:
    folder = changed(change)
    with pytest.raises(CheckpointError, match=message):
        diptych.load(folder, engine=engine, device="cpu").embed_texts(TEXTS)  # type: ignore[arg-type]


def test_a_scale_in_bfloat16_or_float16_is_read(changed: Callable[..., Path]) -> None:
    folder = changed(put(f"{TOKENS}.scale", lambda scale: scale.bfloat16()))
    one, other = (diptych.load(folder, engine=name, device="cpu") for name in ("openvino", "pytorch"))  # type: ignore[arg-type]
    assert one.fingerprint == other.fingerprint


def test_other_formats_store_floats(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"open_clip has no weights in 8 bits with scales\. Pass to='hf'"):
        diptych.convert(tiny_model, tmp_path / "it", to="open_clip", dtype=torch.int8)
    with pytest.raises(ArgumentError, match="not a type of weights"):
        diptych.convert(tiny_model, tmp_path / "it", dtype=torch.int32)
    assert not (tmp_path / "it").exists()
