"""Checks for NaN and infinite weights, negative variances and a diverged temperature. Each tower's weights are checked
when first read. Such weights result in vectors, but not in a useful ranking."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from diptych.checkpoint.weights.int8 import Int8
from diptych.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 2**16  # numbers at a time, which stay in the processor's cache for both comparisons
MAX_SCALE = 1e6  # trained models have 10 to 200; beyond this, float32 rounding of cosines alone changes scores
VARIANCE = "running_var"  # of batch norm; the square root of a negative one is NaN, which ReLU6 may hide
REMEDY = "Its training diverged, or the file is damaged: use an earlier checkpoint or fetch it again."


class FiniteArrays(Mapping[str, np.ndarray]):
    """Weights that are checked on access. Raises CheckpointError with the name of one that is not finite."""

    def __init__(self, arrays: Mapping[str, np.ndarray], source: str):
        self._arrays, self._source = arrays, source

    def __getitem__(self, name: str) -> np.ndarray:
        return self._checked(name, self._arrays[name])

    def stored(self, name: str) -> np.ndarray | Int8:
        """The weights as they are stored, if `arrays` has such a method, else as arrays."""
        weights = getattr(self._arrays, "stored", self._arrays.__getitem__)(name)
        return weights if isinstance(weights, Int8) else self._checked(name, weights)

    def rows(self, name: str, indices: np.ndarray) -> np.ndarray:
        """Some rows of a matrix, without reading the rest if `arrays` has such a method."""
        rows = getattr(self._arrays, "rows", lambda name, indices: self._arrays[name][indices])
        return self._checked(name, rows(name, indices))

    def _checked(self, name: str, array: np.ndarray) -> np.ndarray:
        if not is_finite(array):
            raise _non_finite(name, int((~np.isfinite(array)).sum()), array.size, self._source)
        if name.endswith(VARIANCE) and (array < 0).any():
            raise _negative(name, int((array < 0).sum()), array.size, self._source)
        return array

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def is_finite(array: np.ndarray) -> bool:
    """Whether all numbers are finite. The bits of NaN and infinity have the highest exponent, so as integers they are
    the largest of their sign. For float16, comparing integers takes a thirtieth of `np.isfinite`'s time."""
    if array.dtype.kind != "f":
        return True
    bits = np.ascontiguousarray(array).reshape(-1).view(f"i{array.itemsize}")
    highest = np.array(np.inf, array.dtype).view(bits.dtype)
    lowest = np.array(-np.inf, array.dtype).view(f"u{array.itemsize}")
    for start in range(0, len(bits), CHUNK):
        chunk = bits[start : start + CHUNK]
        if chunk.max() >= highest or chunk.view(lowest.dtype).max() >= lowest:
            return False
    return True


def check_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    """`FiniteArrays`, for tensors on any device. A sum is not finite if a summand is not. As it can also overflow, the
    tensor is then checked in full."""
    for name, tensor in tensors.items():
        if name.endswith(VARIANCE) and (negative := int((tensor < 0).sum())):
            raise _negative(name, negative, tensor.numel(), source)
        if not tensor.is_floating_point() or math.isfinite(tensor.detach().sum().item()):
            continue
        if non_finite := int((~tensor.isfinite()).sum()):
            raise _non_finite(name, non_finite, tensor.numel(), source)


def _non_finite(name: str, non_finite: int, count: int, source: str) -> CheckpointError:
    return CheckpointError(f"{source}: {name} has NaN or infinity in {non_finite:,} of {count:,} numbers. {REMEDY}")


def _negative(name: str, negative: int, count: int, source: str) -> CheckpointError:
    return CheckpointError(f"{source}: {name} is negative in {negative:,} of {count:,} variances. {REMEDY}")


def check_vectors(vectors: np.ndarray, source: str) -> np.ndarray:
    """Return a tower's vectors. Raises CheckpointError if they are not finite, even though the weights are."""
    if not np.isfinite(vectors).all():
        raise CheckpointError(f"{source} gives vectors with NaN or infinity. {REMEDY}")
    return vectors


def checked_scale(logit_scale: float, source: str) -> float:
    """The inverse temperature from its logarithm. Raises CheckpointError if it has diverged."""
    if not math.isfinite(logit_scale) or logit_scale > math.log(MAX_SCALE):
        hint = " It may be the scale itself instead of its logarithm." if 1 < logit_scale < math.inf else ""
        raise CheckpointError(
            f"{source}: logit_scale is {logit_scale:g}, the logarithm of an inverse temperature; wanted at most "
            f"{math.log(MAX_SCALE):.1f}, and trained models have 2 to 5.{hint} {REMEDY}"
        )
    return math.exp(logit_scale)


def checked_bias(logit_bias: float, source: str) -> float:
    """Return the bias of a sigmoid model's scores. Raises CheckpointError if it is not finite."""
    if not math.isfinite(logit_bias):
        raise CheckpointError(f"{source}: logit_bias is {logit_bias:g}. {REMEDY}")
    return logit_bias
