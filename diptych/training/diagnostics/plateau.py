"""Why a loss stays where guessing is.

It costs a healthy run a comparison a step. Under several processes all of them have to look at the same step, for
towers may be spread over them; they do, for all see the same loss.
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

PROBE = 128  # pictures and texts that are looked at
BAND = 0.02  # a loss this part under chance has learnt something
ALIKE = 0.99  # mean cosine of vectors that no longer tell anything apart
FAR = 0.1  # a change of the weights, as a part of their length, that a good start does not bring this early


Cause = tuple[str, str]  # a name, and what to say


class Evidence(NamedTuple):
    """What a step leaves behind: the batch as the towers were given it, and the peaks of the learning rates by the
    settings' names. Gradients are still in the parameters."""

    pixels: Float[Tensor, "pictures 3 height width"]
    ids: Int[Tensor, "texts tokens"]
    captions: Sequence[str]
    rates: Mapping[str, float]


class Plateau:
    """Notices that a loss stays at chance, and looks for the cause.

    It looks as soon as the last `patience` losses are no lower than 2 % under chance and no longer fall, and again when
    twice as many steps are done. A cause is named once. What can only be supposed is said from the second look on.
    """

    def __init__(self, network: CLIP, *, patience: int = 100):
        self._network, self._chance = network, math.nan
        self._step = self._next = self._looks = 0
        self._losses: deque[float] = deque(maxlen=patience)  # in units of chance
        self._start = {name: _sample(p) for name, p in network.named_parameters()}
        self._said: set[str] = set()

    def state(self) -> dict[str, Any]:
        """What a resumed run needs to go on with: where the weights began, what was counted, what was said."""
        counted = {"next": self._next, "looks": self._looks, "losses": list(self._losses)}
        return {"start": self._start, "said": sorted(self._said), **counted}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with a `state`."""
        self._start, self._said = state["start"], set(state["said"])
        self._next, self._looks = state["next"], state["looks"]
        self._losses.extend(state["losses"])

    def is_suspicious(self, step: int, loss: float, chance: float) -> bool:
        """Count a step's loss in, and that of guessing on its batch, from the end of the warm-up on; True where it is
        time to look for a cause."""
        self._losses.append(loss / chance)
        self._step, self._chance, losses = step, chance, self._losses
        if step < self._next or len(losses) < (losses.maxlen or 0):
            return False
        half = len(losses) // 2
        earlier, late = sum(islice(losses, half)) / half, sum(islice(losses, len(losses) - half, None)) / half
        is_stuck = late > 1 - BAND and earlier - late < BAND / 4
        self._next = 2 * step if is_stuck else step + half
        return is_stuck

    def causes(self, evidence: Evidence) -> list[str]:
        """What explains it, a sentence or two each; empty where nothing new is to be said."""
        self._looks += 1
        found = dict(self._find(evidence))
        if not found and self._looks > 1:
            found["pairs"] = (
                "Nothing is wrong with the gradients, the features or the batch. Do the captions belong to their "
                "pictures? If so, raise the learning rate or batch_size, or give it time."
            )
        fresh = {kind: text for kind, text in found.items() if kind not in self._said}
        self._said |= set(fresh)
        mean = self._chance * sum(self._losses) / len(self._losses)
        head = f"After {self._step} steps the loss ({mean:.3f}) is still where guessing is ({self._chance:.3f})."
        return [head, *fresh.values()] if fresh else []

    def _find(self, evidence: Evidence) -> Iterator[Cause]:
        """Causes, each with a name. What only follows from one that is found already is not looked for."""
        network, moved = self._network, self._moved()
        causes = [*pictures_alike(evidence.pixels[:PROBE]), *captions_alike(evidence.captions, evidence.ids)]
        causes = causes or [*without_gradient(network)] or [*hardly_moved(moved, evidence.rates)]
        yield from causes or collapsed(network, evidence, moved)
        yield from frozen(network)
        yield from temperature_at_an_end(network)

    def _moved(self) -> float:
        """How far the trained weights are from where they began, as a part of their length; NaN where none is."""
        pairs = [(_sample(p), self._start[name]) for name, p in self._network.named_parameters() if p.requires_grad]
        size = sum(start.square().sum().item() for _, start in pairs)
        return math.sqrt(sum((now - start).square().sum().item() for now, start in pairs) / size) if size else math.nan


def pictures_alike(pixels: Float[Tensor, "pictures 3 height width"]) -> Iterator[Cause]:
    """Blank pictures, and pictures that come again and again."""
    flat = pixels.detach().flatten(2).float()
    blank = int((flat.std(dim=2).amax(dim=1) < 1e-3).sum())
    distinct = len({picture.cpu().numpy().tobytes() for picture in flat})
    if blank > len(flat) / 2:
        yield "blank", f"{blank} of {len(flat)} pictures of the batch are of one colour. Look at how they are read."
    elif distinct <= len(flat) / 2:
        yield "pictures", f"Distinct pictures in the batch: {distinct} of {len(flat)}. Look at the data."


def captions_alike(captions: Sequence[str], ids: Int[Tensor, "texts tokens"]) -> Iterator[Cause]:
    """Captions that are the same, or that the tokenizer makes the same."""
    distinct, rows = len(set(captions)), len(torch.unique(ids, dim=0))
    often, count = Counter(captions).most_common(1)[0]
    if distinct <= len(captions) / 2:
        yield (
            "captions",
            f"Distinct captions in the batch: {distinct} of {len(captions)}; {count} are {often[:60]!r}. "
            "Captions have to tell pictures apart.",
        )
    elif rows <= distinct / 2:
        yield (
            "tokens",
            f"The tokenizer makes {rows} different rows of tokens out of {distinct} captions: they begin alike and are "
            "cut at the model's length, or it does not know their letters. Raise context, or train it on these.",
        )


def frozen(network: CLIP) -> Iterator[Cause]:
    """Towers that are not trained at all."""
    if names := [name for name, p in _towers(network) if not p]:
        yield "frozen", f"Frozen: the {' and the '.join(names)} tower. It should come from a model that is trained."


def without_gradient(network: CLIP) -> Iterator[Cause]:
    """Towers that are to be trained, but that no gradient reaches."""
    if names := [name for name, ps in _towers(network) if ps and not any(_has_gradient(p) for p in ps)]:
        yield (
            "gradient",
            f"No gradient reaches the {' and the '.join(names)} tower: every parameter has none, or zeros. Something "
            "cuts the way back: dead activations, a last projection of zeros, or numbers too small for fp16.",
        )


def hardly_moved(moved: float, rates: Mapping[str, float]) -> Iterator[Cause]:
    """Weights that are still what they were when the run began."""
    if not any(rates.values()):
        yield "lr", f"No step has a length: {_spelt(rates)}."
    elif moved < 1e-3:
        yield "lr", f"The weights have changed by {moved:.1e} of themselves: raise {_spelt(rates)}."


def _spelt(rates: Mapping[str, float]) -> str:
    """ "lr (0.001) and muon_lr (0.02)" """
    return " and ".join(f"{name} ({rate:.2g})" for name, rate in rates.items())


def collapsed(network: CLIP, evidence: Evidence, moved: float) -> Iterator[Cause]:
    """Towers that give one vector whatever they are shown. Steps that are too long do that (the weights are then far
    from where they began), and pairs that do not belong together, for which it is the best answer."""
    was_training = network.training
    network.eval()
    with torch.no_grad():
        output = network(evidence.pixels[:PROBE], evidence.ids[:PROBE])
    network.train(was_training)
    cosines = {"picture": mean_cosine(output.image), "text": mean_cosine(output.text)}
    alike = {name: cosine for name, cosine in cosines.items() if cosine > ALIKE}
    if not alike:
        return
    found = ", ".join(f"{name} {cosine:.4f}" for name, cosine in alike.items())
    rate, pairs = f"too long steps of {_spelt(evidence.rates)}", "the captions do not belong to their pictures"
    first, second = (rate, pairs) if moved > FAR else (pairs, rate)
    yield (
        "collapsed",
        f"A tower gives nearly the same vector for everything (mean cosine: {found}): it has collapsed. Likely {first} "
        f"(the weights have changed by {moved:.2g} of themselves); else {second}.",
    )


def temperature_at_an_end(network: CLIP) -> Iterator[Cause]:
    """A scale at which the softmax is flat, or at its limit."""
    scale, limit = network.logit_scale.exp().item(), math.exp(MAX_LOGIT_SCALE)
    if scale < 1:
        yield "temperature", f"The temperature is 1/{scale:.3g}: similarities hardly count. Lower lr."
    elif network.config.loss == "softmax" and scale > 0.999 * limit:
        yield "temperature", f"The temperature is at its limit of 1/{limit:.0f}. Lower lr."


def mean_cosine(unit: Float[Tensor, "rows dim"]) -> float:
    """Of unit vectors, over all pairs of different rows; 1 where all point the same way."""
    count = len(unit)
    return ((unit.sum(dim=0).square().sum() - count) / (count * (count - 1))).item() if count > 1 else math.nan


def _towers(network: CLIP) -> list[tuple[str, list[Tensor]]]:
    """Each tower's name and the parameters that are trained."""
    towers = (("picture", network.image), ("text", network.text))
    return [(name, [p for p in tower.parameters() if p.requires_grad]) for name, tower in towers]


def _has_gradient(parameter: Tensor) -> bool:
    return parameter.grad is not None and bool(parameter.grad.any())


def _sample(parameter: Tensor) -> Tensor:
    """64 of its numbers, for a look at whether it moves."""
    local = parameter.detach()
    flat = getattr(local, "to_local", lambda: local)().flatten()  # of a sharded one, this process's part
    return flat[:: max(1, len(flat) // 64)][:64].float().cpu().clone()
