"""Models for other engines: what is written computes what the model computes, and says how near it is."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import diptych
from diptych.checkpoint import save_folder
from diptych.cli import FAILED, OK, USAGE
from diptych.engines.graph import with_outputs
from diptych.engines.onnx import open_onnx
from diptych.engines.openvino_runtime import openvino
from diptych.errors import CheckpointError
from diptych.exporting import agreement, export, samples
from diptych.media.preprocessing import Preprocess
from diptych.nets.clip import CLIP
from diptych.nets.presets import preset
from diptych.scoring.reference_pictures import REFERENCE_FILE, ReferencePictures
from diptych.training.setup import sized
from tests.conftest import Cli

pytestmark = pytest.mark.precision


def test_agreement_by_hand() -> None:
    """Twenty pictures: of the first text's best ten both have five, of the second's all."""
    mine = np.tile(-np.arange(20.0), (2, 1))
    theirs = np.stack([np.where((np.arange(20) >= 5) & (np.arange(20) < 15), 1.0, 0.0), mine[1] * 3])
    assert agreement(mine, theirs) == pytest.approx(0.75)


def test_openvino_folders_run_without_the_weights(tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    """The reference pictures beside them are no weights."""
    model = shutil.copytree(tiny_model, tmp_path / "model")
    kept = ReferencePictures.of(np.eye(diptych.load(model).dim), -0.5).to_bytes()
    (model / "reference_pictures.safetensors").write_bytes(kept)
    path, parity = export(model, tmp_path / "fast")
    assert parity.image_worst == pytest.approx(1, abs=1e-5)
    assert parity.text_worst == pytest.approx(1, abs=1e-5)
    assert parity.same_top == 1
    assert {file.name: file.read_bytes() for file in path.glob("*.safetensors")} == {REFERENCE_FILE: kept}
    whole, fast = diptych.load(tiny_model, precision="float32"), diptych.load(path, precision="float32")
    files = sorted(pictures.glob("*.png"))
    np.testing.assert_allclose(fast.embed_images(files), whole.embed_images(files), atol=1e-5)
    np.testing.assert_allclose(fast.embed_texts(["a red star"]), whole.embed_texts(["a red star"]), atol=1e-5)
    assert (fast.scale, fast.bias) == (pytest.approx(whole.scale), None)
    assert fast.fingerprint == whole.fingerprint
    with pytest.raises(CheckpointError, match=r"was converted for another engine\. Use the original model"):
        _ = fast.network


def test_eight_bits_are_near(cli: Cli, tiny_model: Path, shards: Path, tmp_path: Path) -> None:
    arguments = ("--to", "openvino", "--precision", "int8", "--calibrate", shards, "--json")
    said = cli("convert", tiny_model, tmp_path / "fast", *arguments)
    assert said.code == OK, said.err
    parity = said.json["parity"]
    for tower in ("image", "text"):  # with random weights; trained ones are nearer
        assert 0.95 < parity[f"{tower}_worst"] <= parity[f"{tower}_cosine"] < 1
        assert parity[f"{tower}_cosine"] > 0.98
    assert parity["pictures"] == 48
    assert "calibrating the text tower, SmoothQuant" in said.err
    for tower in ("image", "text"):  # made in both ways, and the nearer one kept
        ways = [each for each in parity["tried"] if each["tower"] == tower]
        assert [each["way"] for each in ways] == ["SmoothQuant", "plain"]
        (taken,) = (each for each in ways if each["chosen"])
        assert taken["cosine"] == max(each["cosine"] for each in ways)
        assert parity[f"{tower}_cosine"] == pytest.approx(taken["cosine"], abs=1e-5)
        assert f"the {tower} tower in 8 bits, {taken['way']}: {taken['cosine']:.4f}" in said.err
    assert "int8 and " in diptych.load(tmp_path / "fast").engine.describe()
    from diptych.engines.openvino_runtime import core

    graph = core().read_model(tmp_path / "fast" / "openvino" / "image.xml")
    assert "FakeQuantize" in {node.get_type_name() for node in graph.get_ops()}


@pytest.mark.parametrize("spoilt", ["SmoothQuant", "plain"])
def test_the_nearer_way_to_eight_bits_is_kept(
    spoilt: str, tiny_model: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one way does harm, here by leaving out what is negative, the other is taken."""

    def coarse(graph: Any, inputs: object, way: str) -> Any:
        if way != spoilt:
            return graph
        for result in graph.get_results():
            end = openvino.opset15.relu(result.input_value(0))
            end.output(0).set_names(result.output(0).get_names())
            result.input(0).replace_source_output(end.output(0))
        return graph

    monkeypatch.setattr("diptych.engines.quantization.quantised", coarse)
    _, parity = export(tiny_model, tmp_path / "fast", precision="int8", calibrate=shards)
    assert {each.way for each in parity.tried if each.chosen} == {"SmoothQuant", "plain"} - {spoilt}
    assert all(each.cosine < 0.9 for each in parity.tried if each.way == spoilt)
    assert parity.image_worst == pytest.approx(1, abs=1e-5)


def with_random_weights(name: str, tiny_model: Path, folder: Path) -> Path:
    """A model of the architecture `name`, with the tokenizer of `tiny_model`."""
    torch.manual_seed(0)
    words = diptych.load(tiny_model)
    assert words.tokenizer
    network = CLIP(sized(preset(name), None, words.tokenizer))
    spec = Preprocess(size_px=network.config.image.image_size).to_hugging_face()
    return save_folder(folder, network, tokenizer_json=words.tokenizer_json, preprocess=spec)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["vit-tiny", "resnet-tiny", "efficientnet-tiny"])
