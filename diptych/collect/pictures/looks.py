"""What was seen of the pictures of a shard, on disk: a run that is interrupted goes on after the last whole shard."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from diptych.scoring.same_picture import GREY_PX
from diptych.storage.atomic import atomic_write

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8, UInt64

_FACTS = ("keys", "reasons", "areas", "hashes", "best", "score_names", "scores")


class Look(NamedTuple):
    """What was seen of some pictures in their order. `reasons` are those by which pairs are left out already, "" for
    the others; `areas` are in px; `best` is the number of the caption that fits best; a column of `scores` has the
    name in `score_names`. Rows of pairs that are left out hold zeros."""

    keys: list[str]
    reasons: list[str]
    areas: Int[np.ndarray, " pairs"]
    hashes: UInt64[np.ndarray, " pairs"]
    best: Int[np.ndarray, " pairs"]
    score_names: list[str]
    scores: Float[np.ndarray, "pairs names"]
    greys: UInt8[np.ndarray, "pairs 64 64"]
    vectors: Float[np.ndarray, "pairs dim"]

    def save(self, path: Path) -> None:
        """Write the look to PATH.npz, and what is large to PATH.greys.npy and PATH.vectors.npy, before it."""
        for name in ("greys", "vectors"):
            with atomic_write(_part(path, f".{name}.npy")) as part, part.open("wb") as file:
                _write_array(file, getattr(self, name))
        with atomic_write(_part(path, ".npz")) as part, part.open("wb") as file:
            np.savez(file, **{name: np.asarray(getattr(self, name)) for name in _FACTS})  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> Look:
        """What `save` wrote; greys and vectors stay on the disk."""
        with np.load(_part(path, ".npz"), allow_pickle=False) as stored:
            facts = {name: stored[name] for name in _FACTS}
        lists = {name: [str(each) for each in facts[name]] for name in ("keys", "reasons", "score_names")}
        large = {
            name: np.load(_part(path, f".{name}.npy"), mmap_mode="r", allow_pickle=False)
            for name in ("greys", "vectors")
        }
        return cls(**{**facts, **lists, **large})

    @staticmethod
    def is_saved(path: Path) -> bool:
        """Whether there is a whole look."""
        return _part(path, ".npz").exists()


class Looks(Sequence[Look]):
    """Looks one after another, their rows numbered through."""

    def __init__(self, paths: Sequence[Path]):
        self._paths = list(paths)
        self._all = [Look.load(path) for path in self._paths]
        self.starts = np.cumsum([0, *(len(look.keys) for look in self._all)])

    def __len__(self) -> int:
        return len(self._all)

    def __getitem__(self, number):  # type: ignore[override]
        return self._all[number]

    @property
    def rows(self) -> int:
        """How many rows all have."""
        return int(self.starts[-1])

    def grey(self, row: int) -> UInt8[np.ndarray, "64 64"]:
        """The small grey version of one picture."""
        number = bisect.bisect_right(self.starts, row) - 1
        return np.asarray(self._all[number].greys[row - self.starts[number]])

    def vector(self, row: int) -> Float[np.ndarray, " dim"]:
        """The vector of one picture."""
        number = bisect.bisect_right(self.starts, row) - 1
        return np.asarray(self._all[number].vectors[row - self.starts[number]], np.float32)

    def blocks(self) -> Iterator[tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n dim"]]]:
        """The row numbers and vectors of pairs that are not left out already."""
        for start, look in zip(self.starts, self._all, strict=False):
            rows = np.flatnonzero([not reason for reason in look.reasons])
            yield start + rows, np.asarray(look.vectors)[rows]


def empty_grey() -> UInt8[np.ndarray, "64 64"]:
    """The grey version of a picture that is left out."""
    return np.zeros((GREY_PX, GREY_PX), np.uint8)


def _write_array(file: BinaryIO, array: np.ndarray) -> None:
    """Write a .npy as `np.save` does, whose error for a full disk does not say that it is one."""
    array = np.ascontiguousarray(array)
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
    file.write(array.data)


def _part(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
