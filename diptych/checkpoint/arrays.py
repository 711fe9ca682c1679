"""Weights as numpy arrays, read on access, for engines without PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from diptych.checkpoint.finding import ModelLocation
from diptych.checkpoint.formats import huggingface
from diptych.checkpoint.formats.name_table import KeyMappings, look_up, renamed
from diptych.checkpoint.settings import OURS, READABLE, FolderSettings, read_settings
from diptych.checkpoint.weights import int8
from diptych.checkpoint.weights.files import WEIGHTS, bare_names, checked_head, read_json, shards_of, weights_of
from diptych.checkpoint.weights.shape_check import FLOAT, TensorSpec, check, expected_specs
from diptych.errors import CheckpointError
from diptych.nets.config import CLIPConfig

# Dtypes that are not floating-point: safetensors' names and ours
_KINDS = {"BOOL": "bool"} | {
    f"{c}{n}": f"{kind}{n}" for c, kind in (("I", "int"), ("U", "uint")) for n in (8, 16, 32, 64)
}
_NUMPY = {"F64", "F32", "F16", *_KINDS}  # numpy has no bfloat16


class Arrays(Mapping[str, np.ndarray]):
    """The tensors of safetensors files under our names, each read from its file on every access; those in 8 bits as
    float32."""

    def __init__(self, files: list[Path], mappings: KeyMappings | None, source: str):
        """`mappings` translates the names in the files; None if they are ours, and weights may be in 8 bits (see
        `weights.int8`). `source` names the model in errors."""
        for path in files:
            checked_head(path)
        try:
            self._identities = [_identity(path) for path in files]
            self._opened = [safe_open(path, framework="numpy") for path in files]
        except SafetensorError as error:
            raise CheckpointError(f"{files[0].parent}: its weights are truncated or damaged ({error}).") from error
        stored = {name: number for number, file in enumerate(self._opened) for name in file.keys()}  # noqa: SIM118
        bare = {name: (stored[theirs], theirs) for name, theirs in bare_names(stored).items()}
        self.files, self.source, self._mappings = tuple(files), source, mappings
        self._all = huggingface.normalised_keys(bare) if mappings else bare
        scales = set() if mappings else int8.scale_names(self._all)
        self._stored = {name: where for name, where in self._all.items() if name not in scales}

    def let_go(self) -> None:
        """Free the memory of what was read. Files that have changed meanwhile stay open as they are."""
        for number, path in enumerate(self.files):
            with suppress(OSError, SafetensorError):
                if _identity(path) == self._identities[number]:
                    self._opened[number] = safe_open(path, framework="numpy")

    def check(self, config: CLIPConfig) -> None:
        """Raises CheckpointError, as `read` does, if these are not the tensors of `config`; reads the headers alone."""
        found = {name: self._spec(name) for name in self._all}
        found = found if self._mappings else int8.specs(found, self.source)
        check(found, renamed(self._mappings, expected_specs(config, self.source), self.source), self.source)

    def _spec(self, name: str) -> TensorSpec:
        header = self._slice(*self._all[name])
        return TensorSpec(tuple(header.get_shape()), _KINDS.get(header.get_dtype(), FLOAT))

    def holds_bfloat16(self) -> bool:
        """Whether a tensor has a dtype that numpy cannot read."""
        return any(self._slice(*where).get_dtype() not in _NUMPY for where in self._all.values())

    def _slice(self, number: int, stored: str) -> Any:
        return self._opened[number].get_slice(stored)

    def _tensor(self, number: int, stored: str) -> Any:
        return self._opened[number].get_tensor(stored)

    def __getitem__(self, name: str) -> np.ndarray:
        weights = self.stored(name)
        return weights.floats() if isinstance(weights, int8.Int8) else weights

    def stored(self, name: str) -> np.ndarray | int8.Int8:
        """A tensor as it is stored: in 8 bits, or as an array."""
        names, transform = look_up(self._mappings, name)
        if not names:
            raise KeyError(name)
        array = transform.read([self._tensor(*self._stored[each]) for each in names])
        return self._with_scale(name, array)  # type: ignore[arg-type]

    def first_row(self, name: str) -> np.ndarray:
        """The first row of a tensor, (1, ...), without reading the rest."""
        return self.rows(name, (0,))

    def rows(self, name: str, indices: Iterable[int]) -> np.ndarray:
        """Some rows of a tensor that is one in the file as well, without reading the rest."""
        slices = self._slice(*self._stored[look_up(self._mappings, name)[0][0]])
        array = np.concatenate([slices[int(row) : int(row) + 1] for row in indices])
        weights = self._with_scale(name, array, indices)
        return weights.floats() if isinstance(weights, int8.Int8) else weights

    def _with_scale(self, name: str, array: np.ndarray, rows: Iterable[int] | None = None) -> np.ndarray | int8.Int8:
        """A tensor, or some rows of it, in 8 bits if it has a scale."""
        if self._mappings or name + int8.SCALE not in self._all:
            return array
        scale = self._tensor(*self._all[name + int8.SCALE])
        return int8.Int8(array, int8.checked_scale(scale if rows is None else scale[list(rows)], name, self.source))

    def __contains__(self, name: object) -> bool:
        names = look_up(self._mappings, str(name))[0]
        return bool(names) and all(their in self._stored for their in names)

    def __iter__(self) -> Iterator[str]:
        """The names in the files, which may not be ours."""
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


def _identity(path: Path) -> tuple[int, ...]:
    """What changes with a file."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def read_arrays(found: ModelLocation, *, activation: str | None = None) -> tuple[FolderSettings, Arrays] | None:
    """Reads a model folder (ours or Hugging Face's) with weights in safetensors, without PyTorch; None for any other
    source, which `read_location` reads. Raises CheckpointError, as that does."""
    folder, source, _ = found
    files = _files(folder)
    kind = read_json(folder / "config.json").get("model_type") if files else None
    if kind not in READABLE:
        return None
    settings = read_settings(folder, source, activation=activation)
    arrays = Arrays(files, None if kind == OURS else huggingface.KEY_MAPPINGS[kind], source)
    if arrays.holds_bfloat16():
        return None
    arrays.check(settings.config)
    return settings, arrays


def _files(folder: Path) -> list[Path]:
    """The files of weights; none if they are not in safetensors."""
    if not (folder / "config.json").is_file():
        return []
    try:
        path = weights_of(folder, WEIGHTS)
    except CheckpointError:
        return []  # `read` reports why, unless another engine can read them
    files = shards_of(path) if path.suffix == ".json" else [path]
    return files if all(file.suffix == ".safetensors" for file in files) else []
