"""Files to tensors under the names that they came with. Nothing in a file is ever run.

What a file is, is told by its first bytes and not by its name.
"""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile

from safetensors import SafetensorError

from diptych.checkpoint.state import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

WRAPPERS = ("state_dict", "model")  # under which training scripts keep the weights beside other things
PREFIXES = re.compile(r"^((module|_orig_mod)\.)+")  # of DistributedDataParallel and torch.compile
NO_CHECKPOINT = (
    (rb"", "is empty (0 bytes); fetch it again"),
    (rb"(\xef\xbb\xbf)?\s*<(!doctype|html|\?xml)(?s:.*)", "is a web page, not a checkpoint; fetch the file itself"),
    (rb"version https://git-lfs(?s:.*)", "is a Git LFS pointer, not the file itself; run `git lfs pull`"),
)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, a TorchScript archive or a pickled state dict, on the CPU.

    Raises CheckpointError in one sentence, whatever the file turns out to be.
    """
    with path.open("rb") as file:
        head = file.read(512)
    for looks, message in NO_CHECKPOINT:
        if re.fullmatch(looks, head, re.IGNORECASE):
            raise CheckpointError(f"{path} {message}.")
    if head[8:9] == b"{":
        return _read_safetensors(path)
    if head.startswith(b"PK"):
        return _read_zip(path)
    if head.startswith(b"\x80"):
        return _read_pickle(path)
    raise CheckpointError(f"{path} is no checkpoint: it starts with {head[:16]!r}.")


def shards_of(index: Path) -> list[Path]:
    """The files of a model in several, which `index` lists. CheckpointError where one is missing."""
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict):
        raise CheckpointError(f"{index} is no list of shards: it has no weight_map.")
    names = sorted(set(map(str, shards.values())))
    paths = [index.parent / Path(name).name for name in names]  # beside the index, whatever it says
    for path in paths:
        if not path.is_file():
            raise CheckpointError(f"{path} is missing; {index.name} lists it among {len(names)} files.")
    return paths


def read_shards(index: Path) -> dict[str, Tensor]:
    """The tensors of a model in several files, which `index` lists."""
    tensors: dict[str, Tensor] = {}
    for shard in shards_of(index):
        tensors |= read_tensors(shard)
    return tensors


def read_weights(folder: Path, names: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors of the first of `names` that the folder has; an index stands for its shards."""
    for name in names:
        if (folder / name).is_file():
            return read_shards(folder / name) if name.endswith(".json") else read_tensors(folder / name)
    raise CheckpointError(f"{folder} holds no weights; wanted {', '.join(names[:-1])} or {names[-1]}.")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; CheckpointError where the file holds anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # cut off, or no text at all
        raise CheckpointError(f"{path} is no JSON ({error}).") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a JSON {type(content).__name__}; wanted an object.")
    return content


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        return _named(load_file(path))
    except SafetensorError as error:
        raise CheckpointError(f"{path} is cut off or damaged ({error}); fetch it again.") from error


def _read_zip(path: Path) -> dict[str, Tensor]:
    from diptych.checkpoint import torchscript

    try:
        with ZipFile(path) as archive:
            names = archive.namelist()
            roots = [
                name.removesuffix("data.pkl") for name in names if name.endswith("data.pkl") and name.count("/") < 2
            ]
            if not roots:
                raise CheckpointError(f"{path} is a zip archive without data.pkl: no PyTorch checkpoint.")
            torchscript.check_stored(archive)
            if f"{roots[0]}constants.pkl" in names:
                return _named(torchscript.read_tensors(archive, roots[0]))
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} is no archive of weights: {error}; nothing in it was run.") from error
    except BadZipFile as error:
        raise CheckpointError(f"{path} is cut off or damaged ({error}); fetch it again.") from error
    except CheckpointError:
        raise
    except Exception as error:  # a hostile or damaged pickle can fail in any way
        raise CheckpointError(f"{path} is no readable archive ({type(error).__name__}: {error}).") from error
    return _read_pickle(path)


def _read_pickle(path: Path) -> dict[str, Tensor]:
    """Through torch.load's own restricted unpickler, which makes tensors and plain values alone."""
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"asks for {asked[1]}, which is no tensor" if asked else "holds more than tensors"
        raise CheckpointError(
            f"{path} {what}; nothing in it was run. Save its weights alone, best as .safetensors."
        ) from error
    except Exception as error:  # a damaged file can fail in any way
        raise CheckpointError(f"{path} is cut off or damaged ({first_line(error)}); fetch it again.") from error
    return _named(_unwrapped(content, path))


def _unwrapped(content: Any, path: Path) -> dict[str, Tensor]:
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{path} holds a {type(content).__name__}; wanted a state dict: tensors by their names.")
    from torch import Tensor

    strangers = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if strangers:
        raise CheckpointError(f"{path} holds more than tensors: {', '.join(strangers[:6])}; wanted a state dict.")
    return content


def _named(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {PREFIXES.sub("", name): tensor.detach() for name, tensor in tensors.items()}


def first_line(error: Exception) -> str:
    """What an error says, without the advice that follows."""
    return str(error).partition("\n")[0] or type(error).__name__
