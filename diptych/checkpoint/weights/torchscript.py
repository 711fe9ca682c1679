"""TorchScript archives, read as data.

OpenAI publishes its models as programs, which `torch.jit.load` would run. The weights are stored beside the code, as
raw bytes that a pickle refers to (torch/csrc/jit/serialization/pickler.h), so they can be read without running it. This
unpickler creates only tensors and plain values, and represents every class of the archive by its attributes.
"""

import math
import pickle
import re
from collections import OrderedDict
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import torch
from torch import Tensor

DTYPES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Module:
    """Any class of the archive: attributes without methods."""

    attributes: dict[str, Any]

    def __new__(cls, *_: Any) -> "Module":
        module = super().__new__(cls)
        module.attributes = {}
        return module

    def __setstate__(self, state: Any) -> None:
        self.attributes = state if isinstance(state, dict) else {}


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: ZipFile, root: str):
        super().__init__(archive.open(f"{root}data.pkl"))
        self.archive, self.root = archive, root
        self.storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch._utils" and name == "_rebuild_tensor_v2":
            return _rebuild
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle" and (name.startswith("build_") or name == "restore_type_tag"):
            return _first  # typed lists and dictionaries: the values as they are
        if module == "__torch__" or module.startswith("__torch__."):
            return Module
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not a tensor")

    def persistent_load(self, pid: Any) -> Tensor:
        """A storage by its key: the bytes of one entry of the archive, as a flat tensor."""
        _, dtype, key, *_ = pid
        if key not in self.storages:
            data = bytearray(self.archive.read(f"{self.root}data/{key}"))
            self.storages[key] = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        return self.storages[key]


def _rebuild(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    if math.prod(size) > len(storage):
        raise pickle.UnpicklingError(f"a tensor of {tuple(size)} asks for more than the {len(storage)} numbers it has")
    return storage.as_strided(size, stride, offset)  # raises an error past the end


def _first(value: Any, *_: Any) -> Any:
    return value


def check_stored(archive: ZipFile) -> None:
    """Raise UnpicklingError if tensors or their pickle are compressed. torch compresses only code, and compressed data
    can expand a thousandfold."""
    for entry in archive.infolist():
        if entry.compress_type != ZIP_STORED and re.fullmatch(r"([^/]+/)?data(\.pkl|/[^/]+)", entry.filename):
            raise pickle.UnpicklingError(f"{entry.filename} is compressed, which torch never does; save it again")


def read_tensors(archive: ZipFile, root: str) -> dict[str, Tensor]:
    """Every tensor attribute of the module and its submodules, by its dotted name.

    Raises pickle.UnpicklingError; a damaged archive can raise any other error."""
    module = _Unpickler(archive, root).load()
    if not isinstance(module, Module):
        raise pickle.UnpicklingError(f"it contains a {type(module).__name__}, wanted a module")
    return dict(_walk(module, ""))


def _walk(module: Module, prefix: str) -> list[tuple[str, Tensor]]:
    found = []
    for name, value in module.attributes.items():
        if isinstance(value, Tensor):
            found.append((f"{prefix}{name}", value))
        elif isinstance(value, Module):
            found += _walk(value, f"{prefix}{name}.")
    return found
