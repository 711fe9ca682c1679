"""The command line, run in this process: what each command prints, writes and returns. Bad input: test_cli_errors."""

import inspect
import re
import shlex
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import GOLDEN, Cli
from PIL import Image

import diptych
from diptych.cli import COMMANDS, FAILED, NOTHING, OK, PARTLY, USAGE
from diptych.cli import diptych as group
from diptych.data.inspect import loader_rate
from diptych.training.rate import training_rate

# --- every command


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
    assert re.search(rf'cli\(\s*"{name}"', inspect.getsource(sys.modules[__name__])), f"no test runs {name}"


def test_help_lists_commands_and_exit_codes(cli: Cli) -> None:
    said = cli("--help")
    assert said.code == OK
    assert all(name in said.out and what in said.out for name, what in COMMANDS.items())
    codes = "Exit codes: 0 ok, 1 failed, 2 usage, 3 some inputs failed, 4 nothing found, 130 interrupted."
    assert codes in " ".join(said.out.split())
    assert cli("--version").out == f"diptych {diptych.__version__}\n"
    assert cli().code == USAGE


# --- search


def test_search_prints_a_table(cli: Cli, tiny_model: Path, pictures: Path) -> None:
    said = cli("search", "a red star", pictures, "--model", tiny_model)
    expected = diptych.search_folder(diptych.load(tiny_model), pictures, "a red star").hits
    assert said.code == OK
    assert said.out.splitlines() == [f"{hit.score:6.3f}  {hit.path}" for hit in expected]
    assert len(expected) == 8
    assert f"{tiny_model} · OpenVINO on cpu" in said.err


def test_search_as_json_and_paths(cli: Cli, tiny_model: Path, pictures: Path) -> None:
    arguments = ("search", "a red star", pictures, "--model", tiny_model, "--limit", 3)
    said = cli(*arguments, "--json")
    assert said.json.keys() == {"query", "searched", "hits", "failures"}
    assert (said.json["query"], said.json["searched"], said.json["failures"]) == ("a red star", 8, {})
    scores = [hit["score"] for hit in said.json["hits"]]
    assert scores == sorted(scores, reverse=True)
    assert cli(*arguments, "--paths").out.splitlines() == [hit["path"] for hit in said.json["hits"]]
    assert len(scores) == 3


