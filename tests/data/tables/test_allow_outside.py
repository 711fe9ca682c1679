"""--allow-outside wherever data is taken: without it what lies elsewhere is left out, counted and named."""

from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from diptych.cli import FAILED, OK, PARTLY
from diptych.data.inspection import loader_rate
from diptych.media.preprocessing import Preprocess
from diptych.training.config import TrainConfig
from diptych.training.setup import open_sources
from diptych.training.validation import Validation
from tests.conftest import Cli


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table of six pictures, four beside it, and two in a folder that nobody named."""
    for index in range(6):
        folder = tmp_path / "set" if index < 4 else tmp_path / "private"
        folder.mkdir(exist_ok=True)
        Image.effect_noise((40, 40), 60 + index).save(folder / f"{index}.png")
    rows = [f"{'../private/' if index > 3 else ''}{index}.png,noise number {index}" for index in range(6)]
    (tmp_path / "set" / "t.csv").write_text("\n".join(["image,caption", *rows]))
    return tmp_path / "set" / "t.csv"


NAMED = "2 with a file outside of the source (../private/4.png, ../private/5.png), which allow_outside lets in"


def test_data_inspect(cli: Cli, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.data.inspection.loader_rate", partial(loader_rate, seconds=0.05))
    arguments = ("data", "inspect", table, "--image-size", 32, "--rate", 100, "--json")
    said = cli(*arguments)
    assert (said.code, said.json["usable"], sum(said.json["skipped"].values())) == (OK, 4, 2)
    said = cli(*arguments, "--allow-outside")
    assert (said.code, said.json["usable"], said.json["skipped"]) == (OK, 6, {})


def test_embed(cli: Cli, table: Path, tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    said = cli("embed", table, tmp_path / "out", "--model", tiny_model, "--json")
    assert (said.code, said.json["rows"]) == (OK, 4)
    assert NAMED in " ".join(said.err.split())
    said = cli("embed", table, tmp_path / "all", "--model", tiny_model, "--json", "--allow-outside")
    assert (said.json["rows"], said.json["skipped"]) == (6, {})
    table.write_text("image,caption\n../private/4.png,noise\n")
    said = cli("embed", table, tmp_path / "none", "--model", tiny_model)
    assert said.code == FAILED
    assert "a folder that contains it and the pictures; or, if you trust it, --allow-outside reads them." in " ".join(
        said.err.split()
    )


def test_evaluate(cli: Cli, table: Path, tiny_model: Path, tmp_path: Path) -> None:
    suite = tmp_path / "suite.toml"
    suite.write_text('[[dataset]]\nname = "noise"\nsource = "set/t.csv"\ntasks = ["retrieval"]\n')
    arguments = ("evaluate", tiny_model, "--suite", suite, "--out", tmp_path / "results", "--json")
    said = cli(*arguments)
    assert said.code in (OK, PARTLY), said.err
    [row] = said.json["rows"]
    assert (row["count"], row["details"]["said"]) == (4, f"left out {NAMED}")
    [row] = cli(*arguments, "--allow-outside").json["rows"]
    assert (row["count"], "said" in row["details"], "--allow-outside" in row["command"]) == (6, False, True)
    suite.write_text(suite.read_text() + "allow_outside = true\n")  # not for a file to say
    said = cli(*arguments)
    assert said.code != OK
    assert "unknown key 'allow_outside'" in said.err


def test_class_folders(tmp_path: Path) -> None:
    from diptych.evaluation.sets.dataset import LabelledDataset
    from diptych.evaluation.sets.opening import open_set

    for kind in ("cat", "dog"):
        (tmp_path / "set" / kind).mkdir(parents=True)
        for index in range(2):
            Image.effect_noise((20, 20), 60).save(tmp_path / "set" / kind / f"{index}.png")
    Image.effect_noise((20, 20), 60).save(tmp_path / "own.png")
    (tmp_path / "set" / "dog" / "own.png").symlink_to(tmp_path / "own.png")
    found = open_set(tmp_path / "set")
    assert isinstance(found, LabelledDataset)
    assert list(found.pictures.keys) == ["cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png"]
    allowed = open_set(tmp_path / "set", allow_outside=True)
    assert len(allowed.pictures) == 5


def test_train(table: Path) -> None:
    """Both sources of a run, and what it keeps of its settings."""
    config = TrainConfig(data=(str(table),), val=str(table))
    [source] = open_sources(config)
    assert list(source.skipped.values()) == [2]
    validation = Validation.open(config, Preprocess(32))
    assert (len(validation.pixels), validation.left_out()) == (4, f"{NAMED} left out")
    allowed = TrainConfig(data=(str(table),), val=str(table), allow_outside=True)
    assert len(Validation.open(allowed, Preprocess(32)).pixels) == 6


def test_the_pictures_that_a_model_is_calibrated_with(table: Path, tiny_model: Path) -> None:
    import diptych
    from diptych.exporting import samples

    model = diptych.load(tiny_model)
    assert [len(samples(model, table, allow_outside=allow)[0].pixels) for allow in (False, True)] == [4, 6]
