"""Finds a model by its name: `bundled`, a file, a folder, a pretrained model's short name, or a hub id. A folder one
level too high is accepted if it contains exactly one model; otherwise the error lists its contents."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from diptych.checkpoint.hub import HubId, fetch
from diptych.checkpoint.pretrained.names import pretrained_model, similar_names, trained_names
from diptych.checkpoint.settings import READABLE
from diptych.checkpoint.state import Checkpoint, listing
from diptych.checkpoint.weights.files import WEIGHTS, first_of, other_weights, read_json, read_text
from diptych.errors import CheckpointError, TokenizerError
from diptych.scoring.reference_pictures import REFERENCE_FILE, ReferencePictures, parse
from diptych.text.known_words import WORDS_FILE, KnownWords
from diptych.text.tokenizer import Tokenizer
from diptych.untrusted.json import parse_json

BUNDLED = Path(__file__).parent.parent / "bundled"
BUNDLED_NAME = "bundled"
WHOLE_MODEL_CLASSES = ("CLIPModel", "SiglipModel", "Siglip2Model")  # the classes of transformers with both towers
UNUSED_ADAPTER = "a PEFT adapter beside the weights is not used: merge both to apply it"
MAX_SIBLINGS = 3  # models beside a folder that an error lists; more would be a collection
MAX_ENTRIES = 1000  # entries of a folder that are examined; a folder with more is no model's


class ModelLocation(NamedTuple):
    """A folder or a file of weights. `source` is its name in errors; `note` is a sentence on where it was found, empty
    if that is where the caller pointed."""

    path: Path
    source: str
    note: str = ""


def find(source: str | os.PathLike[str] | None, *, revision: str | None = None) -> ModelLocation:
    """Find a model as `diptych.load` does; None is the bundled one. Raises CheckpointError, HubError for the hub."""
    if source is None or str(source) == BUNDLED_NAME:
        if not BUNDLED.is_dir():
            raise CheckpointError("this installation lacks the bundled model; pass a model folder or a hub id.")
        if revision is not None:
            raise CheckpointError(f"the bundled model has no revisions; leave revision={revision!r} out.")
        return ModelLocation(BUNDLED, str(BUNDLED))
    if not isinstance(source, str | os.PathLike) or not str(source).strip():
        raise CheckpointError(f"{source!r} is not a model; wanted a model folder, a file, a hub id, or 'bundled'.")
    if isinstance(source, HubId):
        return _on_hub(source, revision)
    path = Path(source).expanduser() if str(source).startswith("~") else Path(source)
    if revision is not None and path.exists():
        raise CheckpointError(f"{source} is a local path, which has no revisions; leave revision={revision!r} out.")
    if path.is_dir():
        found = _in_folder(path, str(source))
        return found._replace(note="; ".join(filter(None, (_shadowed(str(source)), found.note))))
    if path.is_file():
        return ModelLocation(path, str(source), _shadowed(str(source)))
    return _on_hub(_named(str(source)), revision)


def _shadowed(source: str) -> str:
    """A sentence on the pretrained model whose short name a local path has; empty if there is none."""
    model = pretrained_model(source) if os.path.basename(source) == source else None
    return f"the local {source}, not the pretrained model of that name, which is {model.hub_id}" if model else ""


def _named(source: str) -> HubId:
    """The model on the hub of a short name or an id. Raises CheckpointError, with similar names, if it is neither."""
    if model := pretrained_model(source):
        return HubId(model.hub_id)
    from diptych.nets.presets import PRESETS  # here, because opening a folder does not need it

    if source in PRESETS:
        trained = trained_names(source)
        raise CheckpointError(
            f"{source} is the name of an architecture, which has no weights; `diptych train --model {source}` trains "
            "one. Pass a model folder, a file or a hub id"
            + (f", or the name of a pretrained one: {listing(trained, ', ')}." if trained else ".")
        )
    if hub_id := HubId.parse(source):
        return hub_id
    names = similar_names(source)
    near = f" Did you mean {' or '.join(names)}?" if names else ""
    raise CheckpointError(f"{source} is not a file, a folder or a hub id (such as owner/name).{near}")


def _on_hub(hub_id: HubId, revision: str | None) -> ModelLocation:
    """A model of the hub; its `source` has the commit that was found."""
    if revision is not None and hub_id.revision not in (None, revision):
        raise CheckpointError(f"{hub_id}@{hub_id.revision} names a revision; leave revision={revision!r} out.")
    folder = fetch(str(hub_id), revision=revision or hub_id.revision)
    return _in_folder(folder, HubId(hub_id, folder.name))


def is_model(folder: Path) -> bool:
    """Whether a folder has the configuration of a supported model."""
    return (folder / "open_clip_config.json").is_file() or _model_type(folder) in READABLE


def _model_type(folder: Path) -> str | None:
    try:
        return str(read_json(folder / "config.json").get("model_type"))
    except (OSError, CheckpointError):
        return None


def _in_folder(folder: Path, source: str) -> ModelLocation:
    """The folder itself if it is a model, even one that cannot be read; else the model inside it."""
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
    """The model in a folder of a known kind. Raises CheckpointError if such a folder has none, or several."""
    looks = (_in_cache, _in_run, _in_modules, _in_pipeline)
    return next((path for look in looks if (path := look(folder, source))), None)


def _is_wrapped(folder: Path) -> bool:
    """Whether the folder's config.json is not that of a model."""
    return any((folder / name).is_file() for name in ("modules.json", "model_index.json"))


