"""Which tensor was the first that holds no number, where a loss or a gradient is NaN or infinite."""

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
SHORTER = "Lower the learning rate, or raise warmup."


class Seen(NamedTuple):
    """A tensor of the replay that is not finite. `largest_input` is of what came in, as far as it was finite."""

    name: str
    dtype: torch.dtype
    largest_input: float


def why_not_finite(
    network: CLIP, pixels: Float[Tensor, "pictures 3 height width"], replay: Callable[[], object]
) -> str:
    """Which tensor was the first that is not finite, and what to do, in two sentences.

    `replay` runs the step's forward and backward pass again on `network` itself, without stepping; what is compiled in
    it runs plainly, for compiled code keeps no module's output. Looks at the pictures, the weights, each module's input
    and output in the order in which they are computed, and each gradient in the order in which it arrives.
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
        return _in_words(found[0])
    return f"Done again, the step is finite: dropout draws other numbers, or another process had the tensor. {SHORTER}"


def _in_words(seen: Seen) -> str:
    what = f"The first tensor that is not finite is {seen.name} ({str(seen.dtype).removeprefix('torch.')}"
    what += f", from inputs of up to {seen.largest_input:.3g}). " if seen.largest_input else "). "
    if seen.dtype == torch.float16:
        return what + f"fp16 ends at {FP16_MAX:,}: train in bf16, or in fp32."
    if seen.name.endswith("scale"):
        return what + f"The temperature has run away. {SHORTER}"
    if seen.name.startswith("the gradient"):
        return what + f"The way back overflows. {SHORTER}"
    return what + f"Activations have outgrown their numbers, as they do when steps are too long. {SHORTER}"


@contextmanager
def _watched(network: nn.Module) -> Iterator[list[Seen]]:
    """Collects what is not finite while the network runs forward and backward, in that order."""
    found: list[Seen] = []
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


def _before(name: str, found: list[Seen]) -> Callable[..., None]:
    """What a module gets that is no number came about in the module around it, between two of its parts."""

    def hook(module: nn.Module, inputs: tuple) -> None:
        if not found and (bad := next((x for _, x in _tensors(inputs) if not _is_finite(x)), None)) is not None:
            around = name.rpartition(".")[0] or "the model"
            found.append(Seen(f"what {around} computes before {name or 'anything'}", bad.dtype, 0.0))

    return hook


def _after(name: str, found: list[Seen]) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: tuple, output: Any) -> None:
        for part, x in _tensors(output):
            if not found and not _is_finite(x):
                largest = max((_largest(y) for _, y in _tensors(inputs)), default=0.0)
                label = ".".join(filter(None, (name, part))) if part else f"the output of {name}"
                found.append(Seen(label, x.dtype, largest))

    return hook


def _on_gradient(name: str, found: list[Seen]) -> Callable[[Tensor], None]:
    def hook(gradient: Tensor) -> None:
        if not found and not _is_finite(gradient):
            found.append(Seen(f"the gradient of {name}", gradient.dtype, 0.0))

    return hook


def _tensors(value: Any) -> Iterator[tuple[str, Tensor]]:
    """The floating-point tensors of a module's input or output; those of a named tuple with their names."""
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
