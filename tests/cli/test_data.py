"""`diptych data inspect`: what is printed, drawn and measured."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diptych.cli import FAILED, OK, PARTLY
from diptych.data.inspection import loader_rate
from diptych.training.diagnostics.throughput import training_throughput
from tests.conftest import Cli


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speeds are measured for a moment only."""
    monkeypatch.setattr("diptych.data.inspection.loader_rate", partial(loader_rate, seconds=0.1))
    monkeypatch.setattr(
        "diptych.training.diagnostics.throughput.training_throughput",
        partial(training_throughput, seconds=0.1, batch_size=8),
    )


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
    assert re.search(r"^broken +1\n +.*1\.png: It has no bytes", said.out, re.M)
    assert re.search(r"^same caption +1 captions of two pictures or more\n +2 x noise$", said.out, re.M)
    assert re.search(r"vit-tiny at 32 px trains \d+ samples/s on cpu", said.err)
    assert "both share the CPU" in said.out
    said = cli("data", "inspect", tmp_path, "--image-column", "x")
    assert (said.code, "has no columns" in said.err) == (FAILED, True)
    help_text = cli("data", "inspect", "--help").out
    assert "diptych data inspect pairs/train --sheet sheet.png" in help_text
    assert "--json" in help_text
