"""Reads tensors from files, with the files' names. No code in a file is ever run.

The first bytes of a file determine its format, not its name.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile

from safetensors import SafetensorError

from diptych.checkpoint.state import listing
from diptych.checkpoint.weights.claims import check_members, check_shared
from diptych.errors import CheckpointError, FileError
from diptych.untrusted.json import parse_json
from diptych.untrusted.regular_files import read_file

if TYPE_CHECKING:
    from torch import Tensor

# The keys under which training scripts save the weights
WRAPPERS = (
    "state_dict", "model_state_dict", "model", "net", "module", "params", "weights",
    "model_ema", "ema_state_dict", "state_dict_ema", "ema",
)  # fmt: skip
# Prefixes of wrappers: for several GPUs, by the compiler, by another module. The inner ones can be anywhere in a name.
PREFIXES = re.compile(r"^((module|model|net|clip|clip_model)\.)+")
INNER = re.compile(r"\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
# Files beside the weights: trainers' state, adapters, and vectors that searches use
NO_WEIGHTS = re.compile(
    r"optimizer|scheduler|scaler|rng_state|random_states|train(ing|er)|adapter_|reference_pictures|\."
)
POINTER = rb"version https://git-lfs(?s:.*)"
MOST_TEXT = 64 << 20  # the most bytes of a configuration or a tokenizer
NO_CHECKPOINT = (
    (rb"", "is empty (0 bytes); fetch it again"),
    (rb"(\xef\xbb\xbf)?\s*<(!doctype|html|\?xml)(?s:.*)", "is a web page, not a checkpoint; fetch the file itself"),
    (POINTER, "is a Git LFS pointer, not the file itself; run `git lfs pull`"),
)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, a TorchScript archive or a pickled state dict, on the CPU.

    Raises CheckpointError for any other file.
    """
    head = checked_head(path)
    if head[8:9] == b"{":
        return _read_safetensors(path)
    if head.startswith((b"PK", b"\x80")):
        tensors = (_read_zip if head.startswith(b"PK") else _read_pickle)(path)
        check_shared(tensors, path)
        return tensors
    raise CheckpointError(f"{path} is not a checkpoint: it starts with {head[:16]!r}.")


def checked_head(path: Path) -> bytes:
    """The first bytes of a file of weights. Raises CheckpointError if they are those of something else."""
    with path.open("rb") as file:
        head = file.read(512)
    for looks, message in NO_CHECKPOINT:
        if re.fullmatch(looks, head, re.IGNORECASE):
            raise CheckpointError(f"{path} {message}.")
    return head


def shards_of(index: Path) -> list[Path]:
    """The shards that `index` lists. Raises CheckpointError if one is missing."""
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict):
        raise CheckpointError(f"{index} is not a list of shards: it has no weight_map.")
    names = sorted(set(map(str, shards.values())))
    # Always beside the index, and each once.
    paths = [index.parent / name for name in sorted({Path(name).name for name in names})]
    for path in paths:
        if not path.is_file():
            raise CheckpointError(f"{path} is missing; {index.name} lists it among {len(names)} files.")
    return paths


def read_shards(index: Path) -> dict[str, Tensor]:
    """The tensors of the shards that `index` lists."""
    tensors: dict[str, Tensor] = {}
    for shard in shards_of(index):
        tensors |= read_tensors(shard)
    return tensors


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of weights, or of the shards of an index."""
    return read_shards(path) if path.suffix == ".json" else read_tensors(path)


def weights_of(folder: Path, names: tuple[str, ...]) -> Path:
    """The first of the files `names` that the folder has, else its only file of weights under another name. Raises
    CheckpointError, with the folder's files, if there is none or several."""
    if known := first_of(folder, names):
        return known
    other = other_weights(folder)
    if len(other) == 1:
        return other[0]
    if other:
        listed = listing([path.name for path in other], ", ")
        raise CheckpointError(f"{folder} contains {len(other)} files of weights: {listed}. Pass the path of one.")
    there = listing(sorted(path.name for path in folder.iterdir()), ", ")
    raise CheckpointError(
        f"{folder} contains no weights; wanted {', '.join(names[:-1])} or {names[-1]}. It contains {there}."
    )


def other_weights(folder: Path) -> list[Path]:
    """The files of weights, by suffix; no pipes, which would block."""
    named = (path for path in folder.iterdir() if path.suffix in SUFFIXES and not NO_WEIGHTS.match(path.name))
    return sorted(path for path in named if path.is_file())


