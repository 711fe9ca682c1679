"""The first tensor of a step that is not finite, if its loss or gradient is NaN or infinite."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from diptych.nets.clip import CLIP

if TYPE_CHECKING:
    from jaxtyping import Float

FP16_MAX = 65504
SMALLER_STEPS = "Lower the learning rate, or raise warmup."


class NonFiniteTensor(NamedTuple):
    """A tensor of the replay that is not finite, and the largest finite input of its module."""

    name: str
    dtype: torch.dtype
    largest_input: float


def find_non_finite(
    network: CLIP, pixels: Float[Tensor, "pictures 3 height width"], replay: Callable[[], object]
) -> str:
    """Two sentences: the first tensor that is not finite, and what to do.

    `replay` runs the step's forward and backward pass again on `network`, without an update; compiled modules run
    uncompiled, because compiled code does not expose module outputs. Checks the pictures, the weights, each module's
    input and output in the order of computation, and each gradient in the order of backpropagation.
    """
    if rows := [i for i, picture in enumerate(pixels) if not _is_finite(picture)]:
        return (
            f"The pixels of picture {rows[0]} of the batch are not finite ({len(rows)} of {len(pixels)} pictures). "
            "Look at the data, and at the mean and std that pictures are normalised with."
        )
    if name := next((name for name, p in network.named_parameters() if not _is_finite(p)), None):
        return (
            f"The weights {name} are not finite before this step. Go back to an earlier checkpoint, "
            "or start from another model."
        )
    network.zero_grad(set_to_none=True)
    with torch.compiler.set_stance("force_eager"), _watched(network) as found:
        replay()
    if found:
        return _describe(found[0])
    return f"In a second run the step is finite: dropout differed, or the tensor is in another process. {SMALLER_STEPS}"


def _describe(tensor: NonFiniteTensor) -> str:
    text = f"The first tensor that is not finite is {tensor.name} ({str(tensor.dtype).removeprefix('torch.')}"
    text += f", from inputs of up to {tensor.largest_input:.3g}). " if tensor.largest_input else "). "
    if tensor.dtype == torch.float16:
        return text + f"fp16 ends at {FP16_MAX:,}: train in bf16, or in fp32."
    if tensor.name.endswith("scale"):
        return text + f"The temperature diverges. {SMALLER_STEPS}"
    if tensor.name.startswith("the gradient"):
        return text + f"The backward pass overflows. {SMALLER_STEPS}"
    return text + f"Activations overflow, as happens with too large steps. {SMALLER_STEPS}"


@contextmanager
def _watched(network: nn.Module) -> Iterator[list[NonFiniteTensor]]:
    """Collects non-finite tensors while the network runs forward and backward, in that order."""
    found: list[NonFiniteTensor] = []
    handles = []
    for name, module in network.named_modules():
        handles.append(module.register_forward_pre_hook(_before(name, found)))
        handles.append(module.register_forward_hook(_after(name, found)))
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            handles.append(parameter.register_hook(_on_gradient(name, found)))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _before(name: str, found: list[NonFiniteTensor]) -> Callable[..., None]:
    """A hook on inputs: a non-finite input is an intermediate result of the enclosing module."""

    def hook(module: nn.Module, inputs: tuple) -> None:
        if not found and (bad := next((x for _, x in _tensors(inputs) if not _is_finite(x)), None)) is not None:
            parent = name.rpartition(".")[0] or "the model"
            label = f"an intermediate result of {parent} before {name or 'its modules'}"
            found.append(NonFiniteTensor(label, bad.dtype, 0.0))

    return hook


def _after(name: str, found: list[NonFiniteTensor]) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: tuple, output: Any) -> None:
        for part, x in _tensors(output):
            if not found and not _is_finite(x):
                largest = max((_largest(y) for _, y in _tensors(inputs)), default=0.0)
                label = ".".join(filter(None, (name, part))) if part else f"the output of {name}"
                found.append(NonFiniteTensor(label, x.dtype, largest))

    return hook


def _on_gradient(name: str, found: list[NonFiniteTensor]) -> Callable[[Tensor], None]:
    def hook(gradient: Tensor) -> None:
        if not found and not _is_finite(gradient):
            found.append(NonFiniteTensor(f"the gradient of {name}", gradient.dtype, 0.0))

    return hook


def _tensors(value: Any) -> Iterator[tuple[str, Tensor]]:
    """The floating-point tensors of a module's input or output, with their names if it is a named tuple."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield "", value
    elif isinstance(value, tuple | list):
        names = getattr(value, "_fields", None) or [""] * len(value)
        yield from (
            (name, x) for name, x in zip(names, value, strict=True) if isinstance(x, Tensor) and x.is_floating_point()
        )


def _is_finite(x: Tensor) -> bool:
    return bool(torch.isfinite(x.detach()).all())


def _largest(x: Tensor) -> float:
    finite = x.detach().float().abs()
    return finite[torch.isfinite(finite)].max().item() if torch.isfinite(finite).any() else math.inf
