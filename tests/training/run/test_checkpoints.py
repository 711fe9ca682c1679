"""A run that is killed, terminated, or out of disk can be resumed without a difference."""

import dataclasses
import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import tensorboardX  # noqa: F401 (so that the copies that train need not import it, nor the next)
import torch
import torch._dynamo
from stalled_source import SAMPLES, begin

import diptych
from diptych.cli import run
from diptych.data.loading.augmentation import NONE
from diptych.data.loading.decoding import BadSample
from diptych.data.loading.loader import Loader
from diptych.data.loading.plan import MixtureSource
from diptych.scenes.scene import Scenes
from diptych.training.config import TrainConfig
from diptych.training.run import checkpoints
from diptych.training.run.metrics_file import read_metrics
from diptych.training.run.signals import SignalHandler
from diptych.training.run.skipped import FILE, SkippedLog
from diptych.training.trainer import Trainer, train


def config(shards: Path, out: Path, **changes) -> TrainConfig:
    plain = {"model": "vit-tiny", "image_size": 32, "vocab_size": 600, "epochs": 40, "batch_size": 32, "seed": 5}
    plain |= {"precision": "fp32", "device": "cpu", "eval_every": 10, "checkpoint_s": 0.1, "val": str(shards)}
    return TrainConfig(data=(str(shards),), out=str(out), **{**plain, **changes})


def weights(out: Path) -> bytes:
    return (out / "model" / "model.safetensors").read_bytes()


def model(folder: Path) -> None:
    (folder / "config.json").write_text("{}")


def test_the_newest_checkpoint_and_the_one_before_are_kept_and_whole(tmp_path: Path) -> None:
    assert checkpoints.newest(tmp_path) is None
    for steps in (9, 10, 100):
        checkpoints.save(tmp_path, steps, {"steps": steps, "x": torch.arange(3)}, model)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["000000010", "000000100"]
    last = checkpoints.newest(tmp_path)
    assert last is not None
    assert checkpoints.load(last)["steps"] == 100


def test_what_a_killed_save_left_behind_goes(tmp_path: Path) -> None:
    model_path = checkpoints.save(tmp_path, 1, {}, model)
    (tmp_path / "checkpoints" / ".new-1234").mkdir()
    assert checkpoints.newest(tmp_path) == model_path
    checkpoints.save(tmp_path, 2, {}, model)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["000000001", "000000002"]


