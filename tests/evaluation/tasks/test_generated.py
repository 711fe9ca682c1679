"""Generated pictures are scored as by hand from the same vectors, and what is wrong with a set is said."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import diptych
from diptych.cli import FAILED, PARTLY
from diptych.embedder import Embedder
from diptych.errors import DataError
from diptych.evaluation.report.page import write_report
from diptych.evaluation.sets.dataset import PictureDataset
from diptych.evaluation.sets.opening import open_set
from diptych.evaluation.tasks.generated import clip_score_task, cmmd_task
from diptych.evaluation.tasks.job import EvaluationJob
from tests.conftest import Cli

PROMPTS = {
    "0.png": ["a red circle", "a round thing", "red"],
    "1.png": ["a blue star"],
    "2.png": ["a blue star", "a star"],
    "3.png": ["a green square"],
}


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Embedder:
    return diptych.load(tiny_model, precision="float32")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four noisy pictures with prompts and references in a table, and one that is broken."""
    folder = tmp_path_factory.mktemp("drawn")
    draw = np.random.default_rng(0)
    for name in PROMPTS:
        Image.fromarray(draw.integers(0, 256, (40, 40, 3)).astype(np.uint8)).save(folder / name)
    (folder / "4.png").write_bytes(b"no picture")
    rows = [(name, text) for name, texts in (*PROMPTS.items(), ("4.png", ["a dot"])) for text in texts]
    with (folder / "captions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *rows])
    return folder


@pytest.fixture(scope="module")
def true(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three grey pictures, one of them below, and notes that are none."""
    folder = tmp_path_factory.mktemp("true")
    (folder / "below").mkdir()
    for level, name in ((20, "a.png"), (120, "b.png"), (220, "below/c.png")):
        Image.new("L", (40, 40), level).save(folder / name)
    (folder / "notes.txt").write_text("grey")
    return folder


def score(model: Embedder, name: str, text: str, folder: Path) -> float:
    (image,), (words,) = model.embed_images(folder / name, decode="fast"), model.embed_texts(text)
    return 2.5 * max(float(image @ words), 0.0)


def test_clip_score_is_that_of_the_first_captions(model: Embedder, drawn: Path) -> None:
    outcome = clip_score_task(EvaluationJob(model, open_set(drawn / "captions.csv")))
    own = [score(model, name, texts[0], drawn) for name, texts in PROMPTS.items()]
    assert outcome.metrics["clip_score"] == pytest.approx(100 * np.mean(own), abs=1e-3)
    np.testing.assert_allclose(outcome.per_item["clip_score_right"], own, atol=1e-5)
    assert outcome.per_item["places"].tolist() == [0, 1, 2, 3]
    assert (outcome.count, outcome.failures) == (4, {"not an image": 1})
    # The next of the three distinct prompts
    nexts = ["a blue star", "a green square", "a green square", "a red circle"]
    others = [score(model, name, text, drawn) for name, text in zip(PROMPTS, nexts, strict=True)]
    assert outcome.metrics["clip_score_other_prompts"] == pytest.approx(100 * np.mean(others), abs=1e-3)
    best, worst = outcome.best[0], outcome.worst[0]
    assert 0 < max(own) == pytest.approx(own[best.index])
    assert own[worst.index] == min(own)
    assert best.truth == PROMPTS[f"{best.index}.png"][0]
    assert best.score == pytest.approx(max(own), abs=1e-5)


def test_references_are_the_other_captions(model: Embedder, drawn: Path) -> None:
    outcome = clip_score_task(EvaluationJob(model, open_set(drawn / "captions.csv")))
    wanted = []
    for name, (prompt, *references) in PROMPTS.items():
        if references:
            clip = score(model, name, prompt, drawn)
            nearest = max(0.0, float((model.embed_texts(references) @ model.embed_texts(prompt)[0]).max()))
            wanted.append(2 * clip * nearest / (clip + nearest) if clip else 0.0)
    assert outcome.details["with_references"] == 2
    assert outcome.metrics["reference_clip_score"] == pytest.approx(100 * np.mean(wanted), abs=1e-3)


def test_a_prompt_alone_has_neither_references_nor_others(model: Embedder, drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "captions.csv").write_text(f"image,caption\n{drawn / '0.png'},a red circle\n")
    data = open_set(tmp_path / "captions.csv", allow_outside=True)
    assert list(clip_score_task(EvaluationJob(model, data)).metrics) == ["clip_score"]


def test_cmmd_is_that_of_the_vectors(model: Embedder, drawn: Path, true: Path) -> None:
    data, reference = open_set(drawn, kind="pictures"), open_set(true, kind="pictures")
    assert isinstance(reference, PictureDataset)
    assert list(reference.pictures.keys) == ["a.png", "b.png", "below/c.png"]
    outcome = cmmd_task(EvaluationJob(model, data, reference=(str(true), reference)))
    x = model.embed_images([drawn / name for name in PROMPTS], decode="fast")
    y = model.embed_images([true / name for name in reference.pictures.keys], decode="fast")
    assert outcome.metrics["cmmd"] == pytest.approx(diptych.cmmd(x, y), abs=1e-3)
    assert outcome.metrics["cmmd_biased"] == pytest.approx(diptych.cmmd(x, y, biased=True), abs=1e-3)
    assert outcome.metrics["cmmd_biased"] > outcome.metrics["cmmd"]
    assert (outcome.count, outcome.details["references"], outcome.failures) == (4, 3, {"not an image": 1})


def test_what_a_task_lacks_is_said(model: Embedder, drawn: Path, true: Path, tmp_path: Path) -> None:
    alone = open_set(true, kind="pictures")
    with pytest.raises(DataError, match="the set has pictures alone, without classes and captions; its task is cmmd"):
        clip_score_task(EvaluationJob(model, alone))
    with pytest.raises(DataError, match='cmmd compares with true pictures; set reference = "FOLDER"'):
        cmmd_task(EvaluationJob(model, alone))
    Image.new("L", (8, 8)).save(tmp_path / "one.png")
    one = open_set(tmp_path, kind="pictures")
    with pytest.raises(DataError, match="two sets of two pictures or more"):
        cmmd_task(EvaluationJob(model, alone, reference=("one", one)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty has no pictures in it"):
        open_set(tmp_path / "empty", kind="pictures")
    with pytest.raises(DataError, match=r"gone is not there; .*kind = \"pictures\" a folder of pictures alone"):
        open_set(tmp_path / "gone", kind="pictures")


def test_evaluate_scores_generated_pictures(
    cli: Cli, drawn: Path, true: Path, tiny_model: Path, tmp_path: Path
) -> None:
    tables = [
        f'name = "words"\nsource = "{drawn / "captions.csv"}"\ntasks = ["clip-score"]',
        f'name = "likeness"\nsource = "{drawn}"\nkind = "pictures"\nreference = "{true}"',
        f'name = "lost"\nsource = "{drawn}"\nkind = "pictures"\nreference = "nowhere"',
    ]
    path = tmp_path / "suite.toml"
    path.write_text("\n".join(f"[[dataset]]\n{table}" for table in tables))
    said = cli("evaluate", tiny_model, "--suite", path, "--out", tmp_path / "out", "--json")
    assert said.code == PARTLY
    words, likeness, lost = said.json["rows"]
    assert words["metrics"].keys() == {"clip_score", "reference_clip_score", "clip_score_other_prompts"}
    assert (likeness["task"], likeness["settings"]["reference"]) == ("cmmd", str(true))
    assert likeness["metrics"].keys() == {"cmmd", "cmmd_biased"}
    assert "the reference: " in lost["error"]
    assert "nowhere is not there" in lost["error"]
    assert "cmmd " in said.err
    page = (tmp_path / "out" / "report.html").read_text()
    assert "CLIP score, times 100" in page
    assert "CMMD (lower is better)" in page
    assert write_report(tmp_path / "out").read_text() == page

    path.write_text(f"[[dataset]]\n{tables[2]}")
    assert cli("evaluate", tiny_model, "--suite", path, "--out", tmp_path / "other").code == FAILED
