"""The pictures of a run: photographs with the released network's answers about them, and drawn scenes."""

import json
import random
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diptych.data.samples import Region
from diptych.scenes.captions import article
from diptych.scenes.scene import COLOURS, HELD_OUT, KINDS

FALSE = 2  # false captions of a drawn scene


class Pictures:
    """Photographs as the inputs of the image tower's trained part, (views, pictures, ...), with the released network's
    pooled features, its class layer's answers, and captions. `inputs` are those features or maps of lower blocks."""

    def __init__(self, folder: Path, weight: Tensor, bias: Tensor, *, as_maps: bool):
        self.pooled = torch.from_numpy(np.load(folder / "pooled-train.npy"))
        self.dev_pooled = torch.from_numpy(np.load(folder / "pooled-dev.npy"))[0].float()
        self.inputs = np.load(folder / "train.npy", mmap_mode="r") if as_maps else self.pooled.numpy()
        self.dev = np.load(folder / "dev.npy", mmap_mode="r")[0] if as_maps else self.dev_pooled.numpy()
        self.captions = json.loads((folder / "train.json").read_text())["captions"]
        self.dev_captions = json.loads((folder / "dev.json").read_text())["captions"]
        plain = self.pooled[0].float()
        self.mean, self.std = plain.mean(0), plain.std(0) + 1e-3
        self.weight, self.bias = weight, bias
        self.posterior = self.teacher(plain)
        # The mean of class c under a shared covariance S is S w_c away from the mean of all (linear discriminant
        # analysis: Hastie et al. 2009, section 4.3), here scaled to the length that features of clear pictures have.
        shift = (weight - weight.mean(0)) @ torch.cov(plain.T)
        self.prototypes = shift * (0.6 / (shift / self.std).std())

    def batch(self, rows: Tensor, views: Tensor) -> Tensor:
        picked = [self.inputs[view, row] for view, row in zip(views.tolist(), rows.tolist(), strict=True)]
        return torch.from_numpy(np.stack(picked)).float()

    def teacher(self, features: Tensor) -> Tensor:
        return (features.float() @ self.weight.T + self.bias).softmax(dim=1)

    def drawn_prototypes(self, classes: Tensor) -> Tensor:
        """Pooled features as of pictures of these classes: the prototype, mixed with those of another picture."""
        count = len(classes)
        others = self.pooled[
            torch.randint(len(self.pooled), (count,)), torch.randint(len(self.captions), (count,))
        ].float()
        share, strength = 0.7 * torch.rand(count, 1), 0.7 + 0.8 * torch.rand(count, 1)
        return (self.mean + strength * self.prototypes[classes] + share * (others - self.mean)).clamp(min=0)


class Scenes:
    """Drawn scenes as maps, with captions and the boxes of phrases."""

    def __init__(self, folder: Path):
        self.inputs = np.load(folder / "scenes.npy", mmap_mode="r")[0]
        facts = json.loads((folder / "scenes.json").read_text())
        self.captions: list[list[str]] = facts["captions"]
        self.regions = [[Region(phrase, box and tuple(box)) for phrase, box in some] for some in facts["regions"]]

    def batch(self, count: int) -> tuple[Tensor, list[str], list[list[str]], list[list[Region]]]:
        """Maps, a true caption and FALSE false ones of each, and the regions."""
        rows = random.sample(range(len(self.captions)), count)
        texts = [random.choice(self.captions[row]) for row in rows]
        regions = [self.regions[row] for row in rows]
        false = [
            [falsified(text, {each.phrase for each in some}) for _ in range(FALSE)]
            for text, some in zip(texts, regions, strict=True)
        ]
        return torch.from_numpy(np.stack([self.inputs[row] for row in rows])).float(), texts, false, regions


class ColourQuestion(NamedTuple):
    """Which colour the only thing of a kind has in a scene."""

    scene: int
    kind: int
    colour: int


def colour_questions(regions: Sequence[Sequence[Region]], kinds: Collection[int]) -> list[ColourQuestion]:
    """The questions about scenes that have one thing of a kind, for some of the kinds."""
    found = []
    for scene, some in enumerate(regions):
        phrases = {each.phrase for each in some}
        for colour, _, kind in (phrase.partition(" ") for phrase in phrases):
            if kind in phrases and KINDS.index(kind) in kinds:  # a kind is a phrase where there is one of it
                found.append(ColourQuestion(scene, KINDS.index(kind), COLOURS.index(colour)))
    return found


def coloured(kinds: Sequence[int]) -> list[str]:
    """Every colour of each of the kinds, "a red cup" and so on, the colours of one kind together."""
    return [article(f"{colour} {KINDS[kind]}") for kind in kinds for colour in COLOURS]


def never_drawn(kinds: Sequence[int]) -> Tensor:
    """Whether the scenes never have a colour on a kind, (kinds, colours)."""
    return torch.tensor([[(colour, KINDS[kind]) in HELD_OUT for colour in COLOURS] for kind in kinds])


def falsified(caption: str, phrases: set[str]) -> str:
    """The caption with another colour or kind of one of the things that it names, "" where it names none of them. The
    phrases are all that is there: "red cup", "cup", "red"."""
    named = [phrase for phrase in phrases if " " in phrase and phrase in caption]
    if not named:
        return ""
    phrase = random.choice(sorted(named))
    colour, kind = phrase.split(" ", 1)
    others = (
        [f"{each} {kind}" for each in COLOURS] if random.random() < 0.75 else [f"{colour} {each}" for each in KINDS]
    )
    drawn = [each for each in others if tuple(each.split(" ", 1)) not in HELD_OUT]
    other = random.choice([each for each in drawn if each not in phrases])
    return re.sub(rf"\ban? {other}", article(other), caption.replace(phrase, other))
