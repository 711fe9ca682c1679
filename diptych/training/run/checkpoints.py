"""Checkpoints of a run: OUT/checkpoints/STEP, a model folder with the averaged weights, usable at any time, and with
training.pt, which resumes the run. A checkpoint is complete or absent: it is written under another name, flushed to the
disk, and renamed."""

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

VERSION = 1  # of training.pt
FOLDER, STATE = "checkpoints", "training.pt"


def newest(out: Path) -> Path | None:
    """The last checkpoint of the run in `out`; None if there is none."""
    found = [path for path in (out / FOLDER).glob("[0-9]*") if path.name.isdecimal() and path.is_dir()]
    return max(found, key=lambda path: int(path.name)) if found else None


def save(out: Path, steps: int, state: dict[str, Any], write_model: Callable[[Path], object]) -> Path:
    """Write the checkpoint of step `steps`, then remove the one before it.

    `write_model` writes a model into a folder. Raises OSError if the disk is full or fails: the incomplete checkpoint
    is removed, and the one before it stays.
    """
    folder = subfolder(out / FOLDER)
    sweep(out)
    final = folder / f"{steps:09d}"
    if final.exists():  # a run that is resumed and interrupted before a step
        return final
    try:
        with atomic_folder(final) as new:
            write_model(new)
            with open(new / STATE, "wb") as file:
                torch.save({**state, "version": VERSION}, file)
    except (OSError, RuntimeError) as error:
        raise _not_saved(error, out, steps) from error
    for old in folder.glob("[0-9]*"):
        if old != final:
            _remove(old)
    return final


def load(checkpoint: Path) -> dict[str, Any]:
    """The saved state. Raises ValueError, with a remedy, if the file is damaged."""
    remedy = f"Remove {checkpoint} to start again, or start from the model in it with init={str(checkpoint)!r}."
    try:
        state = torch.load(checkpoint / STATE, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises the errors of all its parsers
        raise ArgumentError(f"{checkpoint / STATE} cannot be read ({error}). {remedy}") from error
    if state.get("version") != VERSION:
        raise ArgumentError(f"{checkpoint / STATE} was written by another version of diptych. {remedy}")
    return state


def sweep(out: Path) -> None:
    """Remove the remains of an interrupted save or removal."""
    refuse_link(out / FOLDER)
    for path in (out / FOLDER).glob(".*"):
        shutil.rmtree(path, ignore_errors=True)


def _remove(checkpoint: Path) -> None:
    """Rename it first, so that a half-removed checkpoint does not look complete."""
    renamed = checkpoint.with_name(f".old-{uuid4().hex}")
    os.rename(checkpoint, renamed)
    shutil.rmtree(renamed, ignore_errors=True)


def _not_saved(error: Exception, out: Path, steps: int) -> "CheckpointNotSavedError":
    last = newest(out)
    kept = f"the one of step {int(last.name)} is complete" if last else "there is none before it"
    return CheckpointNotSavedError(
        f"the checkpoint of step {steps} could not be written ({error}); {kept}.",
        remedy=[f"Free disk space for {out}, then resume with ", Setting("resume", True), "."],
    )
