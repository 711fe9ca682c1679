"""`diptych index`, `index duplicates` and `doctor`: what is printed and returned."""

import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

import diptych
from diptych.cli import NOTHING, OK, PARTLY, USAGE
from diptych.index.catalog.catalog import Catalog
from tests.conftest import Cli


def test_index_makes_and_updates(cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    """With the readers' processes and a model on its engine; the index remembers which."""
    folder = tmp_path / "pictures"
    shutil.copytree(pictures, folder, ignore=shutil.ignore_patterns(".diptych"))
    (folder / "broken.jpg").write_text("no picture")
    said = cli("index", folder, "--model", tiny_model)
    assert said.code == PARTLY
    assert re.fullmatch(r"8 added, 0 changed, 0 renamed, 0 forgotten, 0 unchanged in .* s", said.out.splitlines()[0])
    assert "left out 1: 1 not an image" in said.err
    (folder / "scene-0.png").unlink()
    (folder / "scene-1.png").rename(folder / "one.png")
    said = cli("index", folder, "--json", "--exclude", "below/")
    assert said.code == PARTLY  # for as long as it is broken
    wanted = {"added": 0, "renamed": 1, "forgotten": 2, "unchanged": 5, "failed_before": 1, "indexed_pictures": 6}
    assert wanted.items() <= said.json.items()
    assert "broken.jpg" in said.json["failures"]
    assert said.json["indexed_failed"] == 1
    assert "left out 1: 1 not an image (1 of them as before: diptych doctor FOLDER lists all)" in said.err
    searched = cli("search", "a red star", folder, "--json")  # which looks the folder over, too
    assert searched.json["searched"] == 6
    for how in ("--update", "--no-update"):
        searched = cli("search", "a red star", folder, "--json", how)
        assert searched.code == OK  # it was named before
        assert list(searched.json["failures"]) == [str(folder / "broken.jpg")]
    assert "left out as before: below/" in cli("index", folder).err
    assert cli("index", folder, "--exclude", "", "--json").json["added"] == 1
    model = diptych.load(tiny_model)
    with Catalog.open(folder / ".diptych" / "catalog.sqlite") as catalog:
        (item,) = catalog.items(catalog.matching("path = 'one.png'"))
        cosine = catalog.vectors_of([item.id])[0] @ model.embed_images([folder / "one.png"])[0]
        assert cosine == pytest.approx(1, abs=0.01)


def test_index_of_nothing_and_wrong_uses(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    assert cli("index", tmp_path, "--model", tiny_model).code == NOTHING
    assert cli("index", tmp_path / "missing").code == USAGE
    assert "--vectors, which is missing" in cli("index", tmp_path, "--paths", __file__).err
    assert cli("index", tmp_path, "--watch", "--reindex").code == USAGE


def test_index_says_what_became_of_vectors(cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "vectors"
    shutil.copytree(pictures, folder, ignore=shutil.ignore_patterns(".diptych"))
    assert cli("embed", folder, out, "--model", tiny_model).code == OK
    (folder / "scene-0.png").unlink()
    said = cli("index", folder, "--model", tiny_model, "--vectors", out, "--json")
    others = {"of_indexed_files": 0, "not_finite": 0, "read_otherwise_today": 0, "repeated": 0}
    assert said.json["vectors"] == {"taken": 7, "of_no_file_here": 1, **others}
    said = cli("index", folder, "--vectors", out)
    assert "vectors: 7 of indexed files, 1 of no file here (--reindex takes these)" in said.out


def test_doctor_of_the_installation(cli: Cli) -> None:
    said = cli("doctor", "--json")
    assert said.code == OK
    assert said.json["findings"] == []
    assert said.json["facts"]["diptych"] == diptych.__version__


def test_index_duplicates(cli: Cli, tiny_model: Path, several: Path) -> None:
    shutil.copy(several / "1.png", several / "copy of 1.png")
    with Image.open(several / "1.png") as picture:
        picture.resize((96, 128)).save(several / "large.png")
    assert cli("index", several, "--model", tiny_model).code == OK
    said = cli("index", "duplicates", several, "--json", "--threshold", 0.99)
    (group,) = said.json["groups"]
    assert [Path(copy["path"]).name for copy in group] == ["large.png", "1.png", "copy of 1.png"]
    assert "1 group with 2 copies among 5 pictures" in said.err
    lines = cli("index", "duplicates", several, "--paths", "--threshold", 0.99).out.splitlines()
    assert lines == [f"{several}/1.png", f"{several}/copy of 1.png"]
    assert cli("index", "duplicates", several, "--threshold", 0.99).out.splitlines()[0].split()[:4] == [
        "1.000",
        "96",
        "x",
        "128",
    ]