@pytest.mark.parametrize("harm", ["cut", "missing", "list"])
def test_a_checkpoint_that_was_cut_is_passed_over(tmp_path: Path, harm: str) -> None:
    """The one before it is taken, with a sentence; the next save of that step replaces it."""
    for steps in (3, 4):
        path = checkpoints.save(tmp_path, steps, {"steps": steps, "x": torch.zeros(1000)}, model)
    cut = path / (checkpoints.SIZES if harm == "list" else checkpoints.STATE)
    whole = cut.read_bytes()
    cut.unlink() if harm == "missing" else cut.write_bytes(whole[: len(whole) // 2])
    last = checkpoints.newest(tmp_path)
    assert last is not None
    assert last.name == "000000003"
    (said,) = checkpoints.passed_over(tmp_path)
    assert said.startswith("the checkpoint of step 4 is damaged and left out: ")
    wanted = {"cut": rf"training.pt has {len(whole) // 2:,} bytes instead of {len(whole):,}",
              "missing": "training.pt is missing", "list": "sizes.json is damaged"}  # fmt: skip
    assert said.endswith(wanted[harm])
    checkpoints.save(tmp_path, 4, {"steps": 4}, model)
    assert checkpoints.newest(tmp_path) == path
    assert not checkpoints.passed_over(tmp_path)


def test_a_damaged_checkpoint_without_one_before_it_is_an_error(tmp_path: Path) -> None:
    path = checkpoints.save(tmp_path, 4, {"x": torch.zeros(1000)}, model)
    (path / checkpoints.STATE).write_bytes(b"PK")
    assert checkpoints.newest(tmp_path) == path
    assert not checkpoints.passed_over(tmp_path)


def test_a_damaged_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    path = checkpoints.save(tmp_path, 7, {"x": torch.zeros(1000)}, model)
    content = (path / checkpoints.STATE).read_bytes()
    (path / checkpoints.STATE).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"training\.pt cannot be read .* Remove .* to start again, or start from"):
        checkpoints.load(path)


def test_a_checkpoint_of_another_version_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = checkpoints.save(tmp_path, 7, {}, model)
    monkeypatch.setattr(checkpoints, "VERSION", 2)
    with pytest.raises(ValueError, match=r"written by another version of diptych\. Remove .* to start again, or"):
        checkpoints.load(path)


def forked(work: Callable[[Any], None], argument: object) -> BaseProcess:
    """A process that does `work` with one thread: a forked copy has none of its parent's and would wait for them."""

    def alone() -> None:
        torch.set_num_threads(1)
        work(argument)

    child = multiprocessing.get_context("fork").Process(target=alone)
    child.start()
    return child


def no_room(tmp_path: Path) -> None:
    """Files may not grow over 100 kB: the system refuses the rest, as a full disk does."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    try:
        checkpoints.save(tmp_path, 2, {"x": torch.zeros(100_000)}, model)
    except diptych.DiptychError as error:
        (tmp_path / "said").write_text(str(error))


def test_a_full_disk_is_an_error_before_the_old_checkpoint_is_lost(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, 1, {"x": torch.zeros(3)}, model)
    forked(no_room, tmp_path).join()
    said = (tmp_path / "said").read_text()
    assert "the checkpoint of step 2 could not be written" in said
    assert "the one of step 1 is complete. Free disk space" in said
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["000000001"]


def sitting(recipe: TrainConfig) -> None:
    train(recipe, resume=True, quiet=True)


def sit(recipe: TrainConfig, chance: random.Random | None = None, least: int = 0, most: int = 0) -> bool:
    """One sitting of a run in a process of its own, which says when it takes a step. With `chance` it is killed within
    the step after `least` to `most` more, at any share of what a step takes; whether it was is returned."""
    heard, said = os.pipe()

    def work(recipe: TrainConfig) -> None:
        account = Trainer._record_step
        Trainer._record_step = lambda *numbers: (os.write(said, b"."), account(*numbers))[1]  # type: ignore[method-assign]
        sitting(recipe)

    child = forked(work, recipe)
    os.close(said)
    last_s, pace_s = time.monotonic(), 0.0
    for _ in range(chance.randint(least, most) if chance else 0):
        if not os.read(heard, 1):
            break  # it came to its end
        last_s, pace_s = time.monotonic(), time.monotonic() - last_s
    if chance:
        time.sleep(pace_s * chance.random())
        child.kill()
    child.join()
    os.close(heard)
    return child.exitcode == -signal.SIGKILL


STEPS = 36  # of the run that is killed again and again


@pytest.fixture(scope="module")
def undisturbed(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody interrupts."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    sit(often(shards, out))
    return out


def often(shards: Path, out: Path) -> TrainConfig:
    """Its settings: a checkpoint at every step."""
    return config(shards, out, epochs=STEPS // 3, checkpoint_s=0)


def test_twenty_kills_change_no_bit(shards: Path, tmp_path: Path, undisturbed: Path) -> None:
    """SIGKILL at random moments, from before the first step on: each sitting gets up to five steps."""
    recipe, chance, steps = often(shards, tmp_path / "run"), random.Random(1), []
    while len(steps) < 20:
        sit(recipe, chance, most=5)
        last = checkpoints.newest(tmp_path / "run")
        steps.append(int(last.name) if last else 0)
    assert steps == sorted(steps)
    inside = {step for step in steps if 0 < step < STEPS}
    assert len(inside) >= 3  # the kills fell into the run, not all before its first step or after its last
    sit(recipe)
    assert weights(tmp_path / "run") == weights(undisturbed)


def test_metrics_have_each_step_once(tmp_path: Path, shards: Path, undisturbed: Path) -> None:
    """Rows after the checkpoint are written again by the run that goes on, and go before."""
    out = tmp_path / "run"
    rarely = dataclasses.replace(often(shards, out), checkpoint_s=10_000)
    assert sit(often(shards, out), random.Random(2), least=3, most=9)
    last = checkpoints.newest(out)
    assert sit(rarely, random.Random(2), least=3, most=9)
    assert last is not None
    assert checkpoints.newest(out) == last
    assert read_metrics(out)[-1]["step"] > int(last.name)
    sit(rarely)
    steps = [[json.loads(line)["step"] for line in (run / "metrics.jsonl").open()] for run in (out, undisturbed)]
    assert steps[0] == steps[1]


def test_sigterm_saves_first(shards: Path, tmp_path: Path) -> None:
    """As a user's command line: exit code 130, a checkpoint, and the words to go on."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "diptych", "train", "--data", shards, "--out", out, "--model", "vit-tiny"]
    command += ["--epochs", "100000", "--batch-size", "32", "--device", "cpu", "--set", "checkpoint_s=1000"]
    process = subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True)
    rows = out / "metrics.jsonl"
    while process.poll() is None and not (rows.exists() and rows.stat().st_size):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    said = process.communicate()[1]
    assert process.returncode == 130, said
    last = checkpoints.newest(out)
    assert last is not None
    assert f"terminated at step {int(last.name)}" in said
    assert "--resume" in said
    assert diptych.load(last, device="cpu").embed_texts(["a dog"]).shape == (1, 64)
    assert checkpoints.load(last)["tally"]["steps"] == int(last.name)


