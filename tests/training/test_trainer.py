"""Training: it learns, it is exact, and it says what is wrong."""

import collections
import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import together

import diptych
from diptych.checkpoint import save_folder
from diptych.cli import run
from diptych.data.loading.augmentation import NONE
from diptych.data.loading.loader import Batch
from diptych.engines.bfloat16 import SWITCH
from diptych.errors import DataError
from diptych.media.preprocessing import Preprocess
from diptych.nets import presets
from diptych.nets.clip import CLIP
from diptych.nets.config import CLIPConfig, TextConfig, ViTConfig
from diptych.nets.presets import preset
from diptych.scenes.scene import Scenes
from diptych.training.config import FROM_MODEL, TrainConfig, schedule
from diptych.training.diagnostics.monitor import Monitor
from diptych.training.optim.ema import update_ema
from diptych.training.parallel.distributed import ProcessInfo
from diptych.training.run.folder import open_run_folder, with_precision, write_settings
from diptych.training.run.metrics_file import read_metrics
from diptych.training.setup import set_dropout
from diptych.training.trainer import Trainer, train
from tests.conftest import Cli


def config(shards: Path, out: Path, **changes) -> TrainConfig:
    plain = {"model": "vit-tiny", "image_size": 48, "vocab_size": 700, "epochs": 2, "batch_size": 32}
    plain |= {"precision": "fp32", "device": "cpu", "eval_every": 1}
    if "init" in changes:  # which brings its own
        plain = {name: value for name, value in plain.items() if name not in FROM_MODEL}
    return TrainConfig(data=(str(shards),), out=str(out), **{**plain, **changes})


@pytest.mark.parametrize(("model", "size_px"), [("vit-tiny", 32), ("resnet-tiny", 64)])
def test_one_batch_of_64_is_learnt_by_heart(shards: Path, tmp_path: Path, model: str, size_px: int) -> None:
    """From about ln 64 to under 0.05. The start is read at temperature 1, for at CLIP's own 1/14 the scatter of a tiny
    random model's cosines counts fourteenfold, up to 1 above ln 64."""
    recipe = config(
        shards, tmp_path, model=model, image_size=size_px, batch_size=64, captions_per_image=1, augmentation=NONE,
        drop_path=0.0, dropout=0.0, weight_decay=0.0, lr=2e-3, warmup=0.1, epochs=200,
    )  # fmt: skip
    with Monitor(tmp_path, quiet=True) as monitor:
        trainer = Trainer(recipe, monitor, torch.device("cpu"), ProcessInfo(), tmp_path)
        batch = unlike_pairs(next(trainer.loader.batches()))
        trainer.state.network.train()
        with torch.no_grad():
            trainer.state.network.logit_scale.zero_()
            assert loss_of(trainer, batch) == pytest.approx(math.log(64), abs=0.05)
            trainer.state.network.logit_scale.fill_(math.log(1 / 0.07))
        for step in range(200):
            trainer.step(batch, 0.1 + 0.5 * step / 200)
            if (loss := loss_of(trainer, batch)) < 0.05:
                break
        assert loss < 0.05


def loss_of(trainer: Trainer, batch: Batch) -> float:
    """Without a step; the gradients are thrown away by the next one."""
    with torch.enable_grad():
        return trainer.optimizer_step.backward(batch)[0].item()


def unlike_pairs(batch: Batch) -> Batch:
    """Captions made unlike, for two scenes may by chance be described in the same words."""
    return batch._replace(captions=[f"{caption} {i}" for i, caption in enumerate(batch.captions)])


def test_a_run_leaves_a_model_and_its_numbers(shards: Path, tmp_path: Path) -> None:
    result = train(config(shards, tmp_path, val=str(shards), scenes=0.25), quiet=True)
    assert result.folder == tmp_path / "model"
    assert {p.name for p in result.folder.iterdir()} >= {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "preprocessor_config.json",
    }
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["text_to_image"] == list(result.retrieval.text_to_image)
    model = diptych.load(result.folder, device="cpu")
    assert model.embed_texts(["a red circle"]).shape == (1, 64)
    assert model.known_words is not None
    assert model.known_words.words >= {"red", "circle"}
    assert not model.known_words.knows("quantum")


