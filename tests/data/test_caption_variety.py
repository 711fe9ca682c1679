"""Captions that can teach nothing stop a run before it starts."""

from pathlib import Path

import pytest
from PIL import Image

from diptych.data.caption_variety import monotony, require_variety
from diptych.data.sources.opening import open_source
from diptych.errors import DataError
from tests.conftest import Cli


def fill(folder: Path, captions: list[str]) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    for number, caption in enumerate(captions):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(caption)
    return folder


def test_one_caption_for_most(tmp_path: Path) -> None:
    source = open_source(fill(tmp_path, ["train"] * 7 + [f"a dog {number}" for number in range(3)]))
    with pytest.raises(DataError, match=r"'train' is the caption of 70% of its samples.*learns nothing"):
        require_variety(source, tmp_path)
    assert monotony(open_source(fill(tmp_path, ["train"] * 5 + [f"a dog {number}" for number in range(5)]))) is None


def test_numbers_are_no_captions(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("Id,label\n0,3\n1,7\n")
    fill(tmp_path, ["x", "y"])
    with pytest.raises(DataError, match=r"its captions are only numbers \('3'\)"):
        require_variety(open_source(tmp_path / "t.csv"), "t")


def test_two_classes_are_enough(tmp_path: Path) -> None:
    """Unless nearly all pictures are of one."""
    for name, count in (("cat", 12), ("dog", 4)):
        folder = fill(tmp_path / name, ["x"] * count)
        for text in folder.glob("*.txt"):
            text.unlink()
    assert monotony(open_source(tmp_path)) is None
    for number in (1, 2, 3):
        (tmp_path / "dog" / f"{number}.png").unlink()
    assert "'cat'" in str(monotony(open_source(tmp_path)))


def test_the_run_stops_before_it_starts(tmp_path: Path, cli: Cli) -> None:
    data = fill(tmp_path / "data", ["images"] * 6)
    options = ("--out", tmp_path / "run", "--model", "vit-tiny", "--epochs", "1", "--batch-size", "4")
    said = cli("train", "--data", data, *options)
    assert (said.code, "is the caption of 100% of its samples" in said.err) == (1, True)
    assert not list((tmp_path / "run").glob("*/model*"))
    good = fill(tmp_path / "good", [f"a {number}" for number in range(4)])
    assert f"{data}: 'images' is the caption" in cli("train", "--data", good, "--val", data, *options).err
    report = cli("data", "inspect", data, "--rate", "1", "--image-size", "8")
    assert (report.code, "captions!" in report.out) == (0, True)
