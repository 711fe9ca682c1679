"""A checkpoint format as a table of names. Reading and writing use the same rows, so they stay consistent."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from diptych.checkpoint.state import cannot_hold, listing
from diptych.checkpoint.weights.shape_check import TensorSpec, check, expected_specs, specs_of
from diptych.nets.config import CLIPConfig
from diptych.nets.shapes import Shape

if TYPE_CHECKING:
    from torch import Tensor


class TensorTransform(NamedTuple):
    """A conversion of tensors: `read` makes one of ours from theirs, `write` is its inverse, and `shapes` gives the
    shapes that `write` results in."""

    read: Callable[[list[Tensor]], Tensor]
    write: Callable[[Tensor], list[Tensor]]
    shapes: Callable[[Shape], list[Shape]]


def _joined(theirs: list[Any]) -> Any:
    """Tensors, or arrays without PyTorch, concatenated."""
    if isinstance(theirs[0], np.ndarray):
        return np.concatenate(theirs)
    import torch

    return torch.cat(theirs)


def _parts(shape: Shape, *shares: int) -> list[Shape]:
    """The shapes of a tensor's parts, split along its first axis by thirds."""
    return [(shape[0] * share // 3, *shape[1:]) for share in shares]


IDENTITY = TensorTransform(lambda theirs: theirs[0], lambda ours: [ours], lambda shape: [shape])
# A weight that multiplies from the right is stored [in, out]; a Linear stores [out, in].
TRANSPOSED = TensorTransform(
    lambda theirs: theirs[0].t().contiguous(), lambda ours: [ours.t().contiguous()], lambda shape: [shape[::-1]]
)
QKV = TensorTransform(
    _joined, lambda ours: [part.clone() for part in ours.chunk(3)], lambda shape: _parts(shape, 1, 1, 1)
)
Q_KV = TensorTransform(
    _joined,
    lambda ours: [part.clone() for part in ours.tensor_split((len(ours) // 3,))],
    lambda shape: _parts(shape, 1, 2),
)
# A leading axis of length one, and a scalar stored as a vector of length one
BATCHED = TensorTransform(
    lambda theirs: theirs[0].squeeze(0), lambda ours: [ours.unsqueeze(0)], lambda shape: [(1, *shape)]
)
VECTOR = TensorTransform(lambda theirs: theirs[0].reshape(()), lambda ours: [ours.reshape(1)], lambda shape: [(1,)])


class KeyMapping(NamedTuple):
    """`ours` and `theirs` are dotted names in which N is a layer's number and * any one part. Several names in
    `theirs` make one tensor of ours."""

    ours: str
    theirs: str | tuple[str, ...]
    transform: TensorTransform = IDENTITY


KeyMappings = tuple[KeyMapping, ...]


def read_mapped(
    mappings: KeyMappings | None, tensors: Mapping[str, Tensor], config: CLIPConfig, source: str
) -> dict[str, Tensor]:
    """Their tensors under our names. Raises CheckpointError with all mismatches (in their names and shapes).
    `mappings` is None if the names are ours already."""
    ours = expected_specs(config, source)
    theirs = renamed(mappings, ours, source)
    check(specs_of(tensors), theirs, source)
    import torch

    state = {}
    for name, form in ours.items():
        names, transform = look_up(mappings, name)
        parts = [tensors[their] if their in tensors else torch.zeros((), dtype=torch.int64) for their in names]
        state[name] = transform.read(parts).reshape(form.shape)
    return state


def write_mapped(mappings: KeyMappings, state: Mapping[str, Tensor], format_name: str) -> dict[str, Tensor]:
    """Our tensors under their names. Raises CheckpointError if the format has no name for one."""
    tensors = {}
    for name, (names, transform) in _named(mappings, state, format_name).items():
        tensors.update(zip(names, transform.write(state[name]), strict=True))
    return tensors


def renamed(mappings: KeyMappings | None, forms: Mapping[str, TensorSpec], format_name: str) -> dict[str, TensorSpec]:
    """The specs of our tensors under their names, as `write_mapped` writes the tensors."""
    found = {}
    for name, (names, transform) in _named(mappings, forms, format_name).items():
        found.update(
            {
                their: TensorSpec(shape, forms[name].kind)
                for their, shape in zip(names, transform.shapes(forms[name].shape), strict=True)
            }
        )
    return found


def _named(
    mappings: KeyMappings | None, ours: Iterable[str], format_name: str
) -> dict[str, tuple[list[str], TensorTransform]]:
    found = {name: look_up(mappings, name) for name in ours}
    if nameless := [name for name, (names, _) in found.items() if not names]:
        listed = listing(nameless, ", ")
        raise cannot_hold(format_name, f"it has no name for {listed}")
    return found


def look_up(mappings: KeyMappings | None, name: str) -> tuple[list[str], TensorTransform]:
    """Their names for one of ours, by the first mapping that matches; no names if none does."""
    if mappings is None:
        return [name], IDENTITY
    for mapping in mappings:
        if match := _pattern(mapping.ours).fullmatch(name):
            theirs = (mapping.theirs,) if isinstance(mapping.theirs, str) else mapping.theirs
            return [_fill(template, match.groups()) for template in theirs], mapping.transform
    return [], IDENTITY


@cache
def _pattern(template: str) -> re.Pattern[str]:
    parts = {"N": r"(\d+)", "*": r"([^.]+)"}
    return re.compile(r"\.".join(parts.get(part, re.escape(part)) for part in template.split(".")))


def _fill(template: str, groups: tuple[str, ...]) -> str:
    """Fill the matched groups in, in order."""
    values = iter(groups)
    return re.sub(r"\bN\b|\*", lambda _: next(values), template)
