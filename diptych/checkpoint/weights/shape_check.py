"""Whether the tensors that came are those that a configuration wants: one check for every format and both engines. It
looks at names, shapes and kinds alone, so that a file's header is enough, and needs no PyTorch."""

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
# No weights: counts from 0 and causal masks that older versions saved, how many batches batch norm or an average of
# weights has seen, and the decoder with which CoCa writes captions, which neither tower reads.
NO_WEIGHT = re.compile(rf"(.*[._])?(position_ids|attn_mask|{COUNTER})|n_averaged|text_decoder\..*")


# What is made of a model by others and lies in its file, told by names
SIGNS = {
    "lora_": " Adapters lie beside the weights that they change: merge both first, and save the whole model.",
    ".SCB": " The weights are kept in 8 bits by bitsandbytes: save them anew in 16 or 32.",
    ".qweight": " The weights are quantised: take the model that it was made of.",
}


class TensorSpec(NamedTuple):
    """A tensor's shape and kind: "float" for all floating numbers, the kind's own name for others."""

    shape: Shape
    kind: str = FLOAT

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.shape))}){'' if self.kind == FLOAT else f' {self.kind}'}"


def spec_of(tensor: Tensor) -> TensorSpec:
    """That of a tensor. One that holds no numbers, or not all in their places, is of no kind that fits."""
    kind = FLOAT if tensor.is_floating_point() else str(tensor.dtype).removeprefix("torch.")
    if tensor.is_meta or str(tensor.layout) != "torch.strided":
        kind = "without its numbers" if tensor.is_meta else f"of layout {tensor.layout}"
    return TensorSpec(tuple(tensor.shape), kind)


def specs_of(tensors: Mapping[str, Tensor]) -> dict[str, TensorSpec]:
    """Those of many."""
    return {name: spec_of(tensor) for name, tensor in tensors.items()}


def expected_specs(config: CLIPConfig, source: str) -> dict[str, TensorSpec]:
    """Every tensor that the network of this configuration has. CheckpointError where there is no such network."""
    try:
        found = shapes(config)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise CheckpointError(f"{source}: its configuration makes no network: {error}") from error
    return {name: TensorSpec(shape, "int64" if name.endswith(COUNTER) else FLOAT) for name, shape in found.items()}


def check(came: Mapping[str, TensorSpec], expected_specs: Mapping[str, TensorSpec], source: str) -> None:
    """One error for everything that is missing, left over, or of another shape or kind."""
    problems = [
        *(
            f"{name} {expected_specs[name]} is missing"
            for name in sorted(expected_specs.keys() - came.keys())
            if not is_counter(name)
        ),
        *(f"{name} {came[name]} is not expected" for name in sorted(unexpected_keys(came, expected_specs))),
        *(
            f"{name} came as {came[name]}, wanted {form}"
            for name, form in expected_specs.items()
            if name in came and not _fits(came[name], form)
        ),
    ]
    if problems:
        count = f"{len(problems)} of its tensors {'does' if len(problems) == 1 else 'do'}"
        hint = next((hint for sign, hint in SIGNS.items() if any(sign in name for name in came)), "")
        raise CheckpointError(f"{source}: {count} not fit its configuration: {listing(problems, '; ')}.{hint}")


def unexpected_keys(came: Mapping[str, TensorSpec], expected_specs: Mapping[str, TensorSpec]) -> list[str]:
    """What nothing reads and what is a weight all the same."""
    return [name for name in came if name not in expected_specs and not NO_WEIGHT.fullmatch(name)]


def is_counter(name: str) -> bool:
    """Whether no vector depends on it, so that it may be missing."""
    return name.endswith(COUNTER)


def _fits(came: TensorSpec, expected_specs: TensorSpec) -> bool:
    """A scale may be a number or a list of one: formats and versions differ in that. A counter may be any number."""
    one = all(size == 1 for size in (*came.shape, *expected_specs.shape))
    return (came.kind == expected_specs.kind or expected_specs.kind != FLOAT) and (
        came.shape == expected_specs.shape or one
    )
