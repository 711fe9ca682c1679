"""Weights that hold no number (NaN, infinity) and a temperature that has run away: each tower's are looked at when it
is first read. What they give looks like vectors and ranks nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from diptych.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 2**16  # numbers at a time, which stay in the processor's cache between both looks
MAX_SCALE = 1e6  # trained ones have 10 to 200; beyond this, a cosine's rounding in float32 alone moves the scores
REMEDY = (
    "Its training broke down before it was saved, or the file is damaged: take an earlier checkpoint or fetch it again."
)


class FiniteArrays(Mapping[str, np.ndarray]):
    """Weights, each looked at when it is asked for. CheckpointError, with its name, for one that is non_finite."""

    def __init__(self, arrays: Mapping[str, np.ndarray], source: str):
        self._arrays, self._source = arrays, source

    def __getitem__(self, name: str) -> np.ndarray:
        array = self._arrays[name]
        if not is_finite(array):
            raise _non_finite(name, int((~np.isfinite(array)).sum()), array.size, self._source)
        return array

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def is_finite(array: np.ndarray) -> bool:
    """Whether every number is one, told by the bits: NaN and infinity have the highest exponent, so that they are the
    largest whole numbers of their sign. A pass over half precision takes a thirtieth of `np.isfinite`'s time so."""
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
    """`FiniteArrays`, for tensors on whatever device. A sum has a NaN or an infinity where a summand has one; where it
    has overflowed itself, the tensor is looked at anew."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or math.isfinite(tensor.detach().sum().item()):
            continue
        if non_finite := int((~tensor.isfinite()).sum()):
            raise _non_finite(name, non_finite, tensor.numel(), source)


def _non_finite(name: str, non_finite: int, count: int, source: str) -> CheckpointError:
    return CheckpointError(f"{source}: {name} holds NaN or infinity in {non_finite:,} of {count:,} places. {REMEDY}")


def check_vectors(vectors: np.ndarray, source: str) -> np.ndarray:
    """What a tower gave, as it is. CheckpointError where its weights are numbers and what they compute is none."""
    if not np.isfinite(vectors).all():
        raise CheckpointError(f"{source} gives vectors that hold NaN or infinity. {REMEDY}")
    return vectors


def checked_scale(logit_scale: float, source: str) -> float:
    """The inverse temperature, whose logarithm a model keeps. CheckpointError for one that has run away."""
    if not math.isfinite(logit_scale) or logit_scale > math.log(MAX_SCALE):
        hint = (
            " It may stand for the scale itself, whose logarithm belongs there." if 1 < logit_scale < math.inf else ""
        )
        raise CheckpointError(
            f"{source}: logit_scale is {logit_scale:g}, the logarithm of an inverse temperature; wanted at most "
            f"{math.log(MAX_SCALE):.1f}, and trained models have 2 to 5.{hint} {REMEDY}"
        )
    return math.exp(logit_scale)


def checked_bias(logit_bias: float, source: str) -> float:
    """The bias of a sigmoid model's scores, as it is. CheckpointError where it is no number."""
    if not math.isfinite(logit_bias):
        raise CheckpointError(f"{source}: logit_bias is {logit_bias:g}. {REMEDY}")
    return logit_bias
