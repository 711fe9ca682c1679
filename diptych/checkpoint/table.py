"""A format of checkpoint is a table of names. Reading and writing follow the same rows, so neither can drift."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from diptych.checkpoint.state import CheckpointError, check, listing, wanted_state
from diptych.nets.config import CLIPConfig

if TYPE_CHECKING:
    from torch import Tensor


class Move(NamedTuple):
    """How tensors change on the way: `read` makes one of ours from theirs, `write` is its inverse."""

    read: Callable[[list[Tensor]], Tensor]
    write: Callable[[Tensor], list[Tensor]]


def _joined(theirs: list[Any]) -> Any:
    """One after another: tensors, or arrays where no PyTorch is at hand."""
    if isinstance(theirs[0], np.ndarray):
        return np.concatenate(theirs)
    import torch

    return torch.cat(theirs)


SAME = Move(lambda theirs: theirs[0], lambda ours: [ours])
# A weight that multiplies from the right is stored [in, out]; a Linear stores [out, in].
TRANSPOSED = Move(lambda theirs: theirs[0].t().contiguous(), lambda ours: [ours.t().contiguous()])
QKV = Move(_joined, lambda ours: [part.clone() for part in ours.chunk(3)])
Q_KV = Move(_joined, lambda ours: [part.clone() for part in ours.tensor_split((len(ours) // 3,))])
BATCHED = Move(lambda theirs: theirs[0].squeeze(0), lambda ours: [ours.unsqueeze(0)])  # a leading axis of one
VECTOR = Move(lambda theirs: theirs[0].reshape(()), lambda ours: [ours.reshape(1)])  # a number kept as a list of one


class Row(NamedTuple):
    """`ours` and `theirs` are dotted names in which N stands for a layer's number and * for any one part. Several
    names in `theirs` make one tensor of ours."""

    ours: str
    theirs: str | tuple[str, ...]
    move: Move = SAME


Rows = tuple[Row, ...]


def read_rows(rows: Rows, tensors: dict[str, Tensor], config: CLIPConfig, source: str) -> dict[str, Tensor]:
    """Their tensors under our names; CheckpointError names all that does not fit (in their names and shapes)."""
    wanted = wanted_state(config, source)
    check(tensors, write_rows(rows, wanted, source), source)
    state = {}
    for name, shape in wanted.items():
        names, move = look_up(rows, name)
        state[name] = move.read([tensors[their] for their in names]).reshape(shape.shape)
    return state


def write_rows(rows: Rows, state: Mapping[str, Tensor], format_name: str) -> dict[str, Tensor]:
    """Our tensors under their names; CheckpointError where the format has none."""
    found = {name: look_up(rows, name) for name in state}
    if nameless := [name for name, (names, _) in found.items() if not names]:
        listed = listing(nameless, ", ")
        raise CheckpointError(f"{format_name} cannot hold this model: it has no name for {listed}.")
    tensors = {}
    for name, (names, move) in found.items():
        tensors.update(zip(names, move.write(state[name]), strict=True))
    return tensors


def look_up(rows: Rows, name: str) -> tuple[list[str], Move]:
    """Their names for one of ours, by the first row that matches; no names where none does."""
    for row in rows:
        if match := _pattern(row.ours).fullmatch(name):
            theirs = (row.theirs,) if isinstance(row.theirs, str) else row.theirs
            return [_fill(template, match.groups()) for template in theirs], row.move
    return [], SAME


@cache
def _pattern(template: str) -> re.Pattern[str]:
    parts = {"N": r"(\d+)", "*": r"([^.]+)"}
    return re.compile(r"\.".join(parts.get(part, re.escape(part)) for part in template.split(".")))


def _fill(template: str, groups: tuple[str, ...]) -> str:
    """Put what matched back in, in order."""
    values = iter(groups)
    return re.sub(r"\bN\b|\*", lambda _: next(values), template)
