"""The command line as a whole, and the commands without a file of their own here: models, convert, train, embed."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

import diptych
from diptych.cli import COMMANDS, OK, USAGE
from diptych.cli import diptych as group
from tests.conftest import GOLDEN, Cli


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_json_an_example_and_a_test(cli: Cli, name: str) -> None:
    said = cli(name, "--help")
    assert said.code == OK
    assert "--json" in said.out
    assert all(option in said.out for option in ("--model", "--device") if name in ("search", "classify", "compare"))
    examples = [shlex.split(line) for line in said.out.splitlines() if line.strip().startswith(f"diptych {name} ")]
    assert examples, f"the help of {name} shows no example"
    command = group.get_command(group.make_context("diptych", [name]), name)
    assert command is not None
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for example in examples for word in example if word.startswith("--")} <= known
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parents[1].rglob("test_*.py"))
    assert re.search(rf'cli\(\s*"{name}"', tests), f"no test runs {name}"


def test_help_lists_commands_and_exit_codes(cli: Cli) -> None:
    said = cli("--help")
    assert said.code == OK
    assert all(name in said.out and what in said.out for name, what in COMMANDS.items())
    codes = "Exit codes: 0 ok, 1 failed, 2 usage, 3 some inputs failed, 4 nothing found, 130 interrupted."
    assert codes in " ".join(said.out.split())
    assert cli("--version").out == f"diptych {diptych.__version__}\n"
    assert cli().code == USAGE


def test_pretrained_models(cli: Cli) -> None:
    rows = cli("models", "--pretrained", "--json").json
    assert rows["clip-vit-b-32"]["dimensions"] == 512
    said = cli("models", "--pretrained")
    lines = said.out.splitlines()
    assert [line.split()[0] for line in lines] == list(rows)
    assert {line.rsplit(maxsplit=1)[1] for line in lines} == {row["hub_id"] for row in rows.values()}
    assert len({line.index(row["hub_id"]) for line, row in zip(lines, rows.values(), strict=True)}) == 1  # aligned
    cited = {mark for mark in ("[1]", "[2]", "[3]", "[4]") if mark in said.out}
    assert all(f"  {mark} " in said.err for mark in cited)
    assert "--model clip-vit-b-32" in said.err


def test_models(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    said = cli("models", "--json")
    assert said.json["ViT-B/32"] == {"parameters": 151277313, "image_size_px": 224, "dimensions": 512}
    assert "length 1, so dot equals cosine" in " ".join(cli("compare", "--help").out.split())
    table = cli("models")
    assert table.err.split() == ["architecture", "parameters", "picture", "vector"]
    lines = table.out.splitlines()
    assert len(lines) == len(said.json)
    assert any(re.fullmatch(r"ViT-B/32 +151\.3M +224 px +512 dimensions", line) for line in lines)


@pytest.mark.parametrize(("form", "name"), [("hf", "folder"), ("open_clip", "folder"), ("openai", "model.pt")])
def test_convert(cli: Cli, pictures: Path, tmp_path: Path, form: str, name: str) -> None:
    """From OpenAI's archive to each format, without a change in the vectors."""
    source, target = GOLDEN / "openai_vit" / "openai_vit.pt", tmp_path / name
    said = cli("convert", source, target, "--to", form, "--json")
    assert said.code == OK, said.err
    assert said.json == {"source": str(source), "target": str(target), "format": form}
    assert f"converted {source} to {form}" in said.err
    before, after = (diptych.load(path).embed_images([pictures / "scene-0.png"]) for path in (source, target))
    np.testing.assert_allclose(after, before, atol=1e-6)
    assert cli("convert", source, tmp_path / "again").out == f"{tmp_path / 'again'}\n"


def test_convert_to_8_bits(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    said = cli("convert", tiny_model, tmp_path / "it", "--storage", "int8", "--json")
    assert said.json == {"source": str(tiny_model), "target": str(tmp_path / "it"), "format": "hf", "storage": "int8"}
    assert "weights are in 8 bits with scales): diptych reads the folder, transformers does not" in said.err
    small, large = (path / "model.safetensors" for path in (tmp_path / "it", tiny_model))
    assert small.stat().st_size < 0.35 * large.stat().st_size
    for options, message in [
        (
            ("--to", "open_clip"),
            "open_clip has no weights in 8 bits with scales. Pass --to hf, or leave --storage int8",
        ),
        (("--to", "onnx"), "--storage is for formats with weights, not for --to onnx"),
    ]:
        said = cli("convert", tiny_model, tmp_path / "no", "--storage", "int8", *options)
        assert said.code != OK
        assert message in " ".join(said.err.split())
    assert not (tmp_path / "no").exists()


def test_train(cli: Cli, shards: Path, pictures: Path, tmp_path: Path) -> None:
    options = ("--epochs", 0.5, "--batch-size", 32, "--vocab-size", 700, "--precision", "fp32", "--threads", 1)
    arguments = ("--data", shards, "--val", shards, "--model", "vit-tiny", *options)
    said = cli("train", *arguments, "--out", tmp_path / "run", "--json")
    assert said.code == OK, said.err
    assert said.json["model"] == str(tmp_path / "run" / "model")
    assert said.json["loss"] > 0
    assert said.json["recall"].keys() == {"text_to_image", "image_to_text"}
    assert said.json["config"]["batch_size"] == 32
    assert "96 pictures · vit-tiny" in said.err
    own = ("--model", tmp_path / "run" / "model", "--index", tmp_path / "index")
    found = cli("search", "a red star", pictures, *own, "--limit", 1)
    assert (found.code, len(found.out.splitlines())) == (OK, 1)


def test_embed_writes_vectors(cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    said = cli("embed", pictures, tmp_path / "out", "--model", tiny_model)
    assert (said.code, said.out) == (OK, f"{tmp_path / 'out'}\n")
    assert "8 pictures and 0 texts in 1 shard" in said.err
    assert np.load(tmp_path / "out" / "00000.npy").shape == (8, 64)
