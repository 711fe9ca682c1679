"""Causes of a loss that stays at chance level.

A healthy run pays one comparison per step. Several processes have to check at the same step, because the check calls
the towers. They do, because all have the same loss.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from diptych.nets.clip import CLIP, MAX_LOGIT_SCALE

if TYPE_CHECKING:
    from jaxtyping import Float, Int

SAMPLE = 128  # pictures and texts to check
BAND = 0.02  # a loss lower than chance by more than this share has learnt something
MIN_SIMILARITY = 0.99  # mean cosine of collapsed vectors
LARGE_CHANGE = 0.1  # relative change of the weights, larger than a good run's this early


Cause = tuple[str, str]  # a name, and sentences for the log


class StepEvidence(NamedTuple):
    """A step's batch as the towers' input, and the peak learning rates by setting. Gradients are in the parameters."""

    pixels: Float[Tensor, "pictures 3 height width"]
    ids: Int[Tensor, "texts tokens"]
    captions: Sequence[str]
    rates: Mapping[str, float]


class Plateau:
    """Detects a loss that stays at chance level, and finds the cause.

    It checks as soon as the last `patience` losses are at most 2 % below chance and no longer fall, and again after
    twice as many steps. Each cause is reported once; an assumed cause only from the second check on.
    """

    def __init__(self, network: CLIP, *, patience: int = 100):
        self._network, self._chance = network, math.nan
        self._step = self._next = self._check_count = 0
        self._losses: deque[float] = deque(maxlen=patience)  # in units of chance
        self._start = {name: _sample(p) for name, p in network.named_parameters()}
        self._reported: set[str] = set()

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint: samples of the initial weights, counts, and reported causes."""
        counted = {"next": self._next, "looks": self._check_count, "losses": list(self._losses)}
        return {"start": self._start, "said": sorted(self._reported), **counted}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""
        self._start, self._reported = state["start"], set(state["said"])
        self._next, self._check_count = state["next"], state["looks"]
        self._losses.extend(state["losses"])

    def is_stuck(self, step: int, loss: float, chance: float) -> bool:
        """Add a step's loss and the chance level of its batch; True if it is time to find a cause. Call it at each step
        after the warm-up."""
        self._losses.append(loss / chance)
        self._step, self._chance, losses = step, chance, self._losses
        if step < self._next or len(losses) < (losses.maxlen or 0):
            return False
        half = len(losses) // 2
        earlier, later = sum(islice(losses, half)) / half, sum(islice(losses, len(losses) - half, None)) / half
        is_stuck = later > 1 - BAND and earlier - later < BAND / 4
        self._next = 2 * step if is_stuck else step + half
        return is_stuck

    def causes(self, evidence: StepEvidence) -> list[str]:
        """Sentences on each new cause; empty if there is none."""
        self._check_count += 1
        found = dict(self._find(evidence))
        if not found and self._check_count > 1:
            found["pairs"] = (
                "The gradients, the features and the batch are normal. Do the captions belong to their pictures? If "
                "so, raise the learning rate or batch_size, or wait."
            )
        new = {kind: text for kind, text in found.items() if kind not in self._reported}
        self._reported |= set(new)
        mean = self._chance * sum(self._losses) / len(self._losses)
        first = f"After {self._step} steps the loss ({mean:.3f}) is still at chance level ({self._chance:.3f})."
        return [first, *new.values()] if new else []

    def _find(self, evidence: StepEvidence) -> Iterator[Cause]:
        """Causes, each with a name. Consequences of a cause that is found are not checked."""
        network, change = self._network, self._relative_change()
        causes = [*captions_alike(evidence.captions, evidence.ids)]
        if network.image_stage == "pixels":
            causes = [*pictures_alike(evidence.pixels[:SAMPLE]), *causes]
        causes = causes or [*without_gradient(network)] or [*hardly_changed(change, evidence.rates)]
        yield from causes or collapsed(network, evidence, change)
        yield from frozen(network)
        yield from temperature_at_an_end(network)

    def _relative_change(self) -> float:
        """The norm of the trained weights' change relative to their initial norm; NaN if nothing is trained."""
        pairs = [(_sample(p), self._start[name]) for name, p in self._network.named_parameters() if p.requires_grad]
        size = sum(start.square().sum().item() for _, start in pairs)
        return math.sqrt(sum((now - start).square().sum().item() for now, start in pairs) / size) if size else math.nan


def pictures_alike(pixels: Float[Tensor, "pictures 3 height width"]) -> Iterator[Cause]:
    """Blank and repeated pictures."""
    flat = pixels.detach().flatten(2).float()
    blank = int((flat.std(dim=2).amax(dim=1) < 1e-3).sum())
    distinct = len({picture.cpu().numpy().tobytes() for picture in flat})
    if blank > len(flat) / 2:
        yield "blank", f"{blank} of {len(flat)} pictures of the batch have a single colour. Check how they are read."
    elif distinct <= len(flat) / 2:
        yield "pictures", f"Distinct pictures in the batch: {distinct} of {len(flat)}. Check the data."


