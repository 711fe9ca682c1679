"""Checkpoints of a run: OUT/checkpoints/STEP, a model folder with the averaged weights, usable at any time, and with
training.pt, which resumes the run. A checkpoint is complete or absent: it is written under another name, flushed to the
disk, and renamed. It lists the sizes of its files, so that one that a copy or a file system cut is noticed, and the one
before it is kept for that case. Several processes write their tensors apart (see `sharded_checkpoints`)."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

from diptych.errors import ArgumentError, CheckpointNotSavedError, Setting
from diptych.storage.atomic import atomic_folder
from diptych.storage.output_files import refuse_link, subfolder
from diptych.untrusted.json import parse_json

VERSION = 1  # of training.pt
FOLDER, STATE, SHARDS, SIZES = "checkpoints", "training.pt", "shards", "sizes.json"


def all_of(out: Path) -> list[Path]:
    """The checkpoints of the run in `out`, the newest first."""
    found = [path for path in (out / FOLDER).glob("[0-9]*") if path.name.isdecimal() and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name), reverse=True)


def newest(out: Path) -> Path | None:
    """The last checkpoint of the run in `out` that is whole, or if none is the last; None if there is none."""
    found = all_of(out)
    return next((path for path in found if not damage(path)), found[0] if found else None)


def damage(checkpoint: Path) -> str | None:
    """What is missing of a checkpoint by the sizes of its files; None if nothing is."""
    if not (checkpoint / SIZES).is_file():  # of an older version
        return None if (checkpoint / STATE).is_file() else f"{STATE} is missing"
    try:
        sizes = dict(parse_json((checkpoint / SIZES).read_bytes()))
    except (OSError, ValueError, TypeError):
        return f"{SIZES} is damaged"
    for name, wanted in sizes.items():
        try:
            size = (checkpoint / name).stat().st_size
        except OSError:
            return f"{name} is missing"
        if size != wanted:
            return f"{name} has {size:,} bytes instead of {wanted:,}"
    return None


def passed_over(out: Path) -> list[str]:
    """A sentence for each damaged checkpoint that is newer than the newest whole one."""
    found, last = all_of(out), newest(out)
    newer = found[: found.index(last)] if last in found else []
    return [f"the checkpoint of step {int(path.name)} is damaged and left out: {damage(path)}" for path in newer]


def path_of(out: Path, steps: int) -> Path:
    """The folder of the checkpoint of step `steps`."""
    return out / FOLDER / f"{steps:09d}"


def staging(out: Path) -> Path:
    """A new name, which `sweep` removes, for files of a checkpoint that is being written."""
    sweep(out)
    return subfolder(out / FOLDER) / f".new-{uuid4().hex}"


def save(
    out: Path, steps: int, state: dict[str, Any], write_model: Callable[[Path], object], *, staging: Path | None = None
) -> Path:
    """Write the checkpoint of step `steps`, then remove all but the one before it.

    `write_model` writes a model into a folder, perhaps from files in `staging`. Raises OSError if the disk is full or
    fails: the incomplete checkpoint is removed, and the one before it stays.
    """
    folder = subfolder(out / FOLDER)
    sweep(out, staging)
    final = path_of(out, steps)
    if final.exists() and not damage(final):  # a run that is resumed and interrupted before a step
        sweep(out)
        return final
    try:
        if final.exists():
            _remove(final)
        with atomic_folder(final) as new:
            write_model(new)
            with open(new / STATE, "wb") as file:
                torch.save({**state, "version": VERSION}, file)
            (new / SIZES).write_text(json.dumps(_sizes(new)), encoding="utf-8")
    except (OSError, RuntimeError) as error:
        raise not_saved(error, out, steps) from error
    before = next((path for path in all_of(out) if int(path.name) < steps and not damage(path)), None)
    for old in folder.glob("[0-9]*"):
        if old not in (final, before):
            _remove(old)
    return final


def _sizes(folder: Path) -> dict[str, int]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def load(checkpoint: Path) -> dict[str, Any]:
    """The saved state. Raises ValueError, with a remedy, if the file is damaged."""
    try:
        state = torch.load(checkpoint / STATE, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises the errors of all its parsers
        raise ArgumentError(f"{checkpoint / STATE} cannot be read ({error}). {remedy(checkpoint)}") from error
    if state.get("version") != VERSION:
        raise ArgumentError(f"{checkpoint / STATE} was written by another version of diptych. {remedy(checkpoint)}")
    return state


def remedy(checkpoint: Path) -> str:
    """What to do about a checkpoint that cannot be read."""
    return f"Remove {checkpoint} to start again, or start from the model in it with init={str(checkpoint)!r}."


def sweep(out: Path, staging: Path | None = None) -> None:
    """Remove the remains of an interrupted save or removal, but not `staging`."""
    refuse_link(out / FOLDER)
    for path in (out / FOLDER).glob(".*"):
        if path != staging:
            shutil.rmtree(path, ignore_errors=True)


def _remove(checkpoint: Path) -> None:
    """Rename it first, so that a half-removed checkpoint does not look complete."""
    renamed = checkpoint.with_name(f".old-{uuid4().hex}")
    os.rename(checkpoint, renamed)
    shutil.rmtree(renamed, ignore_errors=True)


def not_saved(error: Exception | str, out: Path, steps: int) -> "CheckpointNotSavedError":
    """The error for a checkpoint that could not be written."""
    if isinstance(error, CheckpointNotSavedError):
        return error
    last = newest(out)
    kept = f"the one of step {int(last.name)} is complete" if last else "there is none before it"
    return CheckpointNotSavedError(
        f"the checkpoint of step {steps} could not be written ({error}); {kept}.",
        remedy=[f"Free disk space for {out}, then resume with ", Setting("resume", True), "."],
    )
