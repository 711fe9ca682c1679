"""The folder of a run: where one may write, and what the one in it was told."""

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from diptych.errors import ArgumentError, DiptychError, Setting
from diptych.storage.atomic import atomic_write_text
from diptych.storage.output_files import refuse_link
from diptych.training.config import TrainConfig, from_fields, to_json
from diptych.training.optim.precision import has_bfloat16
from diptych.training.parallel.distributed import from_first, is_first
from diptych.training.run.checkpoints import newest
from diptych.untrusted.json import parse_json

SETTINGS = "run.json"
KEPT = ("model", "checkpoints", "tensorboard")  # folders that are removed and made anew
# What a run may be given anew when it goes on: nothing that decides what its weights mean.
CHANGEABLE = {
    "epochs", "minutes", "out", "val", "eval_every", "checkpoint_s", "device", "threads", "workers", "compile",
    "gradient_checkpointing", "max_bad", "zero_shot", "wise_ft",
}  # fmt: skip


def folder_of(config: TrainConfig, resume: bool) -> Path:
    """Where a run may write: `out` unless a run lies there that is not to be resumed; without `out` the first of
    runs/1, runs/2, ... that is free."""
    if config.out is None:
        if resume:
            raise ArgumentError([Setting("resume", True), " wants ", Setting("out", "FOLDER"), ", that of the run."])
        return next(path for n in itertools.count(1) if _claimed(path := Path("runs") / str(n)))
    path = Path(config.out)
    for name in KEPT:
        refuse_link(path / name)
    if path.exists() and not path.is_dir():
        raise ArgumentError([f"{path} is a file; ", Setting("out"), " wants a folder."], argument="out")
    if resume:
        _check_same(config, path)
    elif _holds_run(path):
        remedy = ["Name another folder with ", Setting("out"), ", or go on with ", Setting("resume", True), "."]
        raise ArgumentError(f"{path} holds a run already.", remedy=remedy, argument="out")
    return path


@contextlib.contextmanager
def removed_if_empty(out: Path, was_made: bool) -> Iterator[None]:
    """A run that fails before it has anything to keep leaves no folder, if one `was_made` for it."""
    try:
        yield
    finally:
        if was_made:
            with contextlib.suppress(OSError):
                out.rmdir()


def _claimed(path: Path) -> bool:
    """Whether a new run can have a folder. The first process makes it at once, so that no other run takes it."""
    if not is_first():
        return not path.exists()
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        return False
    return True


def _holds_run(path: Path) -> bool:
    """Whether there is something to lose. Settings alone are what a run left that failed before its first step."""
    rows = path / "metrics.jsonl"
    return (path / "model").exists() or newest(path) is not None or (rows.exists() and rows.stat().st_size > 0)


def with_precision(config: TrainConfig, device: torch.device, resume: bool) -> TrainConfig:
    """`config` with its `precision` decided: the one it names, that of the run that goes on, or what is fast on the
    device and needs no loss scale: bf16, else fp32. Of several processes the first decides."""
    if config.precision:
        return config
    begun = settings_of_run(config.out) if resume and config.out else None
    default = begun["precision"] if begun else "bf16" if has_bfloat16(device) else "fp32"
    return replace(config, precision=from_first(default))


def settings_of_run(out: str | Path) -> dict[str, Any] | None:
    """What the run in `out` was told, as plain values; None where no run is. ValueError where it cannot be read."""
    path = Path(out) / SETTINGS
    if not path.exists():
        return None
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DiptychError(f"{path} is damaged ({error}); it should hold the settings of the run.") from error


def _check_same(config: TrainConfig, out: Path) -> None:
    if (begun := settings_of_run(out)) is None:
        return
    before, now = asdict(from_fields(begun)), asdict(config)
    for name in now:
        if before[name] != now[name] and name not in CHANGEABLE:
            raise ArgumentError(
                [f"the run in {out} began with ", Setting(name, before[name]), f"; now it is {now[name]!r}."],
                remedy=["A resumed run keeps its settings; begin another with ", Setting("out"), "."],
                argument=name,
            )


def write_settings(out: Path, config: TrainConfig) -> None:
    """Keep what the run was told, for `resume` and for people."""
    out.mkdir(parents=True, exist_ok=True)
    atomic_write_text(out / SETTINGS, to_json(config))