def _note(folder: Path, path: Path) -> str:
    return f"opened {os.path.relpath(path, folder)}, the model in it"


def models_in(folder: Path) -> list[Path]:
    """The models directly below: folders that are models, and models in folders of a known kind."""
    found = []
    for path in _folders(folder):
        try:
            path = path if is_model(path) else _search_subfolders(path, str(path))
        except CheckpointError:
            continue
        found += [path] if path else []
    return found


def _folders(folder: Path) -> list[Path]:
    """The folders directly below, shorter names first, so that numbers are in order."""
    try:
        with os.scandir(folder) as entries:
            found = [entry.path for _, entry in zip(range(MAX_ENTRIES), entries, strict=False) if entry.is_dir()]
    except OSError:
        return []
    return sorted(map(Path, found), key=lambda path: (len(path.name), path.name))


def _in_cache(folder: Path, source: str) -> Path | None:
    """The hub's cache: models--OWNER--NAME/snapshots/COMMIT, and refs/main, which contains the current commit."""
    home = folder.parent if folder.name == "snapshots" else folder
    snapshots = _folders(home / "snapshots")
    if not snapshots:
        return None
    current = (read_text(home / "refs" / "main") or "").strip()
    chosen = [path for path in snapshots if path.name == current] or snapshots
    if len(chosen) > 1:
        raise CheckpointError(
            f"{source} is a hub cache with {len(chosen)} revisions, none marked as current. Pass one of "
            f"them: {_listed_paths(chosen)}."
        )
    return _in_folder(chosen[0], source).path


def _in_run(folder: Path, source: str) -> Path | None:
    """A run of `diptych train`: its model, or its last checkpoint's if the run has not ended."""
    if not (folder / "run.json").is_file():
        return None
    saved = [folder / "model", *reversed(_folders(folder / "checkpoints"))]
    if path := next((path for path in saved if is_model(path)), None):
        return path
    raise CheckpointError(f"{source} is a run's folder, without a saved model yet.")


