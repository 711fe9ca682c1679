"""The model folder: config.json, model.safetensors, tokenizer.json, preprocessor_config.json.

It is Hugging Face's layout, so that `transformers` opens what is saved here wherever it has the architecture; for the
others (ResNet towers, mean pooling) config.json has model_type "diptych" and our own fields, and the tensors our names.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from diptych.checkpoint import huggingface
from diptych.checkpoint.files import read_json, read_weights
from diptych.checkpoint.settings import OURS, TOWERS, read_settings
from diptych.checkpoint.state import Checkpoint, CheckpointError, cast, check, wanted_state
from diptych.nets.clip import CLIP
from diptych.nets.config import CLIPConfig

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
# What belongs to a model, and so goes when another is saved in its place. Other files of a user's in the folder stay.
MODEL_FILE = re.compile(
    r"(config|preprocessor_config|processor_config|special_tokens_map|vocab|open_clip_config)\.json|merges\.txt|"
    r"tokenizer.*\.json|(open_clip_)?(pytorch_)?model.*\.(safetensors|bin)(\.index\.json)?"
)


def save_folder(
    folder: str | os.PathLike[str],
    model: CLIP | tuple[CLIPConfig, Mapping[str, Tensor]],
    *,
    tokenizer_json: str | bytes | None,
    preprocess: dict[str, Any],
    card: str | None = None,
    dtype: torch.dtype | None = torch.float32,
) -> Path:
    """Write a model folder, whole or not at all (as `replace_folder` says), and return its path.

    `model` is a network, or a configuration and its state. `preprocess` is in the form of preprocessor_config.json;
    `card` becomes README.md. `dtype` is that of the weights in the file; None keeps what they have. A model folder in
    that place is replaced; CheckpointError, and nothing is written, where another folder or a file stands there.
    """
    config, state = (model.config, model.state_dict()) if isinstance(model, CLIP) else model
    settings, tensors = _form(config, {name: cast(tensor, dtype) for name, tensor in state.items()})
    texts = {
        "config.json": json_text(settings),
        "preprocessor_config.json": json_text(preprocess),
        "tokenizer.json": tokenizer_json,
        # CLIP's tokenizer transformers finds by the model's type
        "tokenizer_config.json": tokenizer_settings(config, tokenizer_json)
        if tokenizer_json and settings["model_type"] == "siglip"
        else None,
        "README.md": card,
    }

    def fill(new: Path) -> None:
        for name, text in texts.items():
            if text is not None:
                (new / name).write_bytes(text.encode() if isinstance(text, str) else text)
        save_tensors(new / "model.safetensors", tensors)

    return replace_folder(Path(folder), fill)


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """A .safetensors file, from whatever device."""
    path.touch()
    mode = path.stat().st_mode
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(tensors, path, metadata={"format": "pt"})  # older versions of transformers ask for it
    except SafetensorError as error:  # how it tells of a full disk
        raise OSError(f"{path} could not be written ({error}).") from error
    path.chmod(mode)  # safetensors lets its owner alone read it


def _form(config: CLIPConfig, state: dict[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """config.json and the tensors: in Hugging Face's form where transformers has the architecture."""
    check(state, wanted_state(config, "the model"), "the model")
    if not huggingface.holds(config):
        return _to_fields(config), state
    settings = huggingface.config_to_json(config)
    dtype = str(state["text.token.weight"].dtype).removeprefix("torch.")
    return settings | {"dtype": dtype}, huggingface.write_state(state, settings)


def json_text(content: dict[str, Any]) -> str:
    """JSON as it stands in a model folder."""
    return json.dumps(content, indent=2) + "\n"


def tokenizer_settings(config: CLIPConfig, tokenizer_json: str | bytes) -> str:
    """A tokenizer_config.json, for readers that do not know the class from the model's type: what to pad with, and how
    far. Under a causal mask the end token is as good a padding as any, and unlike 0 it is no word of its own."""
    text = tokenizer_json if isinstance(tokenizer_json, str) else tokenizer_json.decode()
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"tokenizer_json is no tokenizer.json ({error}).") from error
    token = tokenizer.id_to_token(config.text.end_id if config.text.causal else config.text.pad_id)
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": config.text.context}
    return json_text(said if token is None else said | {"pad_token": token})


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
    strays = [path for path in beside if re.fullmatch(re.escape(f".{target.name}.old-") + "[0-9a-f]{8}", path.name)]
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


def load_folder(folder: Path, source: str, *, activation: str | None = None) -> Checkpoint:
    """A folder with a config.json, in Hugging Face's form or ours; weights as they lie in the file."""
    said = read_settings(folder, source, activation=activation)
    state = read_weights(folder, WEIGHTS)
    if said.settings.get("model_type") == OURS:
        check(state, wanted_state(said.config, source), source)
    else:
        state = huggingface.read_state(state, said.settings, said.config, source)
    return Checkpoint(said.config, state, said.preprocess, said.tokenizer_json, source)


def _to_fields(config: CLIPConfig) -> dict[str, Any]:
    tower = next(name for name, kind in TOWERS.items() if isinstance(config.image, kind))
    values = asdict(config)
    return {"model_type": OURS} | values | {"image": {"tower": tower} | values["image"]}
