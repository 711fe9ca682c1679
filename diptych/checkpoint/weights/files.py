"""Files to tensors under the names that they came with. Nothing in a file is ever run.

What a file is, is told by its first bytes and not by its name.
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

# Under which training scripts keep the weights beside other things
WRAPPERS = (
    "state_dict", "model_state_dict", "model", "net", "module", "params", "weights",
    "model_ema", "ema_state_dict", "state_dict_ema", "ema",
)  # fmt: skip
# Of what a model was wrapped in: for several GPUs, by the compiler, in another module. The inner ones stand anywhere.
PREFIXES = re.compile(r"^((module|model|net|clip|clip_model)\.)+")
INNER = re.compile(r"\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
# What trainers keep beside the weights: their own state, and changes to weights that are elsewhere
NO_WEIGHTS = re.compile(r"optimizer|scheduler|scaler|rng_state|random_states|train(ing|er)|adapter_|\.")
POINTER = rb"version https://git-lfs(?s:.*)"
MOST_TEXT = 64 << 20  # bytes of a configuration or a tokenizer
NO_CHECKPOINT = (
    (rb"", "is empty (0 bytes); fetch it again"),
    (rb"(\xef\xbb\xbf)?\s*<(!doctype|html|\?xml)(?s:.*)", "is a web page, not a checkpoint; fetch the file itself"),
    (POINTER, "is a Git LFS pointer, not the file itself; run `git lfs pull`"),
)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, a TorchScript archive or a pickled state dict, on the CPU.

    Raises CheckpointError in one sentence, whatever the file turns out to be.
    """
    head = checked_head(path)
    if head[8:9] == b"{":
        return _read_safetensors(path)
    if head.startswith((b"PK", b"\x80")):
        tensors = (_read_zip if head.startswith(b"PK") else _read_pickle)(path)
        check_shared(tensors, path)
        return tensors
    raise CheckpointError(f"{path} is no checkpoint: it starts with {head[:16]!r}.")


def checked_head(path: Path) -> bytes:
    """How a file of weights begins. CheckpointError where it is something else that is told by that."""
    with path.open("rb") as file:
        head = file.read(512)
    for looks, message in NO_CHECKPOINT:
        if re.fullmatch(looks, head, re.IGNORECASE):
            raise CheckpointError(f"{path} {message}.")
    return head


def shards_of(index: Path) -> list[Path]:
    """The files of a model in several, which `index` lists. CheckpointError where one is missing."""
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict):
        raise CheckpointError(f"{index} is no list of shards: it has no weight_map.")
    names = sorted(set(map(str, shards.values())))
    # Beside the index, whatever it says, and each once.
    paths = [index.parent / name for name in sorted({Path(name).name for name in names})]
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


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of weights; an index stands for its shards."""
    return read_shards(path) if path.suffix == ".json" else read_tensors(path)


def weights_of(folder: Path, names: tuple[str, ...]) -> Path:
    """The first of the files `names` that the folder has, else its only file of weights under another name, as training
    leaves it. CheckpointError, with what is there, where that is none or one of several."""
    if known := first_of(folder, names):
        return known
    other = other_weights(folder)
    if len(other) == 1:
        return other[0]
    if other:
        listed = listing([path.name for path in other], ", ")
        raise CheckpointError(f"{folder} holds {len(other)} files of weights: {listed}. Pass the path of one of them.")
    there = listing(sorted(path.name for path in folder.iterdir()), ", ")
    raise CheckpointError(f"{folder} holds no weights; wanted {', '.join(names[:-1])} or {names[-1]}. It has {there}.")


def other_weights(folder: Path) -> list[Path]:
    """Every file of weights, by its ending; a pipe would be waited for."""
    named = (path for path in folder.iterdir() if path.suffix in SUFFIXES and not NO_WEIGHTS.match(path.name))
    return sorted(path for path in named if path.is_file())


def first_of(folder: Path, names: tuple[str, ...]) -> Path | None:
    """The first of the files `names` that the folder has."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def read_text(path: Path) -> str | None:
    """The text of a file that need not be there. CheckpointError where a Git LFS pointer stands for it, or bytes."""
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
        raise CheckpointError(f"{path} is no text in UTF-8 ({error}).") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; CheckpointError where the file holds anything else."""
    text = read_text(path)
    if text is None:
        raise CheckpointError(f"{path} is no file.")
    try:
        content = parse_json(text)
    except ValueError as error:  # cut off
        raise CheckpointError(f"{path} is no JSON ({error}).") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a JSON {type(content).__name__}; wanted an object.")
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
                raise CheckpointError(f"{path} is a zip archive without data.pkl: no PyTorch checkpoint.")
            torchscript.check_stored(archive)
            check_members(archive, path)
            if f"{roots[0]}constants.pkl" in names:
                return _bare(torchscript.read_tensors(archive, roots[0]))
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
    return _bare(_unwrapped(content, path))


def _unwrapped(content: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{path} holds a {type(content).__name__}; wanted a state dict: tensors by their names.")
    from torch import Tensor

    content = _within(content, Tensor) or content
    strangers = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if strangers:
        quantised = any("_packed_params" in name for name in strangers)
        what = "a model quantised by PyTorch; take the one that it was made of" if quantised else "wanted a state dict"
        raise CheckpointError(f"{path} holds more than tensors: {', '.join(strangers[:6])}; {what}.")
    return content


def _within(content: dict[str, Any], kind: type) -> dict[str, Any] | None:
    """The innermost dictionary of tensors under the names of wrappers; None where there is none."""
    for key in WRAPPERS:
        if isinstance(inner := content.get(key), dict) and (found := _within(inner, kind)):
            return found
    return content if any(isinstance(value, kind) for value in content.values()) else None


def _bare(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensors[stored].detach() for name, stored in bare_names(tensors).items()}


def bare_names(stored: Iterable[str]) -> dict[str, str]:
    """The names of a model's tensors, without those of what it was wrapped in, and how each stands in the file.
    CheckpointError where two tensors would have one name."""
    names: dict[str, str] = {}
    for each in stored:
        name = PREFIXES.sub("", INNER.sub("", each))
        if name in names:
            raise CheckpointError(f"{names[name]} and {each} are both {name}: two models in one file. Save one alone.")
        names[name] = each
    return names


def first_line(error: Exception) -> str:
    """What an error says, without the advice that follows."""
    return str(error).partition("\n")[0] or type(error).__name__
