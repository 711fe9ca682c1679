"""Plain scenes: one or two flat shapes on a plain ground, with captions that name them and how they lie.

They are what a small generator learns to draw, and are so plain that their pixels alone tell what is in them:
`diptych.scenes.checking` reads it out of any picture. Combinations of colour and shape in HELD_OUT are drawn for
split="test" alone, at least one in each scene.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from diptych.errors import ArgumentError
from diptych.scenes.captions import article
from diptych.scenes.scene import HELD_OUT, Split, Thing

RGB = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
    "red": (220, 35, 40), "green": (40, 160, 60), "blue": (45, 80, 220), "yellow": (245, 220, 45),
    "orange": (245, 130, 25), "purple": (135, 60, 185), "pink": (245, 150, 195), "cyan": (60, 205, 215),
}  # fmt: skip
GROUNDS: dict[str, RGB] = {"white": (250, 250, 250), "grey": (128, 128, 128), "black": (14, 14, 16)}
SIDES: dict[str, tuple[float, float]] = {
    "small": (0.27, 0.32),
    "": (0.34, 0.40),
    "large": (0.43, 0.5),
}  # of the picture
RELATIONS: dict[str, tuple[str, ...]] = {
    "above": ("above", "above", "over"), "below": ("below", "below", "under"),
    "left": ("left of", "to the left of"), "right": ("right of", "to the right of"),
}  # fmt: skip
OPPOSITE = {"above": "below", "below": "above", "left": "right", "right": "left"}
_OVERSAMPLING = 8
_GAP = 0.06  # of the picture, between two boxes
_JITTER = 14  # levels by which a colour's channels vary
_TWO = 0.8  # the share of scenes with two things
_CAPTIONS = 3


def _turned(points: int, inner: float = 1.0) -> np.ndarray:
    """A regular polygon with a corner at the top, or a star, as wide and as high as the unit square."""
    count = points if inner == 1.0 else 2 * points
    angles = np.arange(count) * (2 * math.pi / count) - math.pi / 2
    radii = np.where(np.arange(count) % 2 == 0, 1.0, inner)
    return _fitted(np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1))


def _fitted(points: np.ndarray) -> np.ndarray:
    low, high = points.min(0), points.max(0)
    return (points - low) / (high - low)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * math.pi, 60, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return _fitted(np.stack([16 * np.sin(t) ** 3, -y], 1))


_THIRDS = (1 / 3, 0, 2 / 3, 0, 2 / 3, 1 / 3, 1, 1 / 3, 1, 2 / 3, 2 / 3, 2 / 3)
OUTLINES: dict[str, np.ndarray] = {
    "circle": _turned(48),
    "square": np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float),
    "triangle": np.array([[0.5, 0], [1, 1], [0, 1]], float),
    "star": _turned(5, 0.42),
    "heart": _heart(),
    "cross": np.array([*_THIRDS, 2 / 3, 1, 1 / 3, 1, 1 / 3, 2 / 3, 0, 2 / 3, 0, 1 / 3, 1 / 3, 1 / 3]).reshape(-1, 2),
}
KINDS = tuple(OUTLINES)
_PAIRS = tuple((colour, kind) for colour in COLOURS for kind in KINDS)
_UNSEEN = tuple(pair for pair in _PAIRS if pair in HELD_OUT)
_SEEN = tuple(pair for pair in _PAIRS if pair not in HELD_OUT)


class Relation(NamedTuple):
    """How the first of two things lies to the second: "above", "below", "left" or "right"."""

    first: int
    word: str
    second: int


@dataclass(frozen=True)
class Described:
    """What a caption says: the named things, their boxes not known, and a relation if it states one."""

    caption: str
    things: tuple[Thing, ...]
    relation: Relation | None


@dataclass(frozen=True)
class PlainScene:
    """A square RGB picture, its one or two things, and different true captions of it, each naming all things."""

    image: Image.Image
    things: tuple[Thing, ...]
    descriptions: tuple[Described, ...]

    @property
    def captions(self) -> tuple[str, ...]:
        """The captions alone."""
        return tuple(each.caption for each in self.descriptions)


def plain_scene(seed: int, *, size_px: int = 32, split: Split = "train") -> PlainScene:
    """The plain scene of `seed`, `size_px` wide and high. The same arguments always give the same pixels.

    Raises ArgumentError under 24 px, where a small star is none any more.
    """
    if size_px < 24:
        raise ArgumentError(f"{size_px} px; a plain scene has at least 24 px a side.")
    rng = Random(f"plain {split} {seed}")
    things, ground = _laid_out(rng, size_px, split), rng.choice(list(GROUNDS))
    image = _painted(things, _varied(GROUNDS[ground], 6, rng), size_px, rng)
    relation = relation_of(things)
    said = [_described(things, relation, ground, rng) for _ in range(3 * _CAPTIONS)]
    return PlainScene(image, things, tuple({each.caption: each for each in said}.values())[:_CAPTIONS])


def plain_scenes(count: int, *, size_px: int = 32, split: Split = "train", seed: int = 0) -> Iterator[PlainScene]:
    """`count` plain scenes, one after the other."""
    return (plain_scene(seed * 1_000_000_007 + each, size_px=size_px, split=split) for each in range(count))


def relation_of(things: tuple[Thing, ...]) -> Relation | None:
    """How the first thing lies to the second, by the middles of their boxes; None unless there are two."""
    if len(things) != 2:
        return None
    (x0, y0), (x1, y1) = (middle(thing) for thing in things)
    across, down = x0 - x1, y0 - y1
    if abs(across) > abs(down):
        return Relation(0, "left" if across < 0 else "right", 1)
    return Relation(0, "above" if down < 0 else "below", 1)


def middle(thing: Thing) -> tuple[float, float]:
    """The middle of a thing's box, in pixels."""
    x, y, width, height = thing.box_xywh_px
    return x + width / 2, y + height / 2


