"""A run goes on on another number of processes, and a checkpoint that was cut is passed over."""

import os
import re
import resource
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import together

import diptych
from diptych.training.config import TrainConfig
from diptych.training.parallel.distributed import barrier, init_process_group_from_env
from diptych.training.run import checkpoints
from diptych.training.run.metrics_file import read_metrics
from diptych.training.run.sharded_checkpoints import ShardedWriter, whole_tensors
from diptych.training.trainer import Trainer, train


def config(shards: Path, out: Path, **changes) -> TrainConfig:
    """Without dropout, whose numbers differ between processes, in float32."""
    plain = {"model": "vit-tiny", "image_size": 32, "vocab_size": 600, "epochs": 4, "batch_size": 32, "seed": 5}
    plain |= {"precision": "fp32", "device": "cpu", "checkpoint_s": 100.0, "optimizer": "adamw", "timeout_s": 120.0}
    plain |= {"drop_path": 0.0, "dropout": 0.0}
    return TrainConfig(**{"data": (str(shards),), "out": str(out), **plain, **changes})


def losses(out: Path) -> list[float]:
    return [row["loss"] for row in read_metrics(out) if "loss" in row]


def stopped(recipe: TrainConfig, steps: int) -> None:
    """A run that a scheduler terminates after `steps` steps."""
    record = Trainer._record_step

    def record_and_end(trainer: Trainer, *numbers: Any) -> None:
        record(trainer, *numbers)
        if trainer.state.progress.steps == steps:
            os.kill(os.getpid(), signal.SIGTERM)

    Trainer._record_step = record_and_end  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        train(recipe, resume=True, quiet=True)


def finished(recipe: TrainConfig) -> None:
    train(recipe, resume=True)


@pytest.fixture(scope="module")
def undisturbed(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    train(config(shards, out), quiet=True)
    return out


@pytest.mark.parametrize(
    ("before", "after", "shard"),
    [(2, 1, False), (1, 2, False), (2, 3, False), (2, 3, True), (1, 2, True), (2, 1, True)],
)
def test_a_run_goes_on_on_another_number_of_processes(
    undisturbed: Path, shards: Path, tmp_path: Path, before: int, after: int, shard: bool
) -> None:
    """The loss at every step is that of an undisturbed run in one process: weights, optimizer and data are taken up.
    Sums in another order differ by rounding."""
    recipe = config(shards, tmp_path / "run", shard=shard)
    together(tmp_path, stopped, recipe, 5, world=before)
    last = checkpoints.newest(tmp_path / "run")
    assert last is not None
    assert last.name == "000000005"
    assert (last / checkpoints.SHARDS).exists() == (before > 1)
    together(tmp_path, finished, recipe, world=after)
    assert losses(tmp_path / "run") == pytest.approx(losses(undisturbed), abs=1e-4)


def test_a_run_on_shards_by_address_goes_on_on_another_number_of_processes(shards: Path, tmp_path: Path) -> None:
    """Each process fetches shards of its own, as from object storage; the samples of every step are the same."""
    recipe = config(shards, tmp_path / "run", data=(f"file://{shards}/*.tar",), samples_per_epoch=96, epochs=7 / 3)
    train(replace(recipe, out=str(tmp_path / "whole")), quiet=True)
    together(tmp_path, stopped, recipe, 4)
    together(tmp_path, finished, recipe, world=3)
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "whole"), abs=1e-4)


def test_a_checkpoint_of_several_processes_that_was_cut_is_passed_over(
    undisturbed: Path, shards: Path, tmp_path: Path
) -> None:
    """The run says so, and goes on from the one before it."""
    recipe = config(shards, tmp_path / "run", optimizer="muon", model="resnet-tiny", epochs=7 / 3, checkpoint_s=0.0)
    together(tmp_path, finished, replace(recipe, out=str(tmp_path / "whole"), checkpoint_s=100.0))
    together(tmp_path, stopped, recipe, 5)
    last, before = checkpoints.all_of(tmp_path / "run")
    for path in (last, before):
        assert diptych.load(path, device="cpu").embed_texts(["a star"]).shape == (1, 64)
    part = next((last / checkpoints.SHARDS).iterdir())
    part.write_bytes(part.read_bytes()[:-1])
    first, second = together(tmp_path, finished, recipe)
    assert re.search(r"the checkpoint of step 5 is damaged and left out: shards/shard-\S+ has [\d,]+ bytes", first)
    assert f"continues after step {int(before.name)}" in first
    assert not second
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")  # in float32, on as many processes: bit for bit


def no_room(out: Path, said: Path) -> None:
    """Rank 1's files may not grow over 1 MB: the system refuses the rest, as a full disk does."""
    process, _ = init_process_group_from_env(torch.device("cpu"))
    writer = ShardedWriter(out)
    sizes = {1: 10, 2: 10**6}
    for steps, size in sizes.items():
        if process.rank == 1 and steps == 2:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
        tensors = {f"network.{name}": torch.ones(size) for name in "abcd"}
        writer.start(steps, tensors, {}, "network.", lambda folder, whole: None)
        try:
            path = writer.wait()
            assert path == checkpoints.path_of(out, steps)
            assert torch.equal(whole_tensors(path / checkpoints.SHARDS, "network.")["c"], torch.ones(size))
        except diptych.CheckpointNotSavedError as error:
            said.with_name(f"{said.name}{process.rank}").write_text(str(error))
    barrier()


def test_a_disk_that_is_full_for_one_process_is_an_error_in_all(tmp_path: Path) -> None:
    together(tmp_path, no_room, tmp_path / "run", tmp_path / "said")
    for rank in (0, 1):
        said = (tmp_path / f"said{rank}").read_text()
        assert "the checkpoint of step 2 could not be written" in said
        assert "the one of step 1 is complete. Free disk space" in said
    assert [path.name for path in (tmp_path / "run" / "checkpoints").glob("[0-9]*")] == ["000000001"]