def _in_modules(folder: Path, source: str) -> Path | None:
    """sentence-transformers: modules.json lists its modules in order."""
    text = read_text(folder / "modules.json")
    if text is None:
        return None
    try:
        modules = [
            (str(each["type"]).rpartition(".")[2], folder / Path(each["path"]).name) for each in parse_json(text)
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{folder / 'modules.json'} is not a list of modules ({error}).") from error
    whole = [path for _, path in modules if is_model(path)]
    if len(whole) == 1 and all(path in whole or kind == "Normalize" for kind, path in modules):
        return whole[0]
    parts = listing([f"{path.name} ({kind})" for kind, path in modules], ", ")
    raise CheckpointError(
        f"{source} is a sentence-transformers model of {parts}; only a whole CLIP with nothing after it is supported."
    )


def _in_pipeline(folder: Path, source: str) -> Path | None:
    """diffusers: model_index.json lists the components and their classes."""
    if not (folder / "model_index.json").is_file():
        return None
    index = read_json(folder / "model_index.json")
    parts = {name: part[1] for name, part in index.items() if isinstance(part, list) and len(part) == 2 and part[1]}
    paths = [folder / Path(name).name for name, kind in parts.items() if kind in WHOLE_MODEL_CLASSES]
    whole = [path for path in paths if is_model(path)]
    if len(whole) == 1:
        return whole[0]
    towers = [f"{name} ({kind})" for name, kind in parts.items() if str(kind).startswith(("CLIP", "Siglip"))]
    has = f" It has {listing(towers, ', ')}: single towers, without a temperature." if towers else ""
    raise CheckpointError(
        f"{source} is a diffusers pipeline ({index.get('_class_name')}) without a whole CLIP (both towers).{has} "
        "Pass the CLIP that its text encoder is from."
    )


def _adapter_message(folder: Path, source: str) -> str:
    settings = read_json(folder / "adapter_config.json")
    base, kind = settings.get("base_model_name_or_path"), settings.get("peft_type")
    opened = f"AutoModel.from_pretrained({repr(str(base)) if base else 'BASE'})"
    return (
        f"{source} is a PEFT adapter ({kind}) for {base or 'a base model'}, not a whole model. "
        f"Merge both first: PeftModel.from_pretrained({opened}, {source!r})"
        ".merge_and_unload().save_pretrained(FOLDER), and copy the tokenizer's files there."
    )


def _no_model_message(folder: Path, source: str, inside: list[Path]) -> str:
    """An error for a folder without a model, with its contents and the models beside it."""
    none = f"{source} has neither config.json nor open_clip_config.json; it is not a model folder."
    if inside:
        return f"{none} It contains {len(inside)} models; pass one of them: {_listed_paths(inside)}."
    if weights := other_weights(folder):
        named = listing([path.name for path in weights], ", ")
        return f"{none} It contains {len(weights)} files of weights: {named}; pass the path of one."
    names = sorted(os.listdir(folder))[:MAX_ENTRIES]
    beside = [path.name for path in models_in(folder.resolve().parent) if folder.resolve() not in (path, *path.parents)]
    near = f" Beside it there is {', '.join(beside)}." if 0 < len(beside) <= MAX_SIBLINGS else ""
    return f"{none} {'It contains ' + listing(names, ', ') if names else 'It is empty'}.{near}"


def _listed_paths(paths: Iterable[Path]) -> str:
    return listing([str(path) for path in paths], ", ")


def tokenizer_of(checkpoint: Checkpoint) -> Tokenizer | None:
    """The tokenizer of a model; None if it has none. Only that of the bundled model is trusted. Raises TokenizerError
    if it is invalid."""
    if not checkpoint.tokenizer_json:
        return None
    try:
        tower, is_ours = checkpoint.config.text, checkpoint.source == str(BUNDLED)
        return Tokenizer.of_tower(checkpoint.tokenizer_json, tower, checkpoint.text_preprocessing, is_ours=is_ours)
    except TokenizerError as error:
        raise TokenizerError(f"{checkpoint.source}: {error}") from error


def known_words_of(checkpoint: Checkpoint) -> KnownWords | None:
    """The words that a model's training saw; None if its files do not say, or name no word."""
    try:
        known = KnownWords(checkpoint.search_files.get(WORDS_FILE, b"").decode())
    except UnicodeDecodeError:
        return None
    return known if known.words else None


def reference_pictures_of(checkpoint: Checkpoint) -> ReferencePictures | None:
    """The pictures that say how near a text comes; None if the model's files have none. Raises CheckpointError if their
    file is damaged or too large."""
    content = checkpoint.search_files.get(REFERENCE_FILE)
    return None if content is None else parse(content, checkpoint.config.embed_dim, checkpoint.source)
