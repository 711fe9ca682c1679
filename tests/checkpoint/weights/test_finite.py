"""NaN, infinity and a temperature that ran away are refused by name, when the tower is first read."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import diptych
from diptych.checkpoint.weights.finite import (
    CHUNK,
    FiniteArrays,
    check_finite,
    check_vectors,
    checked_scale,
    is_finite,
)
from diptych.cli import run
from diptych.errors import CheckpointError
from tests.checkpoint.test_checkpoint import varied
from tests.checkpoint.test_saving import saved

TENSOR = "text_model.encoder.layers.1.mlp.fc1.weight"
NAMED = "text.transformer.blocks.1.mlp.fc.weight"
ENGINES = ["openvino", "pytorch"]


def broken(source: Path, folder: Path, name: str, value: float, dtype: torch.dtype = torch.float32) -> Path:
    folder.mkdir()
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    tensors = {each: tensor.to(dtype) for each, tensor in load_file(source / "model.safetensors").items()}
    tensors[name].view(-1)[-1] = value
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_tower_is_refused_when_it_is_read(
    engine: Any, value: float, dtype: torch.dtype, tiny_model: Path, tmp_path: Path
) -> None:
    model = diptych.load(broken(tiny_model, tmp_path / "model", TENSOR, value, dtype), engine=engine, device="cpu")
    with pytest.raises(CheckpointError, match=rf"{NAMED} has NaN or infinity in 1 of [\d,]+ numbers\. .*an earlier"):
        model.embed_texts(["a star"])
    assert np.isfinite(model.embed_images([np.zeros((32, 32, 3), np.uint8)])).all(), "the other tower is whole"


@pytest.mark.parametrize("engine", ENGINES)
def test_the_image_tower_as_well(engine: Any, tiny_model: Path, tmp_path: Path) -> None:
    folder = broken(tiny_model, tmp_path / "model", "vision_model.embeddings.patch_embedding.weight", np.nan)
    model = diptych.load(folder, engine=engine, device="cpu")
    for ask in (model.embed_images, lambda pictures: model.classify(pictures, ["a", "b"], patches=True)):
        with pytest.raises(CheckpointError, match=r"image\.patch\.weight has NaN"):
            ask([np.zeros((32, 32, 3), np.uint8)])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_number_is_told_from_none(dtype: Any) -> None:
    limits = np.finfo(dtype)
    array = np.zeros(2 * CHUNK + 5, dtype)
    array[:6] = (limits.max, limits.min, limits.tiny, limits.smallest_subnormal, -0.0, 1)
    assert is_finite(array)
    assert is_finite(array.reshape(-1, 1)[::2])
    for value in (np.nan, -np.float64("nan"), np.inf, -np.inf):
        for place in (0, CHUNK - 1, CHUNK, len(array) - 1):
            other = array.copy()
            other[place] = value
            assert not is_finite(other)
    assert is_finite(np.full(3, np.iinfo(np.int64).max))


def test_a_sum_that_overflows_is_no_infinity() -> None:
    check_finite({"large": torch.full((4,), torch.finfo(torch.float32).max)}, "a model")
    check_finite({"half": torch.full((400,), 60_000, dtype=torch.float16), "count": torch.tensor(3)}, "a model")
    with pytest.raises(CheckpointError, match="a model: small has NaN or infinity in 2 of 3 numbers"):
        check_finite({"small": torch.tensor([np.inf, 1, -np.inf])}, "a model")


@pytest.mark.parametrize("engine", ENGINES)
def test_finite_weights_that_give_no_vectors(engine: Any, tiny_model: Path, tmp_path: Path) -> None:
    folder = broken(tiny_model, tmp_path / "model", "text_projection.weight", 3e38)
    tensors = load_file(folder / "model.safetensors")
    tensors["text_projection.weight"][:] = 3e38
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="gives vectors with NaN or infinity"):
        diptych.load(folder, engine=engine, device="cpu", precision="float32").embed_texts(["a star", "a circle"])


def test_vectors_of_numbers_pass() -> None:
    vectors = np.ones((2, 3), np.float32)
    assert check_vectors(vectors, "a model") is vectors


@pytest.mark.parametrize("scale", [1 / 0.07, 100, 117.3, 1.0])
def test_temperatures_that_models_have(scale: float) -> None:
    assert checked_scale(float(np.log(scale)), "a model") == pytest.approx(scale)


@pytest.mark.parametrize(
    ("value", "says"), [(np.nan, "nan"), (np.inf, "inf"), (100.0, "100.*the scale itself"), (14, "14")]
)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_temperature_that_ran_away(engine: Any, value: float, says: str, tiny_model: Path, tmp_path: Path) -> None:
    folder = broken(tiny_model, tmp_path / "model", "logit_scale", value)
    model = diptych.load(folder, engine=engine, device="cpu")
    picture = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(CheckpointError, match=f"logit_scale is {says}"):
        model.classify([picture], ["a star", "a circle"])
    assert np.isfinite(model.similarity([picture], ["a star"])).all(), "cosines need no temperature"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_bias_that_is_none(engine: Any, tmp_path: Path) -> None:
    folder = broken(
        saved(replace(varied(), loss="sigmoid"), tmp_path / "source"), tmp_path / "model", "logit_bias", np.nan
    )
    model = diptych.load(folder, engine=engine, device="cpu")
    with pytest.raises(CheckpointError, match="logit_bias is nan"):
        _ = model.bias


@pytest.mark.parametrize("to", ["hf", "open_clip", "openvino"])
def test_broken_weights_are_not_converted(to: Any, tiny_model: Path, tmp_path: Path) -> None:
    folder = broken(tiny_model, tmp_path / "model", "visual_projection.weight", np.nan)
    with pytest.raises(CheckpointError, match=r"image\.proj\.weight has NaN"):
        diptych.convert(folder, tmp_path / "other", to=to)
    assert not (tmp_path / "other").exists()


def test_nothing_is_trained_from_broken_weights(tiny_model: Path, shards: Path, tmp_path: Path) -> None:
    folder = broken(tiny_model, tmp_path / "model", TENSOR, np.nan)
    config = diptych.TrainConfig(data=(str(shards),), init=str(folder), epochs=1, out=str(tmp_path / "run"))
    with pytest.raises(CheckpointError, match=rf"{NAMED} has NaN"):
        diptych.train(config)


def test_commands_print_no_nan(
    tiny_model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = broken(tiny_model, tmp_path / "text", TENSOR, np.nan)
    blind = broken(tiny_model, tmp_path / "image", "visual_projection.weight", np.nan)
    picture = str(next(pictures.glob("*.png")))
    for command in (
        ["classify", picture, "--labels", "a star,a circle", "--json"],
        ["compare", picture, "a star", "--json"],
        ["embed", str(pictures), str(tmp_path / "vectors"), "--json"],
    ):
        name, model = ("image.proj.weight", blind) if command[0] == "embed" else (NAMED, folder)
        code = run([*command, "--model", str(model), "--device", "cpu"])
        out, err = capsys.readouterr()
        assert (code, "nan" in out.lower()) == (1, False), (command, code, out)
        assert f"{name} has NaN" in err
        assert not out or json.loads(out)


def test_negative_variances_are_refused() -> None:
    """An engine may give finite vectors in spite of them."""
    variances = np.array([1, -0.5, 0], np.float32)
    says = r"^a model: image.norm.running_var is negative in 1 of 3 variances. Its training diverged"
    with pytest.raises(CheckpointError, match=says):
        check_finite({"image.norm.running_var": torch.from_numpy(variances)}, "a model")
    with pytest.raises(CheckpointError, match=says):
        FiniteArrays({"image.norm.running_var": variances}, "a model")["image.norm.running_var"]
