"""Training: it learns, it is exact, and it says what is wrong."""

import dataclasses
import json
import math
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

import diptych
from diptych.checkpoint import save_folder
from diptych.data.augment import NONE
from diptych.data.scenes import Scenes
from diptych.images import Preprocess
from diptych.nets import presets
from diptych.nets.clip import CLIP, CLIPConfig
from diptych.nets.presets import preset
from diptych.nets.text import TextConfig
from diptych.nets.vision import ViTConfig
from diptych.training.distributed import Place, whole_loss
from diptych.training.monitor import Monitor, duration, remaining_s
from diptych.training.recipe import TrainConfig, learning_rate
from diptych.training.start import decay_groups, set_dropout
from diptych.training.trainer import Trainer, free_folder, train, update_average


def config(shards: Path, out: Path, **changes) -> TrainConfig:
    plain = {"model": "vit-tiny", "image_size": 48, "vocab_size": 700, "epochs": 2, "batch_size": 32}
    plain |= {"precision": "fp32", "device": "cpu", "eval_every": 1}
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
        trainer = Trainer(recipe, monitor, torch.device("cpu"), Place(), tmp_path)
        batch = unlike_pairs(next(iter(trainer.loader.epoch(0))))
        trainer.network.train()
        with torch.no_grad():
            trainer.network.logit_scale.zero_()
            assert trainer._loss(batch).item() == pytest.approx(math.log(64), abs=0.05)
            trainer.network.logit_scale.fill_(math.log(1 / 0.07))
        for step in range(200):
            trainer.step(batch, 0.1 + 0.5 * step / 200)
            if (loss := trainer._loss(batch).item()) < 0.05:
                break
        assert loss < 0.05


def unlike_pairs(batch):
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


def test_same_seed_same_weights(shards: Path, tmp_path: Path) -> None:
    """Whatever the number of threads that read the data."""
    states = []
    for threads in (1, 3):
        folder = train(config(shards, tmp_path / str(threads), threads=threads, epochs=1), quiet=True).folder
        states.append((folder / "model.safetensors").read_bytes())
    assert states[0] == states[1]


def test_init_goes_on_from_a_model_at_another_size(shards: Path, tmp_path: Path, tiny_model: Path) -> None:
    result = train(config(shards, tmp_path, init=str(tiny_model), image_size=64, lr=0.0, weight_decay=0.0), quiet=True)
    before, after = diptych.load(tiny_model, device="cpu"), diptych.load(result.folder, device="cpu")
    assert after.preprocessing.size_px == 64
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
        trainer = Trainer(recipe, monitor, torch.device("cpu"), Place(), tmp_path)
        result = trainer.run()
    ids = torch.from_numpy(trainer.tokenizer(["a red circle"]).ids)
    assert ids.shape == (1, 16)
    here = torch.nn.functional.normalize(trainer.average.encode_text(ids), dim=-1).detach().numpy()
    loaded = diptych.load(result.folder, device="cpu")
    np.testing.assert_allclose(loaded.embed_texts(["a red circle"]), here, atol=1e-6)
    assert loaded.bias == pytest.approx(-10, abs=0.1)
    assert loaded.preprocessing.mode == "squash"


def test_a_folder_that_holds_a_run_is_refused_before_any_work(shards: Path, tmp_path: Path) -> None:
    train(config(shards, tmp_path / "run", epochs=0), quiet=True)
    with pytest.raises(ValueError, match="holds a run already; name another folder"):
        train(config(shards, tmp_path / "run"), quiet=True)


def test_without_a_name_the_next_free_folder_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "1").mkdir(parents=True)
    assert free_folder(None) == Path("runs/2")


