"""Where the model is that a name stands for: `bundled`, a file, a hub id, or a folder. A folder one level too high is
opened where it holds one model alone; else what it holds is said."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from diptych.checkpoint.hub import HubId, fetch, is_repo_id
from diptych.checkpoint.settings import READABLE
from diptych.checkpoint.state import listing
from diptych.checkpoint.weights.files import WEIGHTS, first_of, other_weights, read_json, read_text
from diptych.errors import CheckpointError
from diptych.untrusted.json import parse_json

BUNDLED = Path(__file__).parent.parent / "bundled"
BUNDLED_NAME = "bundled"
WHOLE_MODEL_CLASSES = ("CLIPModel", "SiglipModel", "Siglip2Model")  # the classes of transformers with both towers
UNUSED_ADAPTER = (
    "an adapter of PEFT lies beside the weights and is not used: merge both for a model that it has changed"
)
MAX_SIBLINGS = 3  # models beside a folder that are worth naming: more are a shelf
MAX_ENTRIES = 1000  # entries of a folder beyond which it is not looked through: someone's home, and no model's


class ModelLocation(NamedTuple):
    """A folder or a file of weights. `source` is what errors call it; `note` says where it was if not where it was
    looked for, and is empty otherwise."""

    path: Path
    source: str
    note: str = ""


def find(source: str | os.PathLike[str] | None, *, revision: str | None = None) -> ModelLocation:
    """What `diptych.load` takes, found; None is the bundled model. Raises CheckpointError, HubError for the hub."""
    if source is None or str(source) == BUNDLED_NAME:
        if not BUNDLED.is_dir():
            raise CheckpointError("this installation came without the bundled model; name a model folder or a hub id.")
        if revision is not None:
            raise CheckpointError(f"the bundled model has one revision; leave revision={revision!r} out.")
        return ModelLocation(BUNDLED, str(BUNDLED))
    if not isinstance(source, str | os.PathLike) or not str(source).strip():
        raise CheckpointError(f"{source!r} names no model; wanted a model folder, a file, a hub id, or 'bundled'.")
    if isinstance(source, HubId):
        return _in_folder(fetch(source, revision=revision), source)
    path = Path(source).expanduser() if str(source).startswith("~") else Path(source)
    if revision is not None and path.exists():
        raise CheckpointError(
            f"{source} is on this machine, where nothing has revisions; leave revision={revision!r} out."
        )
    if path.is_dir():
        return _in_folder(path, str(source))
    if path.is_file():
        return ModelLocation(path, str(source))
    from diptych.nets.presets import PRESETS  # here, for who opens a folder needs no list of architectures

    if str(source) in PRESETS:
        raise CheckpointError(
            f"{source} is the name of an architecture, which has no weights; `diptych train --model {source}` trains "
            "one. Pass a model folder, a file or a hub id."
        )
    if is_repo_id(str(source)):
        return _in_folder(fetch(str(source), revision=revision), str(source))
    raise CheckpointError(f"{source} is no file, no folder and no hub id (which looks like owner/name).")


def is_model(folder: Path) -> bool:
    """Whether a folder has the configuration of a model that can be read."""
    return (folder / "open_clip_config.json").is_file() or _model_type(folder) in READABLE


def _model_type(folder: Path) -> str | None:
    try:
        return str(read_json(folder / "config.json").get("model_type"))
    except (OSError, CheckpointError):
        return None


def _in_folder(folder: Path, source: str) -> ModelLocation:
    """The folder itself where it is a model, readable or not, which is said later; else the model in it."""
    has_adapter = (folder / "adapter_config.json").is_file()
    if has_adapter and not first_of(folder, WEIGHTS):
        raise CheckpointError(_adapter_message(folder, source))
    if is_model(folder) or ((folder / "config.json").is_file() and not _is_wrapped(folder)):
        return ModelLocation(folder, source, UNUSED_ADAPTER if has_adapter else "")
    if path := _search_subfolders(folder, source):
        return ModelLocation(path, source, _note(folder, path))
    inside = models_in(folder)
    if len(inside) == 1:
        return ModelLocation(inside[0], source, _note(folder, inside[0]))
    if not inside and len(files := other_weights(folder)) == 1:
        return ModelLocation(files[0], source, _note(folder, files[0]))
    raise CheckpointError(_no_model_message(folder, source, inside))


def _search_subfolders(folder: Path, source: str) -> Path | None:
    """The model in a folder of a known kind. CheckpointError where such a folder holds none, or no one."""
    looks = (_in_cache, _in_run, _in_modules, _in_pipeline)
    return next((path for look in looks if (path := look(folder, source))), None)


def _is_wrapped(folder: Path) -> bool:
    """Whether a config.json beside is not that of the model."""
    return any((folder / name).is_file() for name in ("modules.json", "model_index.json"))


def _note(folder: Path, path: Path) -> str:
    return f"opened {os.path.relpath(path, folder)}, the model in it"


def models_in(folder: Path) -> list[Path]:
    """The models right below: folders that are one, and those that are in folders of a known kind."""
    found = []
    for path in _folders(folder):
        try:
            path = path if is_model(path) else _search_subfolders(path, str(path))
        except CheckpointError:
            continue
        found += [path] if path else []
    return found


def _folders(folder: Path) -> list[Path]:
    """Those right below, by name and the numbers in them."""
    try:
        with os.scandir(folder) as entries:
            found = [entry.path for _, entry in zip(range(MAX_ENTRIES), entries, strict=False) if entry.is_dir()]
    except OSError:
        return []
    return sorted(map(Path, found), key=lambda path: (len(path.name), path.name))


def _in_cache(folder: Path, source: str) -> Path | None:
    """The hub's cache: models--OWNER--NAME/snapshots/COMMIT, and refs/main, which says which commit."""
    home = folder.parent if folder.name == "snapshots" else folder
    snapshots = _folders(home / "snapshots")
    if not snapshots:
        return None
    current = (read_text(home / "refs" / "main") or "").strip()
    chosen = [path for path in snapshots if path.name == current] or snapshots
    if len(chosen) > 1:
        raise CheckpointError(
            f"{source} is a cache of the hub with {len(chosen)} revisions and no word which is current. Pass one of "
            f"them: {_listed_paths(chosen)}."
        )
    return _in_folder(chosen[0], source).path


