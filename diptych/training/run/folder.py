"""The folder of a run: choosing it, and the settings in it."""

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
from diptych.training.parallel.distributed import broadcast_object, is_rank_zero
from diptych.training.run.checkpoints import newest
from diptych.untrusted.json import parse_json

SETTINGS = "run.json"
SUBFOLDERS = ("model", "checkpoints", "tensorboard", "frozen-features")  # a run deletes and rewrites these
# Settings that may differ when a run is resumed; none of them changes the meaning of its weights.
CHANGEABLE_SETTINGS = {
    "epochs", "minutes", "out", "val", "eval_every", "checkpoint_s", "device", "threads", "workers", "compile",
    "gradient_checkpointing", "max_bad", "zero_shot", "wise_ft", "timeout_s",
}  # fmt: skip


def open_run_folder(config: TrainConfig, resume: bool) -> Path:
    """The folder to write to: `out`, or without it the first free one of runs/1, runs/2, .... Raises ArgumentError if
    it has a run and `resume` is False, or `resume` is True and the run had other settings."""
    if config.out is None:
        if resume:
            raise ArgumentError([Setting("resume", True), " needs the run's folder: ", Setting("out", "FOLDER"), "."])
        return next(path for n in itertools.count(1) if _claim(path := Path("runs") / str(n)))
    path = Path(config.out)
    for name in SUBFOLDERS:
        refuse_link(path / name)
    if path.exists() and not path.is_dir():
        raise ArgumentError([f"{path} is a file; ", Setting("out"), " needs a folder."], argument="out")
    if resume:
        _check_same(config, path)
    elif _holds_run(path):
        remedy = [
            "Name another folder with ",
            Setting("out"),
            ", or resume the run with ",
            Setting("resume", True),
            ".",
        ]
        raise ArgumentError(f"{path} has a run already.", remedy=remedy, argument="out")
    return path


@contextlib.contextmanager
def removed_if_empty(out: Path, was_made: bool) -> Iterator[None]:
    """Remove the folder on exit if it `was_made` for the run and is empty, as after a failed start."""
    try:
        yield
    finally:
        if was_made:
            with contextlib.suppress(OSError):
                out.rmdir()


def _claim(path: Path) -> bool:
    """Whether a new run can have a folder. Rank 0 creates it at once, so that no other run takes it."""
    if not is_rank_zero():
        return not path.exists()
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        return False
    return True


def _holds_run(path: Path) -> bool:
    """Whether a folder has results of a run. Settings alone are those of a run that failed before its first step."""
    rows = path / "metrics.jsonl"
    return (path / "model").exists() or newest(path) is not None or (rows.exists() and rows.stat().st_size > 0)


def with_precision(config: TrainConfig, device: torch.device, resume: bool) -> TrainConfig:
    """`config` with a `precision`: its own, that of the resumed run, or the fastest on the device without a loss scale:
    bf16, else fp32. Rank 0 decides for all processes."""
    if config.precision:
        return config
    begun = settings_of_run(config.out) if resume and config.out else None
    default = begun["precision"] if begun else "bf16" if has_bfloat16(device) else "fp32"
    return replace(config, precision=broadcast_object(default))


def settings_of_run(out: str | Path) -> dict[str, Any] | None:
    """The settings of the run in `out` as plain values; None if there is no run. Raises ValueError if they are
    damaged."""
    path = Path(out) / SETTINGS
    if not path.exists():
        return None
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DiptychError(f"{path} is damaged ({error}); it should have the settings of the run.") from error


def _check_same(config: TrainConfig, out: Path) -> None:
    if (begun := settings_of_run(out)) is None:
        return
    before, now = asdict(from_fields(begun)), asdict(config)
    for name in now:
        if before[name] != now[name] and name not in CHANGEABLE_SETTINGS:
            raise ArgumentError(
                [f"the run in {out} started with ", Setting(name, before[name]), f"; now it is {now[name]!r}."],
                remedy=["A resumed run keeps its settings; start another with ", Setting("out"), "."],
                argument=name,
            )


def write_settings(out: Path, config: TrainConfig) -> None:
    """Write run.json, the settings of the run."""
    out.mkdir(parents=True, exist_ok=True)
    atomic_write_text(out / SETTINGS, to_json(config))
