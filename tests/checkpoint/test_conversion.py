"""`diptych.convert` knows every target that the command knows."""

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

import diptych
from diptych.cli import USAGE
from diptych.cli.convert import command
from diptych.errors import ArgumentError
from diptych.exporting import Target
from diptych.nets.presets import preset


def test_the_command_s_targets_are_python_s() -> None:
    (option,) = (each for each in command.params if each.name == "form")
    assert set(option.type.choices) == set(get_args(Target))  # type: ignore[attr-defined]


@pytest.mark.parametrize("to", [name for name in get_args(Target) if name != "onnx"])  # tested with the exports
def test_every_target_keeps_the_vectors(to: Any, tiny_model: Path, tmp_path: Path) -> None:
    if to == "openai":
        with pytest.raises(diptych.CheckpointError, match=r"cannot hold this model.*with to='onnx' or to='openvino'\."):
            diptych.convert(tiny_model, tmp_path / "it", to=to)
        return
    written = diptych.convert(tiny_model, tmp_path / "it", to=to)
    assert written == tmp_path / "it"
    texts, wanted = ["a red star"], diptych.load(tiny_model, precision="float32")
    came = diptych.load(written, precision="float32").embed_texts(texts)
    np.testing.assert_allclose(came, wanted.embed_texts(texts), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"to": "hf", "precision": "int8"}, "precision is for to='openvino'; the other forms contain the weights"),
        ({"to": "openai", "calibrate": "photos"}, "calibrate is for to='openvino'"),
        ({"to": "onnx", "dtype": "half"}, "dtype='half' is for the forms with weights"),
        ({"to": "openvino", "precision": "int8"}, "precision='int8' needs"),
        ({"to": "gguf"}, "to='gguf' is not known; choose one of hf, open_clip, openai"),
    ],
)
def test_what_contradicts_itself(options: dict[str, Any], says: str, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=says) as error:
        diptych.convert(tiny_model, tmp_path / "it", **options)
    assert isinstance(error.value, ArgumentError) or options["to"] == "gguf"
    assert not (tmp_path / "it").exists()


def test_files_changed_beside_converted_towers(tiny_model: Path, tmp_path: Path) -> None:
    """The towers have it all within: another mean or another number of layers would be believed and not done."""
    folder = diptych.convert(tiny_model, tmp_path / "it", to="openvino")
    for name, change in (
        ("config.json", lambda said: said["text"].update(layers=1)),
        ("config.json", lambda said: said.update(embed_dim=65)),
        ("preprocessor_config.json", lambda said: said.update(image_mean=[0.5, 0.5, 0.5])),
    ):
        before = (folder / name).read_text()
        said = json.loads(before)
        change(said)
        (folder / name).write_text(json.dumps(said))
        with pytest.raises(
            diptych.CheckpointError, match=rf"was converted with another {name}: \w+; changes there do not"
        ):
            diptych.load(folder)
        (folder / name).write_text(before)
    facts = json.loads((folder / "openvino" / "facts.json").read_text())
    del facts["config"], facts["preprocess"]  # as an earlier version left it
    (folder / "openvino" / "facts.json").write_text(json.dumps(facts))
    assert diptych.load(folder).dim == 64


def test_bundled_is_no_architecture(cli: Any, shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bundled is a trained model; start training from it with init"):
        preset("bundled")
    said = cli("train", "--data", shards, "--model", "bundled", "--out", tmp_path / "run")
    assert said.code in (USAGE, 1)
    assert "bundled is a trained model" in said.err
