"""Drawn pictures are judged by their pixels: true scenes are right, and what is wrong is counted and named."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diptych.cli import PARTLY
from diptych.errors import ArgumentError, CheckpointError, DataError
from diptych.evaluation.sets import generators
from diptych.evaluation.sets.generators import Drawing, open_generated
from diptych.evaluation.sets.opening import open_set
from diptych.evaluation.suite_file import SuiteEntry
from diptych.evaluation.tasks.job import EvaluationJob
from diptych.evaluation.tasks.scene_attributes import scene_attributes_task
from diptych.generation.generator import Generator
from diptych.generation.openvino.pipeline import Drawn
from diptych.scenes.plain import plain_scenes
from tests.conftest import Cli

SCENES = list(plain_scenes(6, size_px=96, split="test", seed=5))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six true scenes, the first of which has the caption of the second; a caption of another kind, a wide picture."""
    out = tmp_path_factory.mktemp("scenes")
    captions = [SCENES[1].captions[0], *[scene.captions[0] for scene in SCENES[1:]]]
    for number, scene in enumerate(SCENES):
        scene.image.save(out / f"{number}.png")
    Image.new("RGB", (60, 40)).save(out / "wide.png")
    SCENES[0].image.save(out / "other.png")
    rows = [*((f"{number}.png", text) for number, text in enumerate(captions)), ("wide.png", "a red star")]
    with (out / "captions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *rows, ("other.png", "two dogs run over snow")])
    return out


def test_what_is_wrong_is_seen_and_what_cannot_be_judged_is_named(folder: Path) -> None:
    job = EvaluationJob(None, open_set(folder / "captions.csv"))  # type: ignore[arg-type]
    outcome = scene_attributes_task(job)
    assert outcome.count == 6
    assert outcome.metrics["things"] == pytest.approx(100 * 5 / 6)
    assert outcome.per_item["things_right"].tolist() == [0, 1, 1, 1, 1, 1]
    assert outcome.metrics["true_scenes_things"] == 100
    assert outcome.metrics["true_scenes_next_caption"] < 20
    assert outcome.failures == {"no caption of a plain scene": 1, "not square, or too small": 1}
    (wrong,) = outcome.worst
    assert (wrong.index, wrong.truth) == (0, SCENES[1].captions[0])
    assert all(f"{thing.colour} {thing.kind}" in wrong.predicted for thing in SCENES[0].things)


def test_a_set_without_such_captions_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "captions.csv").write_text(f"image,caption\n{folder / '0.png'},a dog\n")
    data = open_set(tmp_path / "captions.csv", allow_outside=True)
    with pytest.raises(DataError, match="no picture with a caption of a plain scene"):
        scene_attributes_task(EvaluationJob(None, data))  # type: ignore[arg-type]


class _Perfect(Generator):
    """Draws the scenes of the test split."""

    def __init__(self) -> None:
        self.source, self.size_px, self.asked = "perfect", 32, list[tuple[float, int, int]]()

    def draw(self, prompts, *, guidance, steps, sampler, seed, **_):  # type: ignore[no-untyped-def, override]
        self.asked.append((guidance, steps, seed))
        pictures = {scene.captions[0]: np.asarray(scene.image) for scene in plain_scenes(40, split="test")}
        return Drawn(np.stack([pictures[each] for each in prompts]), np.empty((0, len(prompts), 32, 32, 3), np.uint8))


def test_a_suite_has_a_generator_drawn_and_judged(
    cli: Cli, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    perfect = _Perfect()
    monkeypatch.setattr(generators, "open_generator", lambda source: perfect)
    path = tmp_path / "suite.toml"
    path.write_text(
        '[[dataset]]\nname = "scenes"\nsource = "bundled"\nkind = "generator"\nguidance = 2\nsteps = 3\ncount = 40\n'
    )
    said = cli("evaluate", tiny_model, "--suite", path, "--out", tmp_path / "out", "--json")
    (row,) = said.json["rows"]
    assert (row["error"], row["task"], row["count"]) == (None, "scene-attributes", 40)
    assert row["metrics"]["things"] >= 95
    assert row["metrics"]["relation"] >= 95
    assert row["settings"] | {"guidance": 2, "steps": 3, "count": 40, "sampler": "dpm"} == row["settings"]
    assert perfect.asked == [(2, 3, 0), (2, 3, 32)]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Right: " in page
    assert row["details"]["best"][0]["truth"] in page
    assert "true scenes: all things" in page


def test_a_generator_that_is_none_and_wrong_numbers_are_named(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        open_generated(tmp_path, Drawing())
    with pytest.raises(ArgumentError, match="count=0; it is from 1"):
        Drawing(count=0)
    with pytest.raises(ArgumentError, match='has guidance, which is for kind = "generator"'):
        SuiteEntry("pairs", "pairs", guidance=2.0)
    with pytest.raises(ArgumentError, match="sampler 'euler'; wanted dpm or ddim"):
        SuiteEntry("scenes", "bundled", kind="generator", sampler="euler")  # type: ignore[arg-type]
    path = tmp_path / "suite.toml"
    path.write_text('[[dataset]]\nname = "scenes"\nsource = "bundled"\nkind = "generator"\nguidance = -1\ncount = 1\n')
    said = cli("evaluate", tiny_model, "--suite", path, "--out", tmp_path / "out", "--json")
    assert said.code != PARTLY
    assert "guidance=-1; it is from 0" in said.json["rows"][0]["error"]
