"""`diptych classify`: labels, prompts, class folders and accuracy."""

import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import diptych
from diptych.cli import NOTHING, OK, USAGE
from diptych.media.scanning.image_files import find_images
from diptych.scenes.scene import Scenes
from tests.conftest import Cli, Said


def test_classify(cli: Cli, tiny_model: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPTYCH_BFLOAT16", "0")
    arguments = ("classify", pictures, "--model", tiny_model, "--labels", "circle, star,house,star", "--top", 2)
    said = cli(*arguments, "--json")
    assert said.code == OK
    assert said.json["labels"] == ["circle", "star", "house"]
    assert len(said.json["pictures"]) == 8
    result = diptych.load(tiny_model, precision="float32").classify(
        [said.json["pictures"][0]["path"]], said.json["labels"]
    )
    shares = said.json["pictures"][0]["labels"]
    assert next(iter(shares)) == result.best[0]
    assert list(shares.values()) == pytest.approx(sorted(result.probabilities[0])[::-1][:2], abs=1e-5)
    line = cli(*arguments).out.splitlines()[0]
    assert re.fullmatch(r"\S+scene-7\.png  (\w+ \d+\.\d%  ){1}\w+ \d+\.\d%", line)


def test_classify_with_a_file_of_labels_and_templates(
    cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIPTYCH_BFLOAT16", "0")
    labels, shown = tmp_path / "labels.txt", tmp_path / "shown.png"
    labels.write_bytes("\ufeffcircle\r\n\r\n  red star \r\n".encode())  # as an editor on Windows leaves it
    picture = sorted(pictures.glob("*.png"))[0]
    options = ("--template", "a {}", "--template", "{} there", "--json", "--show-input", shown)
    said = cli("classify", picture, "--labels-file", labels, "--model", tiny_model, *options)
    assert said.json["labels"] == ["circle", "red star"]
    expected = diptych.load(tiny_model, precision="float32").classify(
        [picture], ["circle", "red star"], templates=["a {}", "{} there"]
    )
    found = said.json["pictures"][0]["labels"]
    assert [found["circle"], found["red star"]] == pytest.approx(expected.probabilities[0].tolist(), abs=1e-5)
    assert sum(found.values()) == pytest.approx(1)
    assert Image.open(shown).size == (176, 196)


def test_classify_class_folders(cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    """The folders' names are the labels and the answers; the numbers are those of the printed probabilities."""
    files = find_images(pictures)
    for at, path in enumerate(files):
        place = tmp_path / "set" / ("red_star", "hat", "boat")[at % 3] / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    said = cli("classify", tmp_path / "set", "--model", tiny_model, "--json", "--templates", "general")
    assert said.json["labels"] == ["boat", "hat", "red star"]
    best = [max(row["labels"], key=row["labels"].get) for row in said.json["pictures"]]
    truth = [Path(row["path"]).parent.name.replace("_", " ") for row in said.json["pictures"]]
    right = [one == other for one, other in zip(best, truth, strict=True)]
    assert said.json["accuracy"]["top1"] == pytest.approx(100 * sum(right) / len(right))
    assert sum(pair["count"] for pair in said.json["accuracy"]["confusion"]) == len(files)
    plain = cli("classify", tmp_path / "set", "--model", tiny_model, "--labels", "boat,hat,Red star")
    assert f"% of {len(files)}; mean over classes" in plain.out.splitlines()[-1]
    wrong = [pair for pair in said.json["accuracy"]["confusion"] if pair["label"] != pair["taken_for"]]
    most = max(wrong, key=lambda pair: pair["count"])
    general = cli("classify", tmp_path / "set", "--model", tiny_model, "--templates", "general").out
    assert f"{most['label']} for {most['taken_for']} ({most['count']})" in general.partition("most often mistaken: ")[2]
    fitted = cli("classify", tmp_path / "set", "--model", tiny_model, "--calibrate", tmp_path / "set", "--json")
    assert "labelled pictures instead of the model's" in fitted.err
    assert fitted.json["scale"] != pytest.approx(diptych.load(tiny_model).scale)
    assert cli("classify", tmp_path / "set", "--templates", "plain", "--template", "a {}").code == USAGE
    assert cli("classify", files[0].parent, "--model", tiny_model).code == USAGE  # neither labels nor folders


def _truths(said: Said) -> Counter[str]:
    """How many pictures are of each label, whatever they were taken for."""
    counts = Counter[str]()
    for pair in said.json["accuracy"]["confusion"]:
        counts[pair["label"]] += pair["count"]
    return counts


def test_class_folders_are_the_same_to_all_commands(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    """The outermost folders, whatever lies below; two of one spelling are one class, and said to be."""
    scenes = iter(Scenes(8, size_px=32))
    for kind in ("cat", "Sports_car", "sports car"):
        for room in ("indoor", "outdoor"):
            (tmp_path / "set" / kind / room).mkdir(parents=True)
            next(scenes).image.save(tmp_path / "set" / kind / room / "1.png")
    options = ("--model", tiny_model, "--json")
    classified = cli("classify", tmp_path / "set", *options)
    assert classified.json["labels"] == ["Sports car", "cat"]
    assert _truths(classified) == {"Sports car": 4, "cat": 2}
    probed = cli("probe", tmp_path / "set", *options)
    assert (probed.json["classes"], probed.json["judged_on"]) == (["Sports car", "cat"], 3)
    for said in (classified, probed):
        assert "'Sports_car' and 'sports car'" in said.err
    named = cli("classify", tmp_path / "set", "--labels", "cat,sports CAR", *options)
    assert _truths(named) == {"cat": 2, "sports CAR": 4}
    below = cli("classify", tmp_path / "set" / "cat", "--labels", "cat,dog", *options)
    assert _truths(below) == {"cat": 2}
    fitted = cli("classify", tmp_path / "set", "--calibrate", tmp_path / "set", *options)
    assert "labelled pictures" in fitted.err


def test_classify_is_not_calibrated_where_all_is_right(cli: Cli, tmp_path: Path) -> None:
    """No temperature is too low for pictures that are all right: by their word alone each answer would be certain."""
    for name in ("red", "blue"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (64, 64), name).save(tmp_path / name / "one.png")
    said = cli("classify", tmp_path, "--labels", "red,blue,Red", "--calibrate", tmp_path, "--json")
    assert said.json["labels"] == ["red", "blue"]  # folders are matched in any case
    assert said.json["accuracy"]["top1"] == 100
    assert said.json["scale"] == pytest.approx(diptych.load().scale)
    assert "all 2 labelled pictures are classified correctly" in said.err
    assert "is kept. Add harder pictures" in said.err


def test_classify_with_several_labels_for_a_picture(cli: Cli, tiny_model: Path, pictures: Path) -> None:
    arguments = ("classify", pictures, "--model", tiny_model, "--labels", "star,hat", "--multi-label", "--json")
    shares = [row["labels"] for row in cli(*arguments).json["pictures"]]
    assert any(abs(sum(row.values()) - 1) > 0.01 for row in shares)
    assert all(0 <= share <= 1 for row in shares for share in row.values())


def test_classify_by_the_patches_of_a_picture(cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    arguments = ("classify", pictures, "--model", tiny_model, "--labels", "star,hat,cup", "--json", "--top", "3")
    whole, patches = cli(*arguments), cli(*arguments, "--patches")
    readable = [row["path"] for row in patches.json["pictures"]]
    model = diptych.load(tiny_model)
    wanted = model.classify(readable, ["star", "hat", "cup"], patches=True).probabilities
    said = [[row["labels"][name] for name in ("star", "hat", "cup")] for row in patches.json["pictures"]]
    np.testing.assert_allclose(said, wanted, atol=0.02)  # decoded at a reduced size
    assert [row["path"] for row in whole.json["pictures"]] == readable
    assert whole.json["pictures"] != patches.json["pictures"]
    multi_label = cli(*arguments, "--patches", "--multi-label", "--calibrate", _of_classes(pictures, tmp_path / "set"))
    assert all(0 <= share <= 1 for row in multi_label.json["pictures"] for share in row["labels"].values())


def _of_classes(pictures: Path, folder: Path) -> Path:
    files = sorted(path for path in pictures.rglob("*.png"))[:4]
    for path, name in zip(files, ("star", "hat", "cup", "star"), strict=False):
        (folder / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / name / path.name)
    return folder


def test_classify_without_pictures(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    said = cli("classify", tmp_path, "--labels", "cat", "--model", tiny_model, "--json")
    assert (said.code, said.json["pictures"]) == (NOTHING, [])
    assert f"no pictures in {tmp_path}" in said.err


def test_a_stray_picture_costs_the_accuracy_itself_alone(
    cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path
) -> None:
    folder = _of_classes(pictures, tmp_path / "set")
    whole = cli("classify", folder, "--model", tiny_model, "--json").json["accuracy"]
    shutil.copy(pictures / "scene-5.png", folder / "stray.png")
    said = cli("classify", folder, "--model", tiny_model, "--labels", "star,hat,cup", "--json")
    told = [sum(pair["count"] for pair in each["confusion"]) for each in (said.json["accuracy"], whole)]
    assert told[0] == told[1]
    assert "1 picture in no folder named as a label" in said.err
    refused = cli("classify", folder, "--model", tiny_model, "--labels", "star,hat", "--calibrate", folder)
    assert refused.code == USAGE
    assert f"{folder} has pictures in 'cup', which is no label; wanted folders called star, hat" in refused.err
    assert "left out" not in refused.err