def captions_alike(captions: Sequence[str], ids: Int[Tensor, "texts tokens"]) -> Iterator[Cause]:
    """Captions that are equal, or whose tokens are."""
    distinct, rows = len(set(captions)), len(torch.unique(ids, dim=0))
    most_common, count = Counter(captions).most_common(1)[0]
    if distinct <= len(captions) / 2:
        yield (
            "captions",
            f"Distinct captions in the batch: {distinct} of {len(captions)}; {count} are {most_common[:60]!r}. "
            "Captions must distinguish pictures.",
        )
    elif rows <= distinct / 2:
        yield (
            "tokens",
            f"The tokenizer turns {distinct} captions into {rows} different token sequences: the captions start with "
            "the same words and are truncated, or the tokenizer lacks their characters. Raise context, or train a "
            "tokenizer on these captions.",
        )


def frozen(network: CLIP) -> Iterator[Cause]:
    """Towers without trainable parameters."""
    if names := [name for name, p in _towers(network) if not p]:
        yield "frozen", f"Frozen: the {' and the '.join(names)} tower. It should be pretrained."


def without_gradient(network: CLIP) -> Iterator[Cause]:
    """Trainable towers without a gradient."""
    if names := [name for name, ps in _towers(network) if ps and not any(_has_gradient(p) for p in ps)]:
        yield (
            "gradient",
            f"No gradient reaches the {' and the '.join(names)} tower: every parameter has none, or zeros. The "
            "backward pass is cut off by dead activations, a last projection of zeros, or underflow in fp16.",
        )


def hardly_changed(change: float, rates: Mapping[str, float]) -> Iterator[Cause]:
    """Weights that are nearly the initial ones."""
    if not any(rates.values()):
        yield "lr", f"The learning rates are zero: {_formatted_rates(rates)}."
    elif change < 1e-3:
        yield "lr", f"The weights have changed by {change:.1e} of their norm: raise {_formatted_rates(rates)}."


def _formatted_rates(rates: Mapping[str, float]) -> str:
    """ "lr (0.001) and muon_lr (0.02)" """
    return " and ".join(f"{name} ({rate:.2g})" for name, rate in rates.items())


def collapsed(network: CLIP, evidence: StepEvidence, change: float) -> Iterator[Cause]:
    """Towers whose output is nearly constant. Causes are too large steps (the weights have then changed much) and pairs
    that do not belong together, for which a constant is the best output."""
    was_training = network.training
    network.eval()
    with torch.no_grad():
        output = network(evidence.pixels[:SAMPLE], evidence.ids[:SAMPLE])
    network.train(was_training)
    cosines = {"picture": mean_cosine(output.image), "text": mean_cosine(output.text)}
    collapsed_towers = {name: cosine for name, cosine in cosines.items() if cosine > MIN_SIMILARITY}
    if not collapsed_towers:
        return
    found = ", ".join(f"{name} {cosine:.4f}" for name, cosine in collapsed_towers.items())
    rate, pairs = (
        f"too large steps of {_formatted_rates(evidence.rates)}",
        "the captions do not belong to their pictures",
    )
    first, second = (rate, pairs) if change > LARGE_CHANGE else (pairs, rate)
    yield (
        "collapsed",
        f"A tower gives nearly the same vector for every input (mean cosine: {found}): it has collapsed. Probably "
        f"{first} (the weights have changed by {change:.2g} of their norm); otherwise {second}.",
    )


def temperature_at_an_end(network: CLIP) -> Iterator[Cause]:
    """A scale at which the softmax is nearly uniform, or at its limit."""
    scale, limit = network.logit_scale.exp().item(), math.exp(MAX_LOGIT_SCALE)
    if scale < 1:
        yield "temperature", f"The temperature is 1/{scale:.3g}: similarities have hardly any effect. Lower lr."
    elif network.config.loss == "softmax" and scale > 0.999 * limit:
        yield "temperature", f"The temperature is at its limit of 1/{limit:.0f}. Lower lr."


def mean_cosine(unit: Float[Tensor, "rows dim"]) -> float:
    """The mean cosine of unit vectors over all pairs of different rows; 1 if all are equal."""
    count = len(unit)
    return ((unit.sum(dim=0).square().sum() - count) / (count * (count - 1))).item() if count > 1 else math.nan


def _towers(network: CLIP) -> list[tuple[str, list[Tensor]]]:
    """Each tower's name and trainable parameters."""
    towers = (("picture", network.image), ("text", network.text))
    return [(name, [p for p in tower.parameters() if p.requires_grad]) for name, tower in towers]


def _has_gradient(parameter: Tensor) -> bool:
    return parameter.grad is not None and bool(parameter.grad.any())


def _sample(parameter: Tensor) -> Tensor:
    """64 of its numbers, to measure changes."""
    local = parameter.detach()
    flat = getattr(local, "to_local", lambda: local)().flatten()  # this process's shard
    return flat[:: max(1, len(flat) // 64)][:64].float().cpu().clone()
