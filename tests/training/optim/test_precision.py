"""Bfloat16, where the processor has it: how near it is to float32, who chooses it, and how it is switched off."""

import json
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import diptych
from diptych.engines import openvino
from diptych.engines.bfloat16 import SWITCH
from diptych.nets.clip import CLIP
from diptych.nets.presets import preset
from diptych.scenes.scene import Scenes
from diptych.training.config import TrainConfig
from diptych.training.optim.muon import Muon
from diptych.training.optim.precision import has_bfloat16
from diptych.training.run.folder import settings_of_run, with_precision, write_settings
from diptych.training.setup import optimizers
from diptych.training.trainer import Trainer, train
from tests.conftest import Cli

CPU = torch.device("cpu")
pytestmark = pytest.mark.precision
bfloat16 = pytest.mark.skipif(not openvino.has_bfloat16(), reason="no bfloat16 here, or it is switched off")


def unable(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's processor is one without bfloat16."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True})


# --- near to float32


@bfloat16
@pytest.mark.parametrize("which", ["tiny", "bundled"])
def test_vectors_are_near_those_of_float32(which: str, tiny_model: Path) -> None:
    source = tiny_model if which == "tiny" else None
    exact, rounded = (diptych.load(source, engine="openvino", precision=p) for p in ("float32", "bfloat16"))
    assert [model.engine.precision for model in (exact, rounded)] == ["float32", "bfloat16"]
    scenes = list(Scenes(12, size_px=64))
    texts, images = [scene.captions[0] for scene in scenes], [scene.image for scene in scenes]
    for mine, theirs in (
        (exact.embed_texts(texts), rounded.embed_texts(texts)),
        (exact.embed_images(images), rounded.embed_images(images)),
    ):
        assert not np.array_equal(mine, theirs)  # two arithmetics
        assert (mine * theirs).sum(axis=1).min() >= 0.999


@bfloat16
def test_batch_mates_move_a_vector_no_further_than_bfloat16_does(tiny_model: Path) -> None:
    model = diptych.load(tiny_model, engine="openvino", precision="bfloat16")
    images, texts = [scene.image for scene in Scenes(5, size_px=64)], ["a dog", "a cat on a hat", "two red stars"]
    together, alone = model.embed_images(images), np.concatenate([model.embed_images([image]) for image in images])
    assert (together * alone).sum(axis=1).min() >= 0.999
    together, alone = model.embed_texts(texts), np.concatenate([model.embed_texts([text]) for text in texts])
    assert (together * alone).sum(axis=1).min() >= 0.999


# --- chosen


@bfloat16
def test_it_is_chosen_where_nothing_is_said(tiny_model: Path) -> None:
    assert diptych.load(tiny_model, engine="openvino").engine.precision == "bfloat16"
    assert has_bfloat16(CPU)


def test_the_environment_switches_it_off(tiny_model: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    monkeypatch.setenv(SWITCH, "0")
    assert diptych.load(tiny_model, engine="openvino").engine.precision == "float32"
    assert not has_bfloat16(CPU)
    assert with_precision(TrainConfig(data=("x",)), CPU, resume=False).precision == "fp32"
    with pytest.raises(ValueError, match=f"precision='bfloat16' was requested; {SWITCH} turns it off"):
        diptych.load(tiny_model, engine="openvino", precision="bfloat16")
    assert cli("doctor", "--json").json["facts"]["bfloat16"].startswith(f"switched off by {SWITCH}")
    monkeypatch.setenv(SWITCH, "nein")
    with pytest.raises(ValueError, match=f"{SWITCH}='nein' is not known; wanted 0"):
        diptych.load(tiny_model, engine="openvino")


# --- in training


def config(shards: Path, out: Path, **changes) -> TrainConfig:
    plain = {"model": "vit-tiny", "image_size": 32, "vocab_size": 600, "epochs": 2, "batch_size": 32, "seed": 5}
    return TrainConfig(data=(str(shards),), out=str(out), device="cpu", **(plain | {"ema": 0.0} | changes))


@bfloat16
def test_a_model_trained_in_it_is_near_one_trained_in_float32(shards: Path, tmp_path: Path) -> None:
    """After the same two epochs, and nearer than what these change."""
    states = {}
    for precision, epochs in (("fp32", 0), ("fp32", 2), ("bf16", 2)):
        recipe = config(shards, tmp_path / f"{precision}-{epochs}", epochs=epochs, precision=precision, dropout=0.0)
        folder = train(recipe, quiet=True).folder
        model = diptych.load(folder, device="cpu", precision="float32")
        states[precision, epochs] = model.embed_texts(["a red star", "a blue fish on a cup", "three cats"])
    start, exact, rounded = states.values()
    apart, moved = 1 - (exact * rounded).sum(axis=1), 1 - (exact * start).sum(axis=1)
    assert apart.max() <= 0.001
    assert (apart < moved / 10).all()


@pytest.mark.parametrize("precision", ["bf16", None], ids=["bf16", "the default"])
def test_a_restart_changes_no_bit(
    precision: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With Muon, whose products are bfloat16, too."""
    whole = train(config(shards, tmp_path / "whole", precision=precision), quiet=True)
    account = Trainer._record_step

    def interrupt(trainer: Trainer, *numbers: float) -> None:
        account(trainer, *numbers)
        if trainer.state.progress.steps == 3:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_record_step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(config(shards, tmp_path / "cut", precision=precision), quiet=True)
    again = train(config(shards, tmp_path / "cut", precision=precision), resume=True, quiet=True)
    name = "model.safetensors"
    assert (whole.folder / name).read_bytes() == (again.folder / name).read_bytes()


def test_a_run_goes_on_in_the_arithmetic_in_which_it_began(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a processor without bfloat16 too: its towers and Muon's products, and it says what that costs."""
    train(config(shards, tmp_path, epochs=0, precision="bf16"), quiet=True)
    unable(monkeypatch)
    used = []
    monkeypatch.setattr("diptych.training.setup.Muon", lambda *a, **k: used.append(k["dtype"]) or Muon(*a, **k))
    train(config(shards, tmp_path, epochs=1), resume=True)
    assert (settings_of_run(tmp_path) or {})["precision"] == "bf16"
    assert {*used} == {torch.bfloat16}
    assert "this CPU has no bf16: it is emulated in float32" in capsys.readouterr().err


def test_one_that_began_without_bfloat16_goes_on_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = TrainConfig(data=("x",), out=str(tmp_path))
    with monkeypatch.context() as patched:
        unable(patched)
        write_settings(tmp_path, with_precision(plain, CPU, resume=False))
    assert json.loads((tmp_path / "run.json").read_text())["precision"] == "fp32"
    assert with_precision(plain, CPU, resume=True).precision == "fp32"


@pytest.mark.parametrize(
    ("precision", "wanted"), [("bf16", torch.bfloat16), ("fp32", torch.float32), ("fp16", torch.float32)]
)
def test_the_run_s_precision_is_muon_s(precision: str, wanted: torch.dtype) -> None:
    """fp16 has too few exponents for what grows fivefold a round."""
    _, muon = optimizers(CLIP(preset("vit-tiny")), replace(TrainConfig(data=("x",)), precision=precision))
    assert isinstance(muon, Muon)
    assert muon.dtype == wanted