def _in_run(folder: Path, source: str) -> Path | None:
    """A run of `diptych train`: its model, or that of its last checkpoint where it has not ended."""
    if not (folder / "run.json").is_file():
        return None
    saved = [folder / "model", *reversed(_folders(folder / "checkpoints"))]
    if path := next((path for path in saved if is_model(path)), None):
        return path
    raise CheckpointError(f"{source} is the folder of a run that has saved no model yet.")


def _in_modules(folder: Path, source: str) -> Path | None:
    """sentence-transformers: modules.json lists what comes after what."""
    text = read_text(folder / "modules.json")
    if text is None:
        return None
    try:
        modules = [
            (str(each["type"]).rpartition(".")[2], folder / Path(each["path"]).name) for each in parse_json(text)
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{folder / 'modules.json'} is no list of modules ({error}).") from error
    whole = [path for _, path in modules if is_model(path)]
    if len(whole) == 1 and all(path in whole or kind == "Normalize" for kind, path in modules):
        return whole[0]
    parts = listing([f"{path.name} ({kind})" for kind, path in modules], ", ")
    raise CheckpointError(
        f"{source} is a model of sentence-transformers, made of {parts}: of these only a whole CLIP with nothing after "
        "it can be read."
    )


def _in_pipeline(folder: Path, source: str) -> Path | None:
    """diffusers: model_index.json names the parts and their classes."""
    if not (folder / "model_index.json").is_file():
        return None
    index = read_json(folder / "model_index.json")
    parts = {name: part[1] for name, part in index.items() if isinstance(part, list) and len(part) == 2 and part[1]}
    paths = [folder / Path(name).name for name, kind in parts.items() if kind in WHOLE_MODEL_CLASSES]
    whole = [path for path in paths if is_model(path)]
    if len(whole) == 1:
        return whole[0]
    towers = [f"{name} ({kind})" for name, kind in parts.items() if str(kind).startswith(("CLIP", "Siglip"))]
    has = f" It has {listing(towers, ', ')}: towers by themselves, without a temperature." if towers else ""
    raise CheckpointError(
        f"{source} is a pipeline of diffusers ({index.get('_class_name')}), of which no part is a whole CLIP with both "
        f"towers.{has} Pass the CLIP that its text encoder was taken from."
    )


def _adapter_message(folder: Path, source: str) -> str:
    settings = read_json(folder / "adapter_config.json")
    base, kind = settings.get("base_model_name_or_path"), settings.get("peft_type")
    opened = f"AutoModel.from_pretrained({repr(str(base)) if base else 'BASE'})"
    return (
        f"{source} holds an adapter of PEFT ({kind}), which changes {base or 'a base model'} and is no model alone. "
        f"Merge both first: PeftModel.from_pretrained({opened}, {source!r})"
        ".merge_and_unload().save_pretrained(FOLDER), with the tokenizer's files beside."
    )


def _no_model_message(folder: Path, source: str, inside: list[Path]) -> str:
    """What the folder is not, and what was found in it or beside it."""
    none = f"{source} holds neither config.json nor open_clip_config.json; it is no model folder."
    if inside:
        return f"{none} It holds {len(inside)} models; pass one of them: {_listed_paths(inside)}."
    if weights := other_weights(folder):
        named = listing([path.name for path in weights], ", ")
        return f"{none} It holds {len(weights)} files of weights: {named}; pass the path of one of them."
    names = sorted(os.listdir(folder))[:MAX_ENTRIES]
    beside = [path.name for path in models_in(folder.resolve().parent) if folder.resolve() not in (path, *path.parents)]
    near = f" Beside it lies {', '.join(beside)}." if 0 < len(beside) <= MAX_SIBLINGS else ""
    return f"{none} {'It holds ' + listing(names, ', ') if names else 'It is empty'}.{near}"


def _listed_paths(paths: Iterable[Path]) -> str:
    return listing([str(path) for path in paths], ", ")
