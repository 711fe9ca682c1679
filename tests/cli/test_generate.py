"""diptych generate"""

import json
from pathlib import Path

import pytest
from PIL import Image

from diptych.cli.exit_codes import FAILED, OK, USAGE
from tests.conftest import Cli


@pytest.fixture(scope="module")
def folder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from diptych.generation.config import GenerateConfig
    from diptych.generation.training.run import train_generator

    out = tmp_path_factory.mktemp("runs") / "tiny"
    config = GenerateConfig(model=str(tiny_model), out=str(out), size_px=24, channels=(8, 8), batch_size=2, steps=1)
    return train_generator(config).folder


def test_pictures_are_named_by_their_words_and_seeds(cli: Cli, folder: Path, tmp_path: Path) -> None:
    said = cli(
        "generate", "A red circle, above!", "--generator", folder, "--out", tmp_path, "--count", 2, "--steps", 2,
        "--seed", 7, "--enlarge", 3, "--grid", tmp_path / "grid.png", "--strip", tmp_path / "strip.png",
    )  # fmt: skip
    assert said.code == OK
    paths = [tmp_path / f"a-red-circle-above-{seed}.png" for seed in (7, 8)]
    assert said.out.split() == [str(path) for path in paths]
    for path in paths:
        with Image.open(path) as picture:
            assert picture.size == (72, 72)
    for name in ("grid.png", "strip.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 150


def test_reranking_keeps_the_best(cli: Cli, folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    said = cli(
        "generate", "a star", "--generator", folder, "--out", tmp_path, "--count", 2, "--rerank", 4, "--steps", 1,
        "--model", tiny_model, "--json",
    )  # fmt: skip
    assert said.code == OK
    found = json.loads(said.out)
    scores = [picture["score"] for picture in found["pictures"]]
    assert len(scores) == 2
    assert scores == sorted(scores, reverse=True)
    assert found["size_px"] == 24
    assert all(Path(picture["path"]).is_file() for picture in found["pictures"])


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["  "], FAILED, "wanted words that say what to draw"),
        (["star " * 90], FAILED, "this model reads"),
        (["a star", "--guidance", "-1"], USAGE, "guidance"),
        (["a star", "--generator", "nowhere"], FAILED, "nowhere"),
        (["a star", "--rerank", "2"], USAGE, "fewer pictures than --count 4"),
        (["a star", "--model", "m"], USAGE, "--model is for --rerank"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_words(
    cli: Cli, folder: Path, tmp_path: Path, words: list[str], code: int, message: str
) -> None:
    named = [] if "--generator" in words else ["--generator", folder]
    said = cli("generate", *words, *named, "--out", tmp_path)
    assert said.code == code
    assert message in said.err
    assert not list(tmp_path.iterdir())


def test_a_generator_is_trained_and_goes_on(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ["--model", tiny_model, "--size", 24, "--channels", "8,8", "--batch-size", 2, "--steps", 1]
    said = cli("generate", "train", "--out", out, *options)
    assert said.code == OK
    assert said.out.strip() == str(out / "generator")
    more = cli("generate", "train", "--out", out, "--resume", "--steps", 2, "--json")
    assert more.code == OK
    assert json.loads(more.out)["steps"] == 2
    again = cli("generate", "train", "--out", out, *options)
    assert again.code in (FAILED, USAGE)
    assert "has a run already" in again.err
    odd = cli("generate", "train", "--out", tmp_path / "odd", "--size", 30)
    assert odd.code == USAGE
    assert "take a multiple of 8" in odd.err
    assert cli("generate", "train", "--out", tmp_path / "odd", "--channels", "8;9").code == USAGE