def first_of(folder: Path, names: tuple[str, ...]) -> Path | None:
    """The first of the files `names` that the folder has."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def read_text(path: Path) -> str | None:
    """The text of a file; None if it is missing. Raises CheckpointError for a Git LFS pointer or text not in UTF-8."""
    if not path.is_file():
        return None
    try:
        content = read_file(path, MOST_TEXT)
    except FileError as error:
        raise CheckpointError(str(error)) from error
    if re.match(POINTER, content):
        checked_head(path)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8 text ({error}).") from error


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises CheckpointError if it contains anything else."""
    text = read_text(path)
    if text is None:
        raise CheckpointError(f"{path} does not exist or is not a file.")
    try:
        content = parse_json(text)
    except ValueError as error:  # truncated
        raise CheckpointError(f"{path} is not JSON ({error}).") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} contains a JSON {type(content).__name__}; wanted an object.")
    return content


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        return _bare(load_file(path))
    except SafetensorError as error:
        raise CheckpointError(f"{path} is cut off or damaged ({error}); fetch it again.") from error


def _read_zip(path: Path) -> dict[str, Tensor]:
    from diptych.checkpoint.weights import torchscript

    try:
        with ZipFile(path) as archive:
            names = archive.namelist()
            roots = [
                name.removesuffix("data.pkl") for name in names if name.endswith("data.pkl") and name.count("/") < 2
            ]
            if not roots:
                raise CheckpointError(f"{path} is a zip archive without data.pkl, not a PyTorch checkpoint.")
            torchscript.check_stored(archive)
            check_members(archive, path)
            if f"{roots[0]}constants.pkl" in names:
                return _bare(torchscript.read_tensors(archive, roots[0]))
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} is not an archive of weights: {error}; nothing in it was run.") from error
    except BadZipFile as error:
        raise CheckpointError(f"{path} is cut off or damaged ({error}); fetch it again.") from error
    except CheckpointError:
        raise
    except Exception as error:  # a hostile or damaged pickle can fail in any way
        raise CheckpointError(f"{path} is not a readable archive ({type(error).__name__}: {error}).") from error
    return _read_pickle(path)


def _read_pickle(path: Path) -> dict[str, Tensor]:
    """By torch.load's restricted unpickler, which creates only tensors and plain values."""
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        problem = f"asks for {asked[1]}, which is not a tensor" if asked else "contains more than tensors"
        raise CheckpointError(
            f"{path} {problem}; nothing in it was run. Save only its weights, preferably as .safetensors."
        ) from error
    except Exception as error:  # a damaged file can fail in any way
        raise CheckpointError(f"{path} is cut off or damaged ({first_line(error)}); fetch it again.") from error
    return _bare(_unwrapped(content, path))


def _unwrapped(content: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{path} contains a {type(content).__name__}; wanted a state dict: tensors by name.")
    from torch import Tensor

    content = _within(content, Tensor) or content
    strangers = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if strangers:
        quantised = any("_packed_params" in name for name in strangers)
        hint = "PyTorch has quantised the model; use the original" if quantised else "wanted a state dict"
        raise CheckpointError(f"{path} contains more than tensors: {', '.join(strangers[:6])}; {hint}.")
    return content


def _within(content: dict[str, Any], kind: type) -> dict[str, Any] | None:
    """The innermost dictionary of tensors under the keys of WRAPPERS; None if there is none."""
    for key in WRAPPERS:
        if isinstance(inner := content.get(key), dict) and (found := _within(inner, kind)):
            return found
    return content if any(isinstance(value, kind) for value in content.values()) else None


def _bare(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensors[stored].detach() for name, stored in bare_names(tensors).items()}


def bare_names(stored: Iterable[str]) -> dict[str, str]:
    """A model's tensor names without the prefixes of wrappers -> the names in the file. Raises CheckpointError if two
    tensors would have the same name."""
    names: dict[str, str] = {}
    for each in stored:
        name = PREFIXES.sub("", INNER.sub("", each))
        if name in names:
            raise CheckpointError(f"{names[name]} and {each} are both {name}: two models in one file. Save only one.")
        names[name] = each
    return names


def first_line(error: Exception) -> str:
    """The first line of an error's message."""
    return str(error).partition("\n")[0] or type(error).__name__
