"""The towers as released, and the two heads that are new."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from diptych.checkpoint.formats import efficientnet_lite
from diptych.checkpoint.formats.bert import read_text_tower
from diptych.checkpoint.reading import read
from diptych.nets.config import EfficientNetConfig
from diptych.nets.efficientnet import ClassPath, EfficientNet, same_padded
from diptych.nets.text import TextTransformer
from diptych.text.tokenizer import Tokenizer

TOKENS, DIM, HEADS, CLASSES = 40, 384, 16, 1000
CLASS_LENGTH = 10.0  # of a class's vector at the start, beside a head's output of about as much


class Head(nn.Module):
    """Pooled features (batch, width) -> unit vectors, and the log-probabilities of the 1,000 classes: the `head` and
    `classes` of an EfficientNet tower."""

    def __init__(self, mean: Tensor, std: Tensor, dim: int, hidden: int, dropout: float = 0.25):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        width = len(mean)
        self.linear, self.fc, self.proj = nn.Linear(width, dim), nn.Linear(width, hidden), nn.Linear(hidden, dim)
        nn.init.zeros_(self.proj.weight)
        self.classes = ClassPath(width, CLASSES, dim)
        self.dropout = nn.Dropout(dropout)

    def raw(self, pooled: Tensor) -> Tensor:
        """Without the classes' vectors, as of a patch."""
        x = self.dropout((pooled - self.mean) / self.std)
        return self.linear(x) + self.proj(self.dropout(F.gelu(self.fc(x))))

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        answers = self.classes.fc(pooled).log_softmax(-1)
        return F.normalize(self.raw(pooled) + self.classes.proj(answers.exp()), dim=-1), answers

    @torch.no_grad()
    def know_classes(self, weight: Tensor, bias: Tensor, names: Tensor) -> None:
        """Start from the released class layer and unit vectors of the classes' names (classes, dim)."""
        self.classes.fc.weight.copy_(weight)
        self.classes.fc.bias.copy_(bias)
        self.classes.proj.weight.copy_(CLASS_LENGTH * (names - names.mean(0)).T)


class FrozenTower(nn.Module):
    """The head alone, on pooled features that were made once."""

    def __init__(self, head: Head):
        super().__init__()
        self.head = head

    def new_parameters(self) -> list[nn.Parameter]:
        return list(self.head.parameters())

    def released_parameters(self) -> list[nn.Parameter]:
        return []

    def forward(self, pooled: Tensor, patches_from: int | None = None) -> tuple[Tensor, None, Tensor]:
        vectors, answers = self.head(pooled)
        return vectors, None, answers


class UpperTower(nn.Module):
    """The blocks from `block` on, with their batch norms folded into the convolutions (which trains 2.5 times as fast
    as batch norms with fixed statistics), pooling, head, and patches."""

    def __init__(self, tower: EfficientNet, block: int, head: Head):
        super().__init__()
        self.tower, self.block, self.head, self.grid = tower, block, head, tower.config.grid
        tower.head, tower.classes = nn.Identity(), None  # those of `head` stand for them
        fold(tower, block)
        tower.requires_grad_(False)
        for part in (*tower.blocks[block:], tower.last, tower.pool, tower.fine):
            part.requires_grad_(True)

    def new_parameters(self) -> list[nn.Parameter]:
        return [*self.head.parameters(), *self.tower.pool.parameters(), *self.tower.fine.parameters()]

    def released_parameters(self) -> list[nn.Parameter]:
        new = {id(parameter) for parameter in self.new_parameters()}
        return [each for each in self.parameters() if each.requires_grad and id(each) not in new]

    def train(self, mode: bool = True) -> "UpperTower":
        self.head.train(mode)
        self.tower.eval()
        return self

    def forward(self, maps: Tensor, patches_from: int | None = None) -> tuple[Tensor, Tensor | None, Tensor]:
        """Unit vectors, those of the patches of the pictures from `patches_from` on, and the log-probabilities of the
        classes."""
        fine, cells = upper(self.tower, maps.contiguous(memory_format=torch.channels_last), self.block)
        vectors, answers = self.head(self.tower.pool(cells))
        if patches_from is None or patches_from == len(maps):
            return vectors, None, answers
        coarse = self.tower._interpolated(self.head.raw(cells[patches_from:]))
        return vectors, F.normalize(coarse + self.tower.fine(fine[patches_from:]), dim=-1), answers