def test_search_writes_sheets(cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    sheet, shown = tmp_path / "sheet.png", tmp_path / "shown.png"
    options = ("--limit", 6, "--sheet", sheet, "--show-input", shown)
    said = cli("search", "a red star", pictures, "--model", tiny_model, *options)
    assert said.code == OK
    for path in (sheet, shown):
        assert f"wrote {path}" in said.err
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert picture.size == (5 * 168 + 8, 2 * 188 + 8)  # five a row
            assert len(np.unique(np.asarray(picture))) > 50
    assert "wrote" not in said.out


def test_search_in_a_folder_without_pictures(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    said = cli("search", "a dog", tmp_path, "--model", tiny_model, "--json")
    assert said.code == NOTHING
    assert said.json["hits"] == []
    assert f"no pictures in {tmp_path}; wanted JPEG, PNG" in said.err


# --- classify


def test_classify(cli: Cli, tiny_model: Path, pictures: Path) -> None:
    arguments = ("classify", pictures, "--model", tiny_model, "--labels", "circle, star,house,star", "--top", 2)
    said = cli(*arguments, "--json")
    assert said.code == OK
    assert said.json["labels"] == ["circle", "star", "house"]
    assert len(said.json["pictures"]) == 8
    result = diptych.load(tiny_model).classify([said.json["pictures"][0]["path"]], said.json["labels"])
    shares = said.json["pictures"][0]["labels"]
    assert next(iter(shares)) == result.best[0]
    assert list(shares.values()) == pytest.approx(sorted(result.probabilities[0])[::-1][:2], abs=1e-5)
    line = cli(*arguments).out.splitlines()[0]
    assert re.fullmatch(r"\S+scene-7\.png  (\w+ \d+\.\d%  ){1}\w+ \d+\.\d%", line)


def test_classify_with_a_file_of_labels_and_templates(
    cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path
) -> None:
    labels, shown = tmp_path / "labels.txt", tmp_path / "shown.png"
    labels.write_bytes("\ufeffcircle\r\n\r\n  red star \r\n".encode())  # as an editor on Windows leaves it
    picture = sorted(pictures.glob("*.png"))[0]
    options = ("--template", "a {}", "--template", "{} there", "--json", "--show-input", shown)
    said = cli("classify", picture, "--labels-file", labels, "--model", tiny_model, *options)
    assert said.json["labels"] == ["circle", "red star"]
    expected = diptych.load(tiny_model).classify([picture], ["circle", "red star"], templates=["a {}", "{} there"])
    found = said.json["pictures"][0]["labels"]
    assert [found["circle"], found["red star"]] == pytest.approx(expected.probabilities[0].tolist(), abs=1e-5)
    assert sum(found.values()) == pytest.approx(1)
    assert Image.open(shown).size == (176, 196)


def test_classify_without_pictures(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    said = cli("classify", tmp_path, "--labels", "cat", "--model", tiny_model, "--json")
    assert (said.code, said.json["pictures"]) == (NOTHING, [])
    assert f"no pictures in {tmp_path}" in said.err


# --- compare


def test_compare_as_json(cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    """A folder and one more picture, a text file and one more sentence."""
    texts, more = tmp_path / "captions.txt", tmp_path / "more.png"
    texts.write_text("a red star\n\ntwo dogs  \n", encoding="utf-8")
    Image.new("RGB", (50, 40), "green").save(more)
    said = cli("compare", pictures, texts, "--image", more, "--text", "grün", "--model", tiny_model, "--json")
    assert said.code == OK
    assert said.json["texts"] == ["a red star", "two dogs", "grün"]
    assert len(said.json["pictures"]) == 9
    assert said.json["pictures"][-1] == str(more)
    cosine, dot, euclidean = (np.array(said.json[name]) for name in ("cosine", "dot", "euclidean"))
    assert cosine.shape == (9, 3)
    np.testing.assert_allclose(dot, cosine, atol=1e-6)
    np.testing.assert_allclose(euclidean**2, 2 - 2 * cosine, atol=1e-6)
    model = diptych.load(tiny_model)
    np.testing.assert_allclose(cosine, model.similarity(said.json["pictures"], said.json["texts"]), atol=1e-6)


def test_compare_prints_tables_and_writes_pictures(cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    plot, shown = tmp_path / "matrix.png", tmp_path / "shown.png"
    options = ("--text", "a dog costs $5 or $6", "--metric", "all", "--plot", plot, "--show-input", shown)
    said = cli("compare", pictures, "a red star", "--model", tiny_model, *options)
    assert said.code == OK
    assert [word for word in said.out.split() if word in ("cosine", "dot", "euclidean")] == [
        "cosine",
        "dot",
        "euclidean",
    ]
    assert said.out.count("below") == 3  # full paths, for one picture lies in a folder below
    assert len(re.findall(r"-?\d\.\d{3}\b", said.out)) == 3 * 8 * 2
    with Image.open(plot) as picture:
        assert picture.width > 3 * 150
        assert picture.height > 8 * 80
    assert Image.open(shown).format == "PNG"
    only = cli("compare", pictures, "a red star", "--model", tiny_model, "--metric", "euclidean")
    assert "cosine" not in only.out


def test_compare_of_many_long_sentences_loses_no_value(cli: Cli, tiny_model: Path, pictures: Path) -> None:
    """Wider than the screen rather than cut off; long sentences are cut in the table's head alone."""
    more = [word for i in range(20) for word in ("--text", f"sentence {i} " + "on and on " * 3)]
    said = cli("compare", pictures / "below", "hill on a " * 6 + "far hill", *more, "--model", tiny_model)
    assert len(re.findall(r"-?\d\.\d{3}\b", said.out)) == 21
    assert said.out.count("scene-7.png") == 1


def test_compare_breaks_no_name_that_fits(
    cli: Cli, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    name = "a-picture-with-a-rather-long-name.png"
    Image.new("RGB", (40, 40), "red").save(tmp_path / name)
    more = [word for i in range(3) for word in ("--text", f"sentence {i} goes on and on for a while")]
    said = cli("compare", tmp_path, "a motorcycle in a garage", *more, "--model", tiny_model)
    assert name in said.out
    assert max(map(len, said.out.splitlines())) <= 80
    said = cli("compare", tmp_path, "a motorcycle in a garage", *more[:2], "--model", tiny_model)
    assert name in said.out
    assert "motorcycle" in said.out


def test_compare_takes_names_as_they_are(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    """Nothing in a name or sentence is markup, emoji code or mathematics."""
    names = ["[bold]x.png", "[red] :dog:.png", "[link=x]y.png"]
    for name in names:
        Image.new("RGB", (40, 40), "red").save(tmp_path / name)
    text, plot = "[/bold] :dog: $x$", tmp_path / "matrix.pdf"
    said = cli("compare", tmp_path, text, "--model", tiny_model, "--plot", plot)
    assert said.code == OK
    assert all(name in said.out for name in (*names, text))
    assert plot.read_bytes().startswith(b"%PDF")
    said = cli("compare", tmp_path, "日本の犬", "--model", tiny_model, "--plot", plot)
    assert "日本の犬" in said.out
    assert said.err.splitlines()[-1] == f"wrote {plot}"
    assert "Warning" not in said.err


def test_compare_tells_equal_names_apart(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (40, 40), "red").save(tmp_path / folder / "x.png")
    said = cli("compare", tmp_path, "a dog", "--model", tiny_model)
    flat = re.sub(r"[\s│]", "", re.sub(r"-?\d\.\d{3}", "", said.out))
    assert f"{tmp_path}/a/x.png" in flat
    assert f"{tmp_path}/b/x.png" in flat


def test_compare_without_pictures(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    said = cli("compare", tmp_path, "a dog", "--model", tiny_model, "--json")
    assert (said.code, said.json["pictures"], said.json["texts"]) == (NOTHING, [], ["a dog"])
    assert f"no pictures in {tmp_path}" in said.err


# --- models, convert, train


def test_models(cli: Cli) -> None:
    said = cli("models", "--json")
    assert said.json["ViT-B/32"] == {"parameters": 151277313, "image_size_px": 224, "dimensions": 512}
    assert "length 1, so that dot equals cosine" in " ".join(cli("compare", "--help").out.split())
    assert cli("models").err.split() == ["architecture", "parameters", "picture", "vector"]
    lines = cli("models").out.splitlines()
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
    found = cli("search", "a red star", pictures, "--model", tmp_path / "run" / "model", "--limit", 1)
    assert (found.code, len(found.out.splitlines())) == (OK, 1)


# --- data


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speeds are measured for a moment only."""
    monkeypatch.setattr("diptych.data.inspect.loader_rate", partial(loader_rate, seconds=0.1))
    monkeypatch.setattr("diptych.training.rate.training_rate", partial(training_rate, seconds=0.1, batch_size=8))


@pytest.mark.usefixtures("hasty")
def test_data_inspect(cli: Cli, shards: Path, tmp_path: Path) -> None:
    sheet, plot = tmp_path / "sheet.png", tmp_path / "plot.png"
    arguments = ("data", "inspect", shards, "--image-size", 32, "--rate", 100)
    said = cli("data", "inspect", shards, "--image-size", 32, "--rate", 100, "--sheet", sheet, "--plot", plot)
    assert said.code == OK, said.err
    assert re.search(r"^samples +96, 96 usable$", said.out, re.M)
    assert re.search(r"^pictures +96 JPEG; short side 48 px$", said.out, re.M)
    assert re.search(r"^speed +[\d,]+ samples/s read at 32 px with 2 threads, 100 trained$", said.out, re.M)
    assert f"{shards}: tar shards" in said.err
    with Image.open(sheet) as picture:
        assert picture.size == (5 * 168 + 8, 4 * (168 + 6 + 4 * 14) + 8)
        assert len(np.unique(np.asarray(picture))) > 50
    with Image.open(plot) as picture:
        assert picture.width > 2 * picture.height
    said = cli(*arguments, "--limit", 12, "--workers", 1, "--json")
    assert (said.json["total"], said.json["looked"], said.json["usable"]) == (96, 12, 12)
    assert said.json["speed"]["workers"] == 1
    assert said.json["speed"]["times"] == pytest.approx(said.json["speed"]["loader"] / 100)
    assert said.json["failures"] == {}


@pytest.mark.usefixtures("hasty")
def test_data_inspect_reports_a_source_too_broken_to_be_timed(cli: Cli, tmp_path: Path) -> None:
    lines = ["image,caption", "good.png,fine", *(f"missing-{i}.png,gone" for i in range(300))]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    Image.effect_noise((40, 40), 60).save(tmp_path / "good.png")
    arguments = ("data", "inspect", tmp_path / "a.csv", "--image-size", 32, "--rate", 100)
    said = cli(*arguments)
    assert said.code == PARTLY
    assert re.search(r"^samples +301, 1 usable$", said.out, re.M)
    assert re.search(r"^speed +not measured \(50 samples in a row are unusable: .*\)$", said.out, re.M)
    said = cli(*arguments, "--json")
    assert (said.code, said.json["usable"], said.json["speed"]) == (PARTLY, 1, None)
    assert said.json["speed_reason"].startswith("50 samples in a row are unusable")


@pytest.mark.usefixtures("hasty")
def test_data_inspect_measures_training_and_names_what_is_broken(cli: Cli, tmp_path: Path) -> None:
    for index in range(3):
        Image.effect_noise((40, 40), 60).save(tmp_path / f"{index}.png")
        (tmp_path / f"{index}.txt").write_text("noise", encoding="utf-8")
    (tmp_path / "1.png").write_bytes(b"")
    options = ("--model", "vit-tiny", "--image-size", 32, "--device", "cpu")
    said = cli("data", "inspect", tmp_path, *options)
    assert said.code == PARTLY
    assert re.search(r"^broken +1\n +.*1\.png: It holds no bytes", said.out, re.M)
    assert re.search(r"^same caption +1 captions of two pictures or more\n +2 x noise$", said.out, re.M)
    assert re.search(r"vit-tiny at 32 px trains \d+ samples/s on cpu", said.err)
    assert "both share the processor" in said.out
    said = cli("data", "inspect", tmp_path, "--image-column", "x")
    assert (said.code, "has no columns" in said.err) == (FAILED, True)
    help_text = cli("data", "inspect", "--help").out
    assert "diptych data inspect pairs/train --sheet sheet.png" in help_text
    assert "--json" in help_text
