"""`diptych compare`: tables, plots and JSON."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import diptych
from diptych.cli import NOTHING, OK
from tests.conftest import Cli


def test_compare_as_json(
    cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder and one more picture, a text file and one more sentence."""
    monkeypatch.setenv("DIPTYCH_BFLOAT16", "0")
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


def test_a_wide_table_keeps_its_values(
    cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wider than the terminal rather than without some of its columns."""
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "captions.txt").write_text("\n".join(f"a star number {number}" for number in range(60)))
    said = cli("compare", pictures / "scene-0.png", tmp_path / "captions.txt", "--model", tiny_model)
    values = re.findall(r"-?\d\.\d{3}", said.out)
    assert len(values) == 60