def silhouette(kind: str, box_xywh: tuple[float, float, float, float], size_px: int) -> np.ndarray:
    """How much of each pixel a shape with this box covers, (size_px, size_px) float32 in 0..1."""
    x, y, width, height = box_xywh
    mask = Image.new("L", (size_px * _OVERSAMPLING, size_px * _OVERSAMPLING))
    points = OUTLINES[kind] * (width, height) + (x, y)
    ImageDraw.Draw(mask).polygon((points * _OVERSAMPLING - 0.5).ravel().tolist(), fill=255)
    cells = np.asarray(mask, np.float32).reshape(size_px, _OVERSAMPLING, size_px, _OVERSAMPLING)
    return cells.mean((1, 3)) / 255


def _laid_out(rng: Random, size_px: int, split: Split) -> tuple[Thing, ...]:
    count = 2 if rng.random() < _TWO else 1
    pairs = [rng.choice(_UNSEEN if split == "test" else _SEEN)]
    while len(pairs) < count:
        pair = rng.choice(_SEEN if split == "train" else _PAIRS)
        pairs += [pair] if pair not in pairs else []
    rng.shuffle(pairs)
    while True:
        things = tuple(_put(colour, kind, size_px, rng) for colour, kind in pairs)
        if count == 1 or _is_clear(things[0], things[1], size_px):
            return things


def _put(colour: str, kind: str, size_px: int, rng: Random) -> Thing:
    size = rng.choice(list(SIDES))
    side = rng.uniform(*SIDES[size])
    x, y = (rng.uniform(0.02, 0.98 - side) for _ in range(2))
    return Thing(kind, colour, size, (x * size_px, y * size_px, side * size_px, side * size_px))


def _is_clear(one: Thing, other: Thing, size_px: int) -> bool:
    """Whether two things lie apart, one clearly above or beside the other."""
    (x0, y0, side0, _), (x1, y1, side1, _) = one.box_xywh_px, other.box_xywh_px
    gap = max(x0 - x1 - side1, x1 - x0 - side0, y0 - y1 - side1, y1 - y0 - side0)
    (across0, down0), (across1, down1) = middle(one), middle(other)
    across, down = abs(across0 - across1), abs(down0 - down1)
    return gap >= _GAP * size_px and max(across, down) >= 1.6 * min(across, down)


def _painted(things: tuple[Thing, ...], ground: RGB, size_px: int, rng: Random) -> Image.Image:
    pixels = np.full((size_px, size_px, 3), ground, np.float32)
    for thing in things:
        cover = silhouette(thing.kind, thing.box_xywh_px, size_px)[:, :, None]
        pixels += cover * (np.array(_varied(COLOURS[thing.colour], _JITTER, rng), np.float32) - pixels)
    return Image.fromarray(pixels.round().astype(np.uint8))


def _varied(colour: RGB, levels: int, rng: Random) -> RGB:
    red, green, blue = (min(255, max(0, channel + rng.randint(-levels, levels))) for channel in colour)
    return red, green, blue


_FORMS = ("{}", "{}", "{}", "a picture of {}", "there is {}", "a drawing of {}")


def _described(things: tuple[Thing, ...], relation: Relation | None, ground: str, rng: Random) -> Described:
    words = [article(_name(thing, rng)) for thing in things]
    stated = None
    if relation is None:
        listing = words[0]
    elif rng.random() < 0.15:
        listing = " and ".join(rng.sample(words, 2))
    else:
        stated = relation if rng.random() < 0.5 else Relation(1, OPPOSITE[relation.word], 0)
        listing = f"{words[stated.first]} {rng.choice(RELATIONS[stated.word])} {words[stated.second]}"
    text = rng.choice(_FORMS).format(listing)
    return Described(text + (f" on {article(ground)} ground" if rng.random() < 0.3 else ""), things, stated)


def _name(thing: Thing, rng: Random) -> str:
    sized = thing.size and rng.random() < 0.5
    return f"{thing.size} {thing.colour} {thing.kind}" if sized else f"{thing.colour} {thing.kind}"