def test_same_seed_same_weights(shards: Path, tmp_path: Path) -> None:
    """Whatever the number of threads that read the data."""
    states = []
    for threads in (1, 3):
        folder = train(config(shards, tmp_path / str(threads), threads=threads, epochs=1), quiet=True).folder
        states.append((folder / "model.safetensors").read_bytes())
    assert states[0] == states[1]


def test_init_goes_on_from_a_model_at_another_size(shards: Path, tmp_path: Path, tiny_model: Path) -> None:
    result = train(config(shards, tmp_path, init=str(tiny_model), image_size=64, lr=0.0, muon_lr=0.0), quiet=True)
    before, after = (
        diptych.load(tiny_model, device="cpu", precision="float32"),
        diptych.load(result.folder, device="cpu", precision="float32"),
    )
    assert after.preprocessing.size_px == 64
    assert after.known_words is None  # the first model's are not known
    np.testing.assert_allclose(after.embed_texts(["a dog"]), before.embed_texts(["a dog"]), atol=1e-6)


def test_init_keeps_the_models_own_preprocessing(shards: Path, tmp_path: Path, tiny_model: Path) -> None:
    settings = Preprocess(32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), mode="squash")
    source = diptych.load(tiny_model, device="cpu")
    save_folder(
        tmp_path / "squash",
        source.network,
        tokenizer_json=(tiny_model / "tokenizer.json").read_text(encoding="utf-8"),
        preprocess=settings.to_hugging_face(),
    )
    result = train(config(shards, tmp_path / "run", init=str(tmp_path / "squash"), image_size=64, epochs=0), quiet=True)
    assert diptych.load(result.folder, device="cpu").preprocessing == dataclasses.replace(settings, size_px=64)