def test_a_converted_model_has_its_patches(name: str, tiny_model: Path, tmp_path: Path) -> None:
    """And one that was converted without them works as before, and names the remedy."""
    path, _ = export(with_random_weights(name, tiny_model, tmp_path / "model"), tmp_path / "fast")
    mine, fast = (diptych.load(folder, precision="float32") for folder in (tmp_path / "model", path))
    size = mine.preprocessing.size_px
    pixels = np.random.default_rng(0).integers(256, size=(3, size, size, 3), dtype=np.uint8)
    for one, other in zip(fast.engine.encode_patches(pixels), mine.engine.encode_patches(pixels), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    both = fast.engine.graphs()["image"]  # type: ignore[attr-defined]
    original = path / "openvino" / "image.xml"
    openvino.save_model(with_outputs(both, ["image"]), tmp_path / "image.xml", compress_to_fp16=False)
    for ending in ("xml", "bin"):
        shutil.move(tmp_path / f"image.{ending}", original.with_suffix(f".{ending}"))
    old = diptych.load(path, precision="float32")
    np.testing.assert_allclose(old.embed_pixels(pixels), mine.embed_pixels(pixels), atol=1e-5)
    with pytest.raises(CheckpointError, match=r"image\.xml has no patch embeddings; convert the model again"):
        old.engine.encode_patches(pixels)


def test_onnx_runs_at_any_batch_and_length(tiny_model: Path, tmp_path: Path) -> None:
    image, text = open_onnx(diptych.convert(tiny_model, tmp_path / "onnx", to="onnx"))
    model = diptych.load(tiny_model, precision="float32")
    pixels = np.random.default_rng(0).integers(256, size=(5, 32, 32, 3), dtype=np.uint8)
    np.testing.assert_allclose(image(pixels), model.embed_pixels(pixels), atol=1e-5)
    for texts in (["a red star"], ["a star", "a blue fish on a yellow cup"]):
        np.testing.assert_allclose(text(model.tokenize(texts).ids), model.embed_texts(texts), atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_an_efficientnet_in_onnx_is_the_model(tiny_model: Path, tmp_path: Path) -> None:
    folder = with_random_weights("efficientnet-tiny", tiny_model, tmp_path / "model")
    image, _ = open_onnx(diptych.convert(folder, tmp_path / "onnx", to="onnx"))
    pixels = np.random.default_rng(0).integers(256, size=(3, 64, 64, 3), dtype=np.uint8)
    np.testing.assert_allclose(image(pixels), diptych.load(folder, precision="float32").embed_pixels(pixels), atol=1e-5)


def test_calibration_takes_pictures_without_captions(tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    for path in pictures.glob("*.png"):
        (tmp_path / "only" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "only" / "broken.png").write_bytes(b"no picture")
    model = diptych.load(tiny_model)
    calibration_samples, check_samples = samples(model, tmp_path / "only")
    assert len(calibration_samples.pixels) == len(check_samples.pixels) == 7
    assert len(calibration_samples.texts) > 10
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="has no readable picture"):
        samples(model, tmp_path / "empty")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--to", "openvino", "--precision", "int8"), FAILED, "--calibrate"),
        (("--to", "onnx", "--precision", "int8", "--calibrate", "."), FAILED, "ONNX is written in float32"),
        (("--precision", "int8"), USAGE, "are for --to openvino"),
    ],
)
def test_what_contradicts_itself_is_refused(
    cli: Cli, tiny_model: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    result = cli("convert", tiny_model, tmp_path / "out", *arguments)
    assert result.code == code
    assert said in result.err
    assert not (tmp_path / "out").exists()


def test_a_converted_folder_that_lacks_a_part_says_so(tiny_model: Path, tmp_path: Path) -> None:
    path, _ = export(tiny_model, tmp_path / "fast")
    (path / "openvino" / "text.bin").unlink()
    with pytest.raises(CheckpointError, match=r"lacks text\.bin; convert the model again"):
        diptych.load(path)
    (path / "openvino" / "text.bin").write_bytes(b"noise")
    with pytest.raises(CheckpointError, match="cannot be read"):
        diptych.load(path).embed_texts(["a star"])


def without_torch(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command line where PyTorch is not installed."""
    code = "import sys; sys.modules['torch'] = None; from diptych.__main__ import main; main()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_core_needs_no_pytorch(tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    fast, _ = export(tiny_model, tmp_path / "fast")
    for model in ([], ["--model", tiny_model], ["--model", fast]):
        done = without_torch("classify", pictures, "--labels", "red,blue", *model)
        assert done.returncode == OK, done.stderr
        assert len(done.stdout.splitlines()) == 8


def test_what_needs_pytorch_says_so_kindly(shards: Path, tiny_model: Path, tmp_path: Path) -> None:
    remedy = "pip install 'diptych[train]'"
    weights = tmp_path / "model.pt"
    torch.save({}, weights)
    for arguments in (
        ("train", "--data", shards, "--out", tmp_path / "run"),
        ("classify", shards, "--labels", "a,b", "--engine", "pytorch"),
        ("classify", shards, "--labels", "a,b", "--device", "cuda"),
        ("classify", shards, "--labels", "a,b", "--model", weights),
    ):
        done = without_torch(*arguments)
        assert done.returncode == FAILED
        assert remedy in done.stderr
        assert "Traceback" not in done.stderr