@pytest.fixture(scope="module")
def whole(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of a short run that nothing stops."""
    out = tmp_path_factory.mktemp("whole") / "run"
    train(config(shards, out, epochs=1, batch_size=16, val=None, threads=1), quiet=True)
    return weights(out)


@pytest.mark.parametrize("workers", [0, 1])
def test_sigterm_saves_while_the_run_waits_for_data(shards: Path, tmp_path: Path, whole: bytes, workers: int) -> None:
    """At a stalled shard no next step comes: the batches that came are saved, and the run goes on after them."""
    recipe = config(shards, tmp_path / "run", epochs=1, batch_size=16, val=None, checkpoint_s=1000, threads=1)
    recipe, (heard, said) = dataclasses.replace(recipe, workers=workers), os.pipe()

    def stalled(errors: Path) -> None:
        speak(said, errors)
        begin(recipe)

    child = forked(stalled, tmp_path / "errors")
    os.close(said)
    with open(heard, encoding="utf-8") as lines:
        steps = [next(lines) for _ in range(6)]  # on the batches that came before it steps still
    assert child.pid is not None
    os.kill(child.pid, signal.SIGTERM)
    child.join()
    errors = (tmp_path / "errors").read_text(encoding="utf-8")
    assert sorted(steps) == ["stalls\n", *SAMPLES // 16 * ["step\n"]]
    assert "terminated: saving a checkpoint" in errors
    assert child.exitcode == 1
    assert errors.endswith("KeyboardInterrupt\n")
    last = checkpoints.newest(tmp_path / "run")
    assert last is not None, errors
    state = checkpoints.load(last)
    assert state["processes"][0]["position"]["sample"] == 16 * state["tally"]["steps"]
    train(dataclasses.replace(recipe, workers=0), resume=True, quiet=True)
    assert weights(tmp_path / "run") == whole


def speak(out: int, errors: Path) -> None:
    """From here on what this process says goes there."""
    os.dup2(out, 1)
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT, 0o600), 2)
    sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))  # noqa: SIM115


def test_a_run_that_is_told_to_end_before_a_step_has_nothing_to_save(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Loader, "batches", lambda *_: (signal.raise_signal(signal.SIGINT) for _ in range(1)))
    with pytest.raises(KeyboardInterrupt):
        train(config(shards, tmp_path / "run"))
    assert "interrupted before the first step: there is nothing to save" in capsys.readouterr().err
    assert checkpoints.newest(tmp_path / "run") is None


def test_a_run_that_was_another_is_not_resumed(shards: Path, undisturbed: Path) -> None:
    with pytest.raises(ValueError, match=r"started with lr=0\.001; now it is 0\.5"):
        train(config(shards, undisturbed, lr=0.5), resume=True, quiet=True)


def test_a_finished_run_may_go_on_for_longer(shards: Path, tmp_path: Path) -> None:
    first = train(config(shards, tmp_path / "run", epochs=1), quiet=True)
    again = train(config(shards, tmp_path / "run", epochs=1), resume=True, quiet=True)
    assert again.retrieval == first.retrieval
    assert [row["step"] for row in read_metrics(tmp_path / "run")] == [1, 2, 3, 3]  # training, and the evaluation
    train(config(shards, tmp_path / "run", epochs=2), resume=True, quiet=True)
    last = checkpoints.newest(tmp_path / "run")
    assert last is not None
    assert int(last.name) == 6


def test_a_full_disk_ends_the_command_with_a_sentence(shards: Path, tmp_path: Path) -> None:
    command = ["train", "--data", shards, "--out", tmp_path / "run", "--device", "cpu"]
    command += ["--model", "vit-tiny", "--batch-size", "32", "--epochs", "1"]

    def full(errors: Path) -> None:
        speak(os.open(os.devnull, os.O_WRONLY), errors)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        sys.exit(run([str(word) for word in command]))

    child = forked(full, tmp_path / "errors")
    child.join()
    errors = (tmp_path / "errors").read_text(encoding="utf-8")
    assert child.exitcode == 1
    assert "could not be written" in errors
    assert "Traceback" not in errors


def test_a_run_with_broken_samples_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are remembered, and so is of how many they are a share."""
    for index, scene in enumerate(Scenes(40, size_px=48)):
        scene.image.save(tmp_path / f"{index}.png")
        (tmp_path / f"{index}.txt").write_text(scene.captions[0], encoding="utf-8")
    (tmp_path / "3.png").write_bytes(b"")
    options = {"batch_size": 10, "val": None}
    first = train(config(tmp_path, tmp_path / "run", epochs=1, **options))
    assert capsys.readouterr().err.count(f"skipped {tmp_path / '3.png'}") == 1
    again = train(config(tmp_path, tmp_path / "run", epochs=2, **options), resume=True)
    assert [bad.reason for bad in first.skipped.values()] == ["empty file"]
    assert again.skipped == first.skipped
    assert "skipped /" not in capsys.readouterr().err  # it was named
    [row] = map(json.loads, (tmp_path / "run" / "skipped.jsonl").read_text().splitlines())
    assert (row["key"], row["reason"]) == (str(tmp_path / "3.png"), "empty file")


def test_the_first_broken_samples_are_said_and_all_are_written(tmp_path: Path) -> None:
    bad = {"0": BadSample("gone", "0: gone")}
    said: list[str] = []
    log = SkippedLog(tmp_path, bad, said.append)
    for count in (5, 15, 25):
        bad.update({str(n): BadSample("gone", f"{n}: gone") for n in range(count)})
        log.update()
    assert said == [
        *(f"skipped {n}: gone" for n in range(1, 10)),
        f"more samples are skipped; {tmp_path / FILE} lists them all",
    ]
    log.finish()
    assert [json.loads(line)["key"] for line in (tmp_path / FILE).open()] == [str(n) for n in range(25)]


def test_what_a_loader_has_met_is_carried_over() -> None:
    parts = [MixtureSource(Scenery(), 40, NONE)]
    old, new = (Loader(parts, 4, 32) for _ in range(2))
    old.bad["a"] = old._bad_shards["a"] = BadSample("gone", "a: gone")
    old.bad["b"], old._tried = BadSample("empty file", "b: empty"), 4321
    new.restore_failures(json.loads(json.dumps(old.failures_seen())))
    assert (new.bad, new._bad_shards, new._tried) == (old.bad, old._bad_shards, old._tried)


class Scenery(list):
    """Something with a length."""

    def __len__(self) -> int:
        return 40


def test_a_request_ends_a_wait_before_it_and_within() -> None:
    with SignalHandler() as stop:
        assert stop.run_unless_requested(lambda: 3) == 3
        assert stop.run_unless_requested(lambda: signal.raise_signal(signal.SIGTERM) or 3) is None
        assert stop.run_unless_requested(lambda: 3) is None
        signal.raise_signal(signal.SIGTERM)  # outside a wait, and at once after the first
        assert stop.requested == "terminated"


def test_what_is_printed_after_training_follows_the_line_about_the_request() -> None:
    lines: list[str] = []

    def log_slowly(line: str) -> None:
        time.sleep(0.3)
        lines.append(line)

    with SignalHandler(log_slowly):
        signal.raise_signal(signal.SIGINT)
    assert [line.split(":")[0] for line in lines] == ["interrupted"]


def test_a_signal_that_comes_twice_at_once_is_one_request() -> None:
    with SignalHandler() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested == "terminated"
        stop._requested_s -= 10
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
