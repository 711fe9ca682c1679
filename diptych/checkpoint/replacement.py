"""Replacing a model by another, completely or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

from diptych.checkpoint.weights.files import read_json
from diptych.errors import CheckpointError
from diptych.storage.atomic import atomic_folder

# Files of a model, which are deleted when another model replaces it. The user's other files in the folder stay.
MODEL_FILE = re.compile(
    r"(config|preprocessor_config|processor_config|special_tokens_map|vocab|open_clip_config)\.json|merges\.txt|"
    r"words\.txt|reference_pictures\.safetensors|"
    r"tokenizer.*\.json|(open_clip_)?(pytorch_)?model.*\.(safetensors|bin)(\.index\.json)?"
)


def json_text(content: dict[str, Any]) -> str:
    """JSON in the layout of a model folder's files."""
    return json.dumps(content, indent=2) + "\n"


def replace_folder(
    target: Path, fill: Callable[[Path], None], *, replaceable: Callable[[Path], bool] | None = None
) -> Path:
    """Let `fill` write a new folder, then replace `target` by it, with the guarantee of `atomic_folder`. `replaceable`
    says whether a folder is one of the kind that is written; by default a model's.

    A process killed between the two renames leaves the old model beside `target` as `.NAME.old-XXXXXXXX`; the next call
    restores it first. Raises CheckpointError as `check_replaceable` does.
    """
    target = target.resolve()
    replaceable = replaceable or is_model_folder
    _restore(target, replaceable)
    check_replaceable(target, replaceable)
    old = target.with_name(f".{target.name}.old-{uuid4().hex[:8]}")
    with atomic_folder(target, aside=old) as new:
        fill(new)
    if old.exists():
        _discard(old, target)
    return target


def _restore(target: Path, replaceable: Callable[[Path], bool]) -> None:
    """Undo or finish a `replace_folder` that was killed: restore the old model, or delete it if there is a new one."""
    siblings = target.parent.iterdir() if target.parent.is_dir() else ()
    name = re.compile(re.escape(f".{target.name}.old-") + "[0-9a-f]{8}")
    strays = [path for path in siblings if name.fullmatch(path.name) and path.is_dir() and not path.is_symlink()]
    for old in sorted(strays, key=lambda path: path.stat().st_mtime, reverse=True):
        if not target.exists():
            old.rename(target)
        elif replaceable(target):
            _discard(old, target)


def check_replaceable(target: str | os.PathLike[str], replaceable: Callable[[Path], bool] | None = None) -> None:
    """Raise CheckpointError if `target` must not be replaced: a file, or a folder that is neither empty nor a model's.
    `save_folder` checks this too, but a long run should check it before it begins. `replaceable` as in
    `replace_folder`."""
    target = Path(target)
    replaceable = replaceable or is_model_folder
    if not target.exists() or (target.is_dir() and (not any(target.iterdir()) or replaceable(target))):
        return
    kind = "a folder with other files in it" if target.is_dir() else "a file"
    raise CheckpointError(f"{target} is {kind}; nothing was written. Pass a new folder, or a model's.")


def is_model_folder(folder: Path) -> bool:
    """Whether the folder's configuration is that of a model."""
    if (folder / "open_clip_config.json").is_file():
        return True
    try:
        return "model_type" in read_json(folder / "config.json")
    except (OSError, CheckpointError):
        return False


def _discard(old: Path, new: Path) -> None:
    """Delete an old model. Other files in its folder move to the new one, unless that has a file of the same name."""
    for path in old.iterdir():
        if not MODEL_FILE.fullmatch(path.name) and not (new / path.name).exists():
            path.rename(new / path.name)
    shutil.rmtree(old)


def check_apart(source: Path, target: Path) -> None:
    """Raise CheckpointError if a conversion to `target` would delete its own source: `target` is the source or a folder
    around it."""
    source, target = source.resolve(), target.resolve()
    if source.exists() and target in (source, *source.parents):
        kind = "the source itself" if target == source else f"the folder that contains {source.name}"
        raise CheckpointError(f"{target} is {kind}; nothing was written. Pass another target.")