class TextTower(nn.Module):
    """MiniLM with a projection that starts as the identity."""

    def __init__(self, folder: Path, dim: int = DIM):
        super().__init__()
        released = read_text_tower(folder, context=TOKENS)
        config = replace(released.config, proj_bias=True)
        self.tokenizer = Tokenizer.of_tower(released.tokenizer_json, config)
        self.tower = TextTransformer(config, dim)
        state = {name.removeprefix("text."): tensor for name, tensor in released.state.items()}
        self.tower.load_state_dict(state | {"proj.bias": torch.zeros(dim)})
        self.proj = self.tower.proj

    def tower_parameters(self) -> list[nn.Parameter]:
        """All but the projection's."""
        own = {id(parameter) for parameter in self.proj.parameters()}
        return [parameter for parameter in self.tower.parameters() if id(parameter) not in own]

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors; under bfloat16 where the machine has it."""
        ids = torch.from_numpy(self.tokenizer(texts, truncate=True).ids)
        with torch.autocast("cpu", torch.bfloat16):
            features = self.tower(ids)
        return F.normalize(features.float(), dim=1)

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors in evaluation mode."""
        self.tower.eval()
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
        rows = torch.cat(
            [self([texts[at] for at in order[start : start + 128]]) for start in range(0, len(order), 128)]
        )
        self.tower.train()
        return rows[torch.tensor(order).argsort()]


def class_layer(path: Path) -> tuple[Tensor, Tensor]:
    """Weight (1000, width) and bias of the released network's last layer."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    return state["_fc.weight"], state["_fc.bias"]


def released_lite(path: Path) -> EfficientNet:
    """The image tower of a released EfficientNet-Lite; its pooling is the mean, its head untrained."""
    released = efficientnet_lite.read(torch.load(path, map_location="cpu", weights_only=True), str(path))
    tower = EfficientNet(replace(released.config, heads=HEADS, class_width=CLASSES), DIM)
    tower.load_state_dict(
        {name.removeprefix("image."): tensor for name, tensor in released.state.items()}, strict=False
    )
    return tower.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def lower(tower: EfficientNet, pixels: Tensor, block: int) -> Tensor:
    """The input of block `block`, of pixels in [-1, 1]."""
    x = F.relu6(tower.stem_norm(tower.stem(same_padded(pixels, 3, 2))))
    for each in tower.blocks[:block]:
        x = each(x)
    return x


def upper(tower: EfficientNet, x: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """The cells of the last map of stride 16 and of the last map of all, from the input of block `block`, which is at
    most the one after the last of stride 16."""
    fine = x
    for number, each in enumerate(tower.blocks[block:], start=block):
        x = each(x)
        fine = x if number == tower.config.fine_block else fine
    x = F.relu6(tower.last_norm(tower.last(x)))
    return fine.flatten(2).transpose(1, 2), x.flatten(2).transpose(1, 2)


def stage_of(folder: Path, block: int) -> dict[str, Any]:
    """A model folder as a stage of `align.py` that trains the blocks from `block` on; 0 trains the head alone."""
    model = read(folder)
    assert isinstance(model.config.image, EfficientNetConfig)
    state = {name: tensor.float() for name, tensor in model.state.items()}
    image = {name.removeprefix("image."): each for name, each in state.items() if name.startswith("image.")}
    if block:
        tower = EfficientNet(model.config.image, DIM)
        tower.load_state_dict(image)
        fold(tower, block)
        image = dict(tower.state_dict())
    text = {name.removeprefix("text."): each for name, each in state.items() if name.startswith("text.")}
    return {
        "image": {_of_stage(name): each for name, each in image.items()},
        "text": text | {"positions": text["positions"][:TOKENS]},
        "scale": state["logit_scale"],
    }


def _of_stage(name: str) -> str:
    """The name in a stage of a tensor of the image tower."""
    if name.startswith("classes."):
        return f"head.{name}"
    return name if name.startswith("head.") else f"tower.{name}"


def of_tower(name: str) -> str:
    """The name in the image tower of a tensor of a stage."""
    return name.removeprefix("tower.").replace("head.classes.", "classes.")


def fold(tower: EfficientNet, block: int) -> None:
    """Fold the batch norms from `block` on into the convolutions before them, which get a bias."""
    for module, name in _convolutions(tower, block):
        norm = getattr(module, f"{name}_norm")
        setattr(module, name, fuse_conv_bn_eval(getattr(module, name).eval(), norm.eval()))
        setattr(module, f"{name}_norm", nn.Identity())


def unfolded(state: dict[str, Tensor], template: EfficientNet, block: int) -> dict[str, Tensor]:
    """The state of a tower whose batch norms were folded, for one that has them: they add the biases and do no more."""
    state = dict(state)
    for module, name in _convolutions(template, block):
        prefix = next(key for key, each in template.named_modules() if each is module)
        path = f"{prefix}.{name}" if prefix else name
        bias, norm = state.pop(f"{path}.bias"), getattr(module, f"{name}_norm")
        state |= {f"{path}_norm.weight": torch.ones_like(bias), f"{path}_norm.bias": bias}
        state |= {
            f"{path}_norm.running_mean": torch.zeros_like(bias),
            f"{path}_norm.running_var": torch.full_like(bias, 1 - norm.eps),
        }
    return state


def _convolutions(tower: EfficientNet, block: int) -> Iterator[tuple[nn.Module, str]]:
    for each in tower.blocks[block:]:
        yield from ((each, name) for name in ("expand", "depthwise", "project") if hasattr(each, name))
    yield tower, "last"
