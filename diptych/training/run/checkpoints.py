"""Checkpoints of a run: OUT/checkpoints/STEP, a model folder (the averaged weights, to be tried at any time) with all
that the run needs to go on beside it in training.pt. Whole or not there: each is written under another name, flushed to
the disk, and renamed."""

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

VERSION = 1  # of what a checkpoint holds
FOLDER, STATE = "checkpoints", "training.pt"


def newest(out: Path) -> Path | None:
    """The last checkpoint of the run in `out`; None before the first."""
    found = [path for path in (out / FOLDER).glob("[0-9]*") if path.name.isdecimal() and path.is_dir()]
    return max(found, key=lambda path: int(path.name)) if found else None


def save(out: Path, steps: int, state: dict[str, Any], write_model: Callable[[Path], object]) -> Path:
    """Write the checkpoint of step `steps`, then remove the one before it.

    `write_model` writes a model into the folder that it is given. OSError where the disk is full or fails: what was
    written of the new one is removed, and the one before it stays.
    """
    home = subfolder(out / FOLDER)
    sweep(out)
    final = home / f"{steps:09d}"
    if final.exists():  # a run that is resumed and interrupted at once
        return final
    try:
        with atomic_folder(final) as new:
            write_model(new)
            with open(new / STATE, "wb") as file:
                torch.save({**state, "version": VERSION}, file)
    except (OSError, RuntimeError) as error:
        raise _lost(error, out, steps) from error
    for old in home.glob("[0-9]*"):
        if old != final:
            _remove(old)
    return final


def load(checkpoint: Path) -> dict[str, Any]:
    """The state that was saved. ValueError, with what to do, where the file is damaged."""
    either = f"Remove {checkpoint} to begin again, or start from the model in it with init={str(checkpoint)!r}."
    try:
        state = torch.load(checkpoint / STATE, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its parsers do
        raise ArgumentError(f"{checkpoint / STATE} cannot be read ({error}). {either}") from error
    if state.get("version") != VERSION:
        raise ArgumentError(f"{checkpoint / STATE} is of another version of diptych. {either}")
    return state


def sweep(out: Path) -> None:
    """Remove what an interrupted save or removal left behind."""
    refuse_link(out / FOLDER)
    for path in (out / FOLDER).glob(".*"):
        shutil.rmtree(path, ignore_errors=True)


def _remove(checkpoint: Path) -> None:
    """Take the name away first: a checkpoint half removed must not look like one."""
    gone = checkpoint.with_name(f".old-{uuid4().hex}")
    os.rename(checkpoint, gone)
    shutil.rmtree(gone, ignore_errors=True)


def _lost(error: Exception, out: Path, steps: int) -> "CheckpointNotSavedError":
    last = newest(out)
    kept = f"the one of step {int(last.name)} is whole" if last else "there is none before it"
    return CheckpointNotSavedError(
        f"the checkpoint of step {steps} could not be written ({error}); {kept}.",
        remedy=[f"Make room for it beside {out}, then go on with ", Setting("resume", True), "."],
    )
