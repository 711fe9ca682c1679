"""Training on two hosts outlives a process and a host."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hosts import Host, children, two_hosts
from processes import together

from diptych.training.config import TrainConfig
from diptych.training.run.metrics_file import read_metrics
from diptych.training.trainer import train

SETTINGS = {"optimizer": "adamw", "drop_path": 0.0, "dropout": 0.0, "vocab_size": 600, "precision": "fp32"}
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
DOCUMENT = Path(__file__).parents[2] / "docs" / "scale.md"
STEPS = 30  # ten epochs of 96 pairs in batches of 32


def losses(out: Path) -> dict[int, float]:
    """Step -> loss, as far as the run has come."""
    return {row["step"]: row["loss"] for row in read_metrics(out)} if (out / "metrics.jsonl").exists() else {}


def undisturbed(shards: Path, out: Path) -> None:
    train(
        TrainConfig(data=(f"file://{shards}/*.tar",), samples_per_epoch=96, out=str(out), model="vit-tiny",
                    image_size=32, epochs=10, batch_size=32, device="cpu", **SETTINGS),
        quiet=True,
    )  # fmt: skip


def command(host: Host, first: Host, shards: Path, out: Path) -> list[str]:
    """That of docs/scale.md, on these hosts, with a small model and short waits."""
    (text,) = re.findall(r"^torchrun (.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.M | re.S)
    instead = {"train-a:29400": f"{first.address}:29400", "2": "1:2", "4": "1", "100": "3", "4096": "32"}
    instead |= {"/shared/runs/first": str(out), "samples_per_epoch=1000000": "samples_per_epoch=96"}
    words = [
        f"file://{shards}/*.tar" if "://" in word else instead.get(word, word)
        for word in shlex.split(text.replace("\\\n", " "))
    ]
    rendezvous = f"is_host={int(host is first)},last_call_timeout=8,keep_alive_interval=1,keep_alive_max_attempt=3"
    settings = {**SETTINGS, "checkpoint_s": 0, "timeout_s": 12}
    return [
        sys.executable, "-m", "torch.distributed.run", "--local-addr", host.address, "--rdzv-conf", rendezvous, *words,
        "--model", "vit-tiny", "--device", "cpu", "--image-size", "32", "--epochs", "10",
        *(word for name, value in settings.items() for word in ("--set", f"{name}={value}")),
    ]  # fmt: skip


@contextmanager
def ended(agents: list[subprocess.Popen]) -> Iterator[None]:
    """Whatever happens, nothing that was started stays."""
    try:
        yield
    finally:
        for agent in agents:
            workers = children(agent.pid)
            agent.kill()
            for worker in workers:
                os.kill(worker, signal.SIGKILL)
            agent.wait()


def awaited(condition: Callable[[], object], agents: list[subprocess.Popen]) -> None:
    """Wait until it holds. Fails if a host has ended before."""
    while not condition():
        assert all(agent.poll() is None for agent in agents), "a host ended too early"
        time.sleep(0.005)


@pytest.mark.slow
def test_training_outlives_a_process_and_a_host(shards: Path, tmp_path: Path) -> None:
    """A process is killed: both start again from the last checkpoint, and the losses in float32 are those of an
    undisturbed run, bit for bit. Then a host falls silent: the other notices, and goes on alone; sums in another order
    differ by rounding."""
    together(tmp_path, undisturbed, shards, tmp_path / "whole")
    wanted, out = losses(tmp_path / "whole"), tmp_path / "run"
    assert [*wanted] == [*range(1, STEPS + 1)]
    logs = [tmp_path / "first.log", tmp_path / "second.log"]
    with two_hosts() as hosts:
        agents = [
            host.start(
                command(host, hosts[0], shards, out), log, OMP_NUM_THREADS="1", TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1"
            )
            for host, log in zip(hosts, logs, strict=True)
        ]
        with ended(agents):
            awaited(lambda: len(losses(out)) >= 6, agents)
            (worker,) = children(agents[1].pid)
            os.kill(worker, signal.SIGKILL)
            awaited(lambda: "continues after step" in logs[0].read_text() and len(losses(out)) >= 14, agents)
            before = losses(out)
            worker = children(agents[1].pid)[0]
            if hosts[1].unplug:
                hosts[1].unplug()
            agents[1].kill()
            os.kill(worker, signal.SIGKILL)
            assert agents[0].wait() == 0, logs[0].read_text()
    said = logs[0].read_text()
    assert "lost the connection to another of the 2 processes" in said
    assert "2 processes before, 1 now" in said
    last_shared = min(max(before), STEPS) - 1  # the step under way may be incomplete
    assert {step: before[step] for step in range(1, last_shared)} == {
        step: wanted[step] for step in range(1, last_shared)
    }
    assert losses(out) == pytest.approx(wanted, abs=1e-4)
