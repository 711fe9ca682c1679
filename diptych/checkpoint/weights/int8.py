"""Weights stored in 8 bits: a matrix or convolution NAME is int8, and NAME.scale has a number for each of its rows (its
first axis, the output channels), by which the row is multiplied when it is read.

Which tensors: those named `*.weight` with two or more axes and at least `MIN_ROW` numbers in a row. The others, such as
norms, biases, positions and depthwise convolutions, are few numbers: they are float16, or float32 if float16 would
overflow or they are single numbers. A row's scale is its largest magnitude / 127, so zero stays zero and no weight is
clipped. Scales that minimise each row's squared error lower it by under 0.1 % in MiniLM and EfficientNet-Lite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.checkpoint.state import listing
from diptych.checkpoint.weights.shape_check import FLOAT, TensorSpec
from diptych.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

SCALE = ".scale"
INT8 = "int8"
MIN_ROW = 64  # numbers: with fewer a row gains little, as in depthwise convolutions, whose rounding errors matter most
MOST = 127
# 16 of float32's 24 bits: a product with an int8 is exact, so that stored weights that are read and stored again stay
# the same bit for bit.
_SIXTEEN_BITS = np.uint32(0xFFFFFF00)


class Int8(NamedTuple):
    """`values` is int8 (rows, ...), `scale` float32 (rows,)."""

    values: np.ndarray
    scale: np.ndarray

    def floats(self) -> np.ndarray:
        """The weights, float32 (rows, ...)."""
        return self.values * self.scale.reshape(-1, *[1] * (self.values.ndim - 1))


def is_stored_as_int8(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a floating tensor becomes int8."""
    return name.endswith(".weight") and len(shape) > 1 and math.prod(shape[1:]) >= MIN_ROW


def quantised(weights: np.ndarray) -> Int8:
    """Finite weights (rows, ...) as the nearest int8. A row of zeros, or of numbers near float32's smallest, becomes
    zeros with the scale 0."""
    rows = weights.reshape(len(weights), -1).astype(np.float32)
    scale = (np.abs(rows).max(axis=1) / np.float32(MOST)).astype(np.float32)
    scale = (scale.view(np.uint32) & _SIXTEEN_BITS).view(np.float32)
    scale[scale < np.finfo(np.float32).tiny] = 0
    divisor = np.where(scale > 0, scale, np.float32(np.inf))[:, None]
    values = np.clip(np.rint(rows / divisor), -MOST, MOST).astype(np.int8)
    return Int8(values.reshape(weights.shape), scale)


def stored(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors to write for a model's `state`, with the scales of those that are int8."""
    import torch

    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        tensor = tensor.detach().cpu()
        if not tensor.is_floating_point():
            found[name] = tensor
        elif is_stored_as_int8(name, tuple(tensor.shape)):
            values, scale = quantised(tensor.float().numpy())
            found |= {name: torch.from_numpy(values), name + SCALE: torch.from_numpy(scale)}
        else:
            half = tensor.half()
            found[name] = half if tensor.ndim and bool(half.isfinite().all()) else tensor.float()
    return found


def read(tensors: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The tensors of a file, all of them float32 if it has int8 weights; unchanged if not. Raises CheckpointError as
    `specs` does."""
    from diptych.checkpoint.weights.shape_check import specs_of

    found = specs_of(tensors)
    kinds = specs(found, source)
    if kinds.keys() == found.keys():
        return dict(tensors)
    result = {}
    for name in kinds:
        tensor = tensors[name].float() if tensors[name].is_floating_point() else tensors[name]
        if found[name].kind == INT8:
            scale = checked_scale(tensors[name + SCALE].float().numpy(), name, source)
            tensor = tensor.float() * _as_column(scale, tensor)
        result[name] = tensor
    return result


def _as_column(scale: np.ndarray, tensor: Tensor) -> Tensor:
    import torch

    return torch.from_numpy(scale).reshape(-1, *[1] * (tensor.ndim - 1))


def scale_names(names: Mapping[str, object]) -> set[str]:
    """The names of scales: NAME.scale beside a tensor NAME."""
    return {name for name in names if name.endswith(SCALE) and name.removesuffix(SCALE) in names}


def specs(found: Mapping[str, TensorSpec], source: str) -> dict[str, TensorSpec]:
    """The specs of a file's tensors as floating weights, without scales. Raises CheckpointError for scales that are
    missing, of the wrong shape, or beside a tensor that is not int8."""
    scales = scale_names(found)
    eights = {name for name, spec in found.items() if spec.kind == INT8}
    problems = [
        _problem(name, found, eights) for name in sorted(eights | {each.removesuffix(SCALE) for each in scales})
    ]
    if problems := [problem for problem in problems if problem]:
        raise CheckpointError(
            f"{source}: {len(problems)} of its tensors in 8 bits cannot be read: {listing(problems, '; ')}. Fetch or "
            "convert the model again."
        )
    return {
        name: spec._replace(kind=FLOAT) if name in eights else spec
        for name, spec in found.items()
        if name not in scales
    }


def _problem(name: str, found: Mapping[str, TensorSpec], eights: set[str]) -> str:
    """What is wrong with a tensor in 8 bits; empty if nothing is."""
    spec, scale = found[name], found.get(name + SCALE)
    if name not in eights:
        return f"{name}{SCALE} is the scale of {name}, which is {spec}, not int8"
    if not spec.shape:
        return f"{name} is a single int8"
    wanted = TensorSpec(spec.shape[:1])
    if scale is None:
        return f"{name} is {spec} without its scale, {name}{SCALE} {wanted}"
    return "" if scale == wanted else f"{name}{SCALE} is {scale}, wanted {wanted}, a number for each row of {name}"


def checked_scale(scale: np.ndarray, name: str, source: str) -> np.ndarray:
    """A scale as float32. Raises CheckpointError if the weights that it gives are not finite."""
    scale = scale.astype(np.float32)
    with np.errstate(over="ignore"):
        bad = int((~np.isfinite(scale * np.float32(MOST + 1))).sum())
    if bad:
        raise CheckpointError(
            f"{source}: {name}{SCALE} has NaN, infinity or too large numbers in {bad:,} of {len(scale):,} rows. Fetch "
            "or convert the model again."
        )
    return scale
