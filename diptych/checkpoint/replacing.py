"""One model put in the place of another, whole or not at all."""

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

# What belongs to a model, and so goes when another is saved in its place. Other files of a user's in the folder stay.
MODEL_FILE = re.compile(
    r"(config|preprocessor_config|processor_config|special_tokens_map|vocab|open_clip_config)\.json|merges\.txt|"
    r"tokenizer.*\.json|(open_clip_)?(pytorch_)?model.*\.(safetensors|bin)(\.index\.json)?"
)


def json_text(content: dict[str, Any]) -> str:
    """JSON as it stands in a model folder."""
    return json.dumps(content, indent=2) + "\n"


def replace_folder(target: Path, fill: Callable[[Path], None]) -> Path:
    """Have `fill` write a new folder beside, then put it in the place of `target`: never half a model stands there.

    Where nothing stood, that is one rename, and atomic. Where a model stood it is two: a reader may for a moment find
    no folder, and a process killed just then leaves the former model beside as `.NAME.old-*`, which the next call puts
    back before it begins. One killed while it writes leaves a `.NAME.new-*`, which nobody needs. An error restores all.
    """
    target = target.resolve()
    _take_back(target)
    check_replaceable(target)
    mark = uuid4().hex[:8]
    new, old = target.with_name(f".{target.name}.new-{mark}"), target.with_name(f".{target.name}.old-{mark}")
    new.mkdir(parents=True)
    try:
        fill(new)
        if target.exists():
            target.rename(old)
        new.rename(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        shutil.rmtree(new, ignore_errors=True)
        raise
    if old.exists():
        _discard(old, target)
    return target


def _take_back(target: Path) -> None:
    """Undo or finish what a killed `replace_folder` had begun: the former model returns, or goes if there is a new."""
    beside = target.parent.iterdir() if target.parent.is_dir() else ()
    name = re.compile(re.escape(f".{target.name}.old-") + "[0-9a-f]{8}")
    strays = [path for path in beside if name.fullmatch(path.name) and path.is_dir() and not path.is_symlink()]
    for old in sorted(strays, key=lambda path: path.stat().st_mtime, reverse=True):
        if not target.exists():
            old.rename(target)
        elif is_model_folder(target):
            _discard(old, target)


def check_replaceable(target: str | os.PathLike[str]) -> None:
    """CheckpointError where something stands that is not to be replaced: a file, or a folder that is neither empty nor
    a model's. A long run asks before it begins, what `save_folder` asks in the end."""
    target = Path(target)
    if not target.exists() or (target.is_dir() and (not any(target.iterdir()) or is_model_folder(target))):
        return
    what = "a folder with other things in it" if target.is_dir() else "a file"
    raise CheckpointError(f"{target} is {what}; nothing was written. Name a new folder, or a model's.")


def is_model_folder(folder: Path) -> bool:
    """Whether the folder says of itself that it holds a model."""
    if (folder / "open_clip_config.json").is_file():
        return True
    try:
        return "model_type" in read_json(folder / "config.json")
    except (OSError, CheckpointError):
        return False


def _discard(old: Path, new: Path) -> None:
    """Remove a former model; what is no part of it moves to the new one, unless that has a file of the same name."""
    for path in old.iterdir():
        if not MODEL_FILE.fullmatch(path.name) and not (new / path.name).exists():
            path.rename(new / path.name)
    shutil.rmtree(old)


def check_apart(source: Path, target: Path) -> None:
    """CheckpointError where a conversion would replace its own source: also a folder that holds the
    source goes when a model is put in its place."""
    source, target = source.resolve(), target.resolve()
    if source.exists() and target in (source, *source.parents):
        what = "the source itself" if target == source else f"the folder that {source.name} lies in"
        raise CheckpointError(f"{target} is {what}; nothing was written. Name another place to convert to.")
