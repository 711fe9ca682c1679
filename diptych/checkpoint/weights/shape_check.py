"""Checks the tensors of a file against a configuration, for every format and both engines. It compares only names,
shapes and dtypes, so that a file's header is enough, and does not need PyTorch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from diptych.checkpoint.state import listing
from diptych.errors import CheckpointError
from diptych.nets.config import CLIPConfig
from diptych.nets.shapes import COUNTER, Shape, shapes

if TYPE_CHECKING:
    from torch import Tensor

FLOAT = "float"
# Not weights: position ids and causal masks of older versions, counters of batch norm and of averaged weights, and
# CoCa's caption decoder, which neither tower uses.
NO_WEIGHT = re.compile(rf"(.*[._])?(position_ids|attn_mask|{COUNTER})|n_averaged|text_decoder\..*")

# Hints for models that other libraries have changed, by a part of a tensor's name
SIGNS = {
    "lora_": " The file has adapters beside the weights: merge both first, and save the whole model.",
    ".SCB": " The weights are in bitsandbytes' 8 bits: save them again in 16 or 32 bits.",
    ".qweight": " The weights are quantised: use the original model.",
}


class TensorSpec(NamedTuple):
    """A tensor's shape and kind: "float" for all floating-point dtypes, else the name of the dtype."""

    shape: Shape
    kind: str = FLOAT

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.shape))}){'' if self.kind == FLOAT else f' {self.kind}'}"


def spec_of(tensor: Tensor) -> TensorSpec:
    """The spec of a tensor. The kind of a meta or sparse tensor matches no other."""
    kind = FLOAT if tensor.is_floating_point() else str(tensor.dtype).removeprefix("torch.")
    if tensor.is_meta or str(tensor.layout) != "torch.strided":
        kind = "without its numbers" if tensor.is_meta else f"of layout {tensor.layout}"
    return TensorSpec(tuple(tensor.shape), kind)


def specs_of(tensors: Mapping[str, Tensor]) -> dict[str, TensorSpec]:
    """The specs of tensors, by name."""
    return {name: spec_of(tensor) for name, tensor in tensors.items()}


def expected_specs(config: CLIPConfig, source: str) -> dict[str, TensorSpec]:
    """The tensors of the network with this configuration. Raises CheckpointError if there is no such network."""
    try:
        found = shapes(config)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise CheckpointError(f"{source}: its configuration is not that of a network: {error}") from error
    return {name: TensorSpec(shape, "int64" if name.endswith(COUNTER) else FLOAT) for name, shape in found.items()}


def check(found: Mapping[str, TensorSpec], expected_specs: Mapping[str, TensorSpec], source: str) -> None:
    """Raise one CheckpointError for all tensors that are missing, unexpected, or of another shape or kind."""
    problems = [
        *(
            f"{name} {expected_specs[name]} is missing"
            for name in sorted(expected_specs.keys() - found.keys())
            if not is_counter(name)
        ),
        *(f"{name} {found[name]} is not expected" for name in sorted(unexpected_keys(found, expected_specs))),
        *(
            f"{name} is {found[name]}, wanted {form}"
            for name, form in expected_specs.items()
            if name in found and not _fits(found[name], form)
        ),
    ]
    if problems:
        count = f"{len(problems)} of its tensors {'does' if len(problems) == 1 else 'do'}"
        hint = next((hint for sign, hint in SIGNS.items() if any(sign in name for name in found)), "")
        raise CheckpointError(f"{source}: {count} not fit its configuration: {listing(problems, '; ')}.{hint}")


def unexpected_keys(found: Mapping[str, TensorSpec], expected_specs: Mapping[str, TensorSpec]) -> list[str]:
    """The names of weights that the network does not have."""
    return [name for name in found if name not in expected_specs and not NO_WEIGHT.fullmatch(name)]


def is_counter(name: str) -> bool:
    """Whether the tensor is a counter, which may be missing because no vector depends on it."""
    return name.endswith(COUNTER)


def _fits(found: TensorSpec, expected_specs: TensorSpec) -> bool:
    """A scale may be a scalar or a vector of length one, as formats differ. A counter may be of any integer dtype."""
    one = all(size == 1 for size in (*found.shape, *expected_specs.shape))
    return (found.kind == expected_specs.kind or expected_specs.kind != FLOAT) and (
        found.shape == expected_specs.shape or one
    )