def test_a_siglip_trained_here_reads_text_alike_when_it_is_loaded(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its text tower reads its padding: training and loading must pad alike."""
    image = ViTConfig(48, 8, 64, 2, 2, 256, "gelu_tanh", pool="map", norm_pre=False, patch_bias=True)
    text = TextConfig(
        16, 700, 64, 2, 2, 256, "gelu_tanh", pool="last", causal=False, end_id=1, pad_id=1, proj_bias=True
    )
    monkeypatch.setitem(presets.PRESETS, "siglip-tiny", CLIPConfig(64, image, text, loss="sigmoid"))
    recipe = config(shards, tmp_path, model="siglip-tiny", context=16, epochs=1, ema=0.0)
    with Monitor(tmp_path, quiet=True) as monitor:
        trainer = Trainer(recipe, monitor, torch.device("cpu"), ProcessInfo(), tmp_path)
        result = trainer.run()
    ids = torch.from_numpy(trainer.tokenizer(["a red circle"]).ids)
    assert ids.shape == (1, 16)
    here = torch.nn.functional.normalize(trainer.state.average.encode_text(ids), dim=-1).detach().numpy()
    loaded = diptych.load(result.folder, device="cpu", precision="float32")
    np.testing.assert_allclose(loaded.embed_texts(["a red circle"]), here, atol=1e-6)
    assert loaded.bias == pytest.approx(-10, abs=0.1)
    assert loaded.preprocessing.mode == "squash"


def test_a_folder_that_holds_a_run_is_refused_before_any_work(shards: Path, tmp_path: Path) -> None:
    train(config(shards, tmp_path / "run", epochs=0), quiet=True)
    with pytest.raises(ValueError, match=r"has a run already\. Name another folder"):
        train(config(shards, tmp_path / "run"), quiet=True)


def test_a_run_that_failed_before_its_first_step_does_not_block_its_folder(tmp_path: Path) -> None:
    write_settings(tmp_path, TrainConfig(data=("x",)))
    (tmp_path / "metrics.jsonl").touch()
    assert open_run_folder(TrainConfig(data=("y",), out=str(tmp_path)), resume=False) == tmp_path
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(ValueError, match="has a run already"):
        open_run_folder(TrainConfig(data=("y",), out=str(tmp_path)), resume=False)


def test_to_go_on_with_nothing_is_said(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(config(shards, tmp_path / "run", epochs=0, val=None), resume=True)
    said = capsys.readouterr().err
    assert f"{tmp_path / 'run'} has no checkpoint to resume from: the run starts" in said
    assert "0 steps · saved" in said


def test_precision_is_the_devices_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 where the processor has it; a run that goes on keeps its own."""
    monkeypatch.delenv(SWITCH, raising=False)
    plain, cpu = TrainConfig(data=("x",), out=str(tmp_path)), torch.device("cpu")
    for able, wanted in [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx512_f": True}, "fp32")]:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        assert with_precision(plain, cpu, resume=False).precision == wanted
    assert with_precision(replace(plain, precision="fp16"), cpu, resume=False).precision == "fp16"
    write_settings(tmp_path, replace(plain, precision="bf16"))
    assert with_precision(plain, cpu, resume=True).precision == "bf16"


def test_without_a_name_the_next_free_folder_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "1").mkdir(parents=True)
    assert [open_run_folder(TrainConfig(data=("x",)), resume=False) for _ in range(2)] == [
        Path("runs/2"),
        Path("runs/3"),
    ]


def test_a_failed_start_without_a_name_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError):
        train(TrainConfig(data=("nowhere",), device="cpu"), quiet=True)
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_failed_start_leaves_no_folder(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no preset"):
        train(config(shards, tmp_path / "run", model="vit-tinny"), quiet=True)
    assert not (tmp_path / "run").exists()


def test_an_interrupted_run_leaves_its_weights(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(trainer: Trainer, *_: object) -> None:
        trainer.state.progress.steps += 1
        if trainer.state.progress.steps == 4:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "_record_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(config(shards, tmp_path / "run", epochs=50))
    said = capsys.readouterr().err
    assert "interrupted at step 4; resume with diptych train" in said
    last = tmp_path / "run" / "checkpoints" / "000000004"
    assert diptych.load(last, device="cpu").embed_texts(["a dog"]).shape == (1, 64)


def test_broken_samples_are_named_in_the_result(tmp_path: Path) -> None:
    for index, scene in enumerate(Scenes(12, size_px=48)):
        scene.image.save(tmp_path / f"{index}.png")
        (tmp_path / f"{index}.txt").write_text(scene.captions[0], encoding="utf-8")
    (tmp_path / "3.png").write_bytes(b"")
    (tmp_path / "5.txt").write_text(" ", encoding="utf-8")
    result = train(config(tmp_path, tmp_path / "run", batch_size=6, epochs=2), quiet=True)
    reasons = {Path(key).name: bad.reason for key, bad in result.skipped.items()}
    assert reasons == {"3.png": "empty file", "5.png": "no caption"}


def test_minutes_end_the_run(shards: Path, tmp_path: Path) -> None:
    result = train(config(shards, tmp_path, minutes=0.02, epochs=10**6), quiet=True)
    assert math.isfinite(result.loss)


def test_a_diverging_run_stops_and_says_what_to_do(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(
        FloatingPointError,
        match=r"Lower the learning rate.*\(lr is 1e\+12, muon_lr is 0\.02, ",
    ):
        train(config(shards, tmp_path, lr=1e12, warmup=0.01, clip_norm=1e12, epochs=50), quiet=True)


def test_schedule_by_hand() -> None:
    wanted = {0.0: 0.0, 0.1: 0.5, 0.2: 1.0, 0.6: 0.5, 1.0: 0.0}
    assert {p: schedule(p, 0.2) for p in wanted} == pytest.approx(wanted)


def test_each_optimizer_has_a_rate_of_its_own(shards: Path, tmp_path: Path) -> None:
    """Half-way through the warm-up; AdamW's rate may be 0 and Muon's not."""
    recipe = config(shards, tmp_path, lr=0.0, muon_lr=0.04, warmup=0.5)
    with Monitor(tmp_path, quiet=True) as monitor:
        trainer = Trainer(recipe, monitor, torch.device("cpu"), ProcessInfo(), tmp_path)
        trainer.step(next(trainer.loader.batches()), 0.25)
    adamw, muon = ({group["lr"] for group in each.param_groups} for each in trainer.state.optimizers)
    assert (adamw, muon) == ({0.0}, {0.02})


def test_a_run_of_less_than_a_step_makes_one(shards: Path, tmp_path: Path) -> None:
    train(config(shards, tmp_path, epochs=0.01), quiet=True)
    assert [row["step"] for row in read_metrics(tmp_path)] == [1]


def test_chance_counts_the_captions_that_there_are(shards: Path, tmp_path: Path) -> None:
    """Asked for three of each picture, which has one."""
    for index, scene in enumerate(Scenes(32, size_px=48)):
        scene.image.save(tmp_path / f"{index}.png")
        (tmp_path / f"{index}.txt").write_text(scene.captions[0], encoding="utf-8")
    train(config(tmp_path, tmp_path / "run", captions_per_image=3, epochs=1), quiet=True)
    assert read_metrics(tmp_path / "run")[0]["chance"] == pytest.approx(math.log(32))


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_phrases_of_captions_are_learnt_from_with_a_region_weight(shards: Path, tmp_path: Path, weight: float) -> None:
    train(config(shards, tmp_path / "run", epochs=0.1, region_weight=weight), quiet=True)
    row = read_metrics(tmp_path / "run")[-1]
    assert (row["places"] is not None and row["places"] > 0) if weight else row["places"] is None


def test_float16_does_not_search_for_a_scale_for_ever(shards: Path, tmp_path: Path) -> None:
    """Gradients that are infinite at every scale."""
    recipe = config(shards, tmp_path, precision="fp16", epochs=50, batch_size=8, image_size=32)
    with Monitor(tmp_path, quiet=True) as monitor:
        trainer = Trainer(recipe, monitor, torch.device("cpu"), ProcessInfo(), tmp_path)
        trainer.state.network.text.proj.weight.register_hook(lambda gradient: gradient * math.inf)
        batch = next(trainer.loader.batches())
        before = trainer.state.network.text.proj.weight.detach().clone()
        with pytest.raises(FloatingPointError, match=r"the gradient of text\.proj\.weight"):
            collections.deque((trainer.step(batch, 0.5) for _ in range(40)), 0)
    assert 10 < trainer.state.progress.steps < 30
    assert torch.equal(trainer.state.network.text.proj.weight, before)


def test_average_of_weights_by_hand() -> None:
    average, network = torch.nn.BatchNorm1d(1), torch.nn.BatchNorm1d(1)
    network.weight.data.fill_(3.0)
    network.running_mean.fill_(2.0)
    network.num_batches_tracked.fill_(7)
    update_ema(average, network, decay=0.75)
    assert (average.weight.item(), average.running_mean.item(), average.num_batches_tracked.item()) == (1.5, 0.5, 7)


def test_dropout_rises_with_depth_and_is_off_in_evaluation() -> None:
    torch.manual_seed(0)
    network = CLIP(preset("vit-tiny"))
    set_dropout(network, 0.2, 0.1)
    assert [block.drop_path for block in network.image.transformer.blocks] == pytest.approx([0.1, 0.2])
    pixels = torch.randn(2, 3, 32, 32)
    network.eval()
    torch.testing.assert_close(network.encode_image(pixels), network.encode_image(pixels))
    network.train()
    assert not torch.equal(network.encode_image(pixels), network.encode_image(pixels))


def test_the_command_under_torchrun_speaks_once(shards: Path, tmp_path: Path) -> None:
    """Two processes, batch norm in the tower: one JSON object, one model, and the difference said."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "diptych"]
    command += ["train", "--data", str(shards), "--out", str(tmp_path / "run"), "--model", "resnet-tiny"]
    command += ["--image-size", "64", "--batch-size", "32", "--epochs", "1", "--device", "cpu", "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["model"] == str(tmp_path / "run" / "model")
    assert "x 2 processes" in done.stderr
    assert done.stderr.count("batch norm uses each process's own pictures") == 1
    assert diptych.load(said["model"], device="cpu").embed_texts(["a star"]).shape == (1, 64)


def test_sharded_weights_of_two_processes_go_on(shards: Path, tmp_path: Path) -> None:
    """FSDP2 through the whole command: train, evaluate, save, resume."""
    command = ["train", "--data", str(shards), "--val", str(shards), "--out", str(tmp_path / "run"), "--shard"]
    command += ["--model", "vit-tiny", "--batch-size", "32", "--device", "cpu", "--set", "optimizer=adamw", "--resume"]
    for epochs in (1, 2):
        first, second = together(tmp_path, run, [*command, "--image-size", "32", "--epochs", str(epochs), "--json"])
        assert f"{3 * epochs} steps" in first
        assert not second
    assert "continues after step 3" in first
    model = tmp_path / "run" / "model"
    assert f'"model": "{model}"' in first
    assert diptych.load(model, device="cpu").embed_texts(["a star"]).shape == (1, 64)


@pytest.mark.parametrize(
    "how",
    [
        {"lora": 4},
        {"lock_image": True},
        {"wise_ft": 0.0},
        {"precision": "fp16"},
        {"precision": "bf16", "accumulate": 3},
    ],
    ids=str,
)
def test_a_model_that_exists_is_fine_tuned(how: dict, shards: Path, tmp_path: Path, tiny_model: Path) -> None:
    result = train(
        config(shards, tmp_path, init=str(tiny_model), image_size=32, val=str(shards), epochs=1, **how), quiet=True
    )
    before, after = (diptych.load(folder, device="cpu").network.state_dict() for folder in (tiny_model, result.folder))
    assert before.keys() == after.keys()
    same = {name for name in before if torch.equal(before[name], after[name])}
    if "wise_ft" in how:
        assert same == before.keys()
    elif "lock_image" in how:
        assert {name.partition(".")[0] for name in same} == {"image"}
    else:
        assert "image.transformer.blocks.0.attention.qkv.weight" not in same
    assert result.forgetting is not None
    assert result.forgetting.path_measures[0.0].recall is not None
    assert (tmp_path / "forgetting.png").exists()


def test_fine_tuning_without_anything_to_measure_says_so(
    shards: Path, tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    how = {"lora": 2, "lr": 1e-5, "optimizer": "adamw", "shard": True, "wise_ft": 0.5, "epochs": 1}
    result = train(config(shards, tmp_path, init=str(tiny_model), image_size=32, **how))
    assert result.forgetting is None
    assert not (tmp_path / "forgetting.png").exists()
    said = capsys.readouterr().err
    assert "not measured: what was learnt (val has no pairs) and forgotten (zero_shot has no class folders)" in said
    assert "lr 1e-05 is low for adapters" in said
    assert "shard has no effect in one process" in said


def test_the_command_fine_tunes_and_goes_on_for_longer(
    cli: Cli, shards: Path, tmp_path: Path, tiny_model: Path
) -> None:
    """A run that began by the clock goes on by epochs; what it forgot is in its JSON."""
    flags = ("--init", tiny_model, "--data", shards, "--val", shards, "--out", tmp_path, "--recipe", "lora", "--json")
    begun = cli("train", *flags, "--minutes", 0.001, "--set", "batch_size=32")
    assert begun.json["config"]["minutes"] == 0.001
    assert "model" not in begun.json["config"]
    assert begun.json["forgetting"]["line"][0]["alpha"] == 0
    longer = cli("train", "--out", tmp_path, "--resume", "--epochs", 2, "--json")
    assert longer.json["config"] | {"minutes": 0.001, "epochs": 10, "precision": None} == begun.json["config"]
    assert read_metrics(tmp_path)[-1]["step"] == 2 * 96 // 32


def test_an_interrupted_run_with_adapters_goes_on(
    shards: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, and compared with the model that it began with."""
    options = {"init": str(tiny_model), "image_size": 32, "val": str(shards), "lora": 2, "wise_ft": 0.5, "epochs": 2}
    whole = train(config(shards, tmp_path / "whole", **options), quiet=True)
    account = Trainer._record_step

    def interrupt(trainer: Trainer, *numbers: float) -> None:
        account(trainer, *numbers)
        if trainer.state.progress.steps == 4:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Trainer, "_record_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(config(shards, tmp_path / "cut", **options), quiet=True)
    monkeypatch.setattr(Trainer, "_record_step", account)
    again = train(config(shards, tmp_path / "cut", **options), resume=True, quiet=True)
    for name in ("model.safetensors", "config.json"):
        assert (whole.folder / name).read_bytes() == (again.folder / name).read_bytes()
    assert again.forgetting == whole.forgetting


def test_held_out_pictures_that_cannot_be_read_are_said(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index, scene in enumerate(Scenes(3, size_px=48)):
        scene.image.save(tmp_path / f"{index}.png")
        (tmp_path / f"{index}.txt").write_text(scene.captions[0], encoding="utf-8")
    (tmp_path / "1.png").write_bytes(b"")
    train(config(shards, tmp_path / "run", val=str(tmp_path), epochs=0))
    assert f"{tmp_path}: 1 with empty file left out, the first {tmp_path / '1.png'}" in capsys.readouterr().err