def test_a_failed_start_leaves_no_folder(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no preset"):
        train(config(shards, tmp_path / "run", model="vit-tinny"), quiet=True)
    assert not (tmp_path / "run").exists()


def test_an_interrupted_run_leaves_its_weights(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(trainer: Trainer, *_: object) -> None:
        if trainer.steps == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_account", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(config(shards, tmp_path / "run", epochs=50))
    assert "interrupted at step 4; the weights so far are in" in capsys.readouterr().err
    assert diptych.load(tmp_path / "run" / "latest", device="cpu").embed_texts(["a dog"]).shape == (1, 64)


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
    with pytest.raises(FloatingPointError, match="Lower lr"):
        train(config(shards, tmp_path, lr=1e12, warmup=0.01, clip_norm=1e12, epochs=50), quiet=True)


def test_learning_rate_by_hand() -> None:
    recipe = TrainConfig(data=("x",), lr=1.0, warmup=0.2)
    wanted = {0.0: 0.0, 0.1: 0.5, 0.2: 1.0, 0.6: 0.5, 1.0: 0.0}
    assert {p: learning_rate(p, recipe) for p in wanted} == pytest.approx(wanted)


def test_what_decays() -> None:
    network = CLIP(preset("resnet-tiny"))
    matrices, rest = decay_groups(network, 0.2)
    names = {id(p): name for name, p in network.named_parameters()}
    still = {names[id(p)] for p in rest["params"]}
    assert (matrices["weight_decay"], rest["weight_decay"]) == (0.2, 0.0)
    assert {"logit_scale", "image.bn1.weight", "image.pool.q.bias", "text.norm_post.weight"} <= still
    assert not any(name.endswith("conv1.weight") for name in still)


def test_average_of_weights_by_hand() -> None:
    average, network = torch.nn.BatchNorm1d(1), torch.nn.BatchNorm1d(1)
    network.weight.data.fill_(3.0)
    network.running_mean.fill_(2.0)
    network.num_batches_tracked.fill_(7)
    update_average(average, network, keep=0.75)
    assert (average.weight.item(), average.running_mean.item(), average.num_batches_tracked.item()) == (1.5, 0.5, 7)


def test_dropout_rises_with_depth_and_is_off_in_evaluation() -> None:
    network = CLIP(preset("vit-tiny"))
    set_dropout(network, 0.2, 0.1)
    assert [block.drop_path for block in network.image.transformer.blocks] == pytest.approx([0.1, 0.2])
    pixels = torch.randn(2, 3, 32, 32)
    network.eval()
    torch.testing.assert_close(network.encode_image(pixels), network.encode_image(pixels))
    network.train()
    assert not torch.equal(network.encode_image(pixels), network.encode_image(pixels))


def test_configuration_errors_name_the_field() -> None:
    for wrong, match in [
        ({"data": ()}, "data is"),
        ({"scenes": 1.0}, "scenes"),
        ({"batch_size": 1}, "batch_size"),
        ({"precision": "fp8"}, "fp8"),
        ({"minutes": 0}, "minutes is 0"),
        ({"data": "pairs"}, "data is 'pairs'"),
        ({"drop_path": 1}, "drop_path is 1; wanted 0 or more and under 1"),
        ({"ema": 1.5}, "ema"),
        ({"warmup": 2}, "warmup"),
        ({"threads": 0}, "threads"),
        ({"seed": -1}, "seed"),
        ({"clip_norm": 0}, "clip_norm is 0"),
    ]:
        with pytest.raises(ValueError, match=match):
            TrainConfig(**{"data": ("x",), **wrong})
    with pytest.raises(TypeError, match="momentum"):
        TrainConfig(data=("x",), momentum=0.9)  # type: ignore[call-arg]


def test_time_left() -> None:
    assert duration(remaining_s(60, 0.25)) == "3:00"
    assert duration(remaining_s(5, 0.0)) == "?"
    assert duration(3723) == "1:02:03"


WORKER = """
    import os, sys, torch
    from torch.nn.parallel import DistributedDataParallel
    sys.path.insert(0, {tests!r})
    from test_training import towers_and_pairs
    from diptych.training.distributed import join, wait_for_all, whole_loss
    place, _ = join(torch.device("cpu"))
    network, pixels, ids, owners = towers_and_pairs({loss!r})
    first = slice(0, 5) if place.rank == 0 else slice(5, 8)          # uneven on purpose
    mine = (owners >= first.start) & (owners < first.stop)
    forward = DistributedDataParallel(network)
    loss = whole_loss(forward(pixels[first], ids[mine]), owners[mine] - first.start)
    loss.backward()
    if place.rank == 0:
        torch.save([loss.detach()] + [p.grad for p in network.parameters() if p.grad is not None], sys.argv[1])
    wait_for_all()
    os._exit(0)  # gloo's threads now and then outlive the interpreter and abort it, after all is done
"""


def towers_and_pairs(loss: str):
    """A network in float64 and eight pictures with one to three captions each."""
    torch.manual_seed(3)
    network = CLIP(dataclasses.replace(preset("vit-tiny"), loss=loss)).double()
    owners = torch.tensor([0, 0, 0, 1, 2, 2, 3, 4, 5, 5, 6, 7])
    ids = torch.randint(1, 1000, (len(owners), 10))
    ids[:, -1] = 1023
    return network, torch.randn(8, 3, 32, 32, dtype=torch.float64), ids, owners


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_two_processes_give_the_gradients_of_one(tmp_path: Path, loss: str) -> None:
    """Every parameter and the temperature, with uneven parts and several captions a picture, under torchrun."""
    script, result = tmp_path / "worker.py", tmp_path / "gradients.pt"
    script.write_text(textwrap.dedent(WORKER.format(tests=str(Path(__file__).parent), loss=loss)))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(script),
        str(result),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    network, pixels, ids, owners = towers_and_pairs(loss)
    value = whole_loss(network(pixels, ids), owners)
    value.backward()
    expected = [value.detach()] + [p.grad for p in network.parameters() if p.grad is not None]
    for ours, theirs in zip(torch.load(result), expected, strict=True):
        assert (ours - theirs).norm() <= 1e-9 * theirs.norm()


def test_the_command_under_torchrun_speaks_once(shards: Path, tmp_path: Path) -> None:
    """Two processes, batch norm in the tower: one JSON object, one model, and the difference said."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "diptych"]
    command += ["train", "--data", str(shards), "--out", str(tmp_path / "run"), "--model", "resnet-tiny"]
    command += ["--image-size", "64", "--batch-size", "32", "--epochs", "1", "--device", "cpu", "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=180, env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["model"] == str(tmp_path / "run" / "model")
    assert "x 2 processes" in done.stderr
    assert done.stderr.count("batch norm sees each process's own pictures") == 1
    assert diptych.load(said["model"], device="cpu").embed_texts(["a star"]).shape == (1, 64)
