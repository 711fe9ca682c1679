"""Reads the things of a plain scene out of a picture's pixels, and says whether it shows what a caption says.

No network judges here: the ground is the colour of the picture's edge, a thing is a connected region of another
colour, its colour the nearest of the palette, and its kind the outline that covers the region best.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from diptych.scenes.plain import COLOURS, KINDS, SIDES, Described, PlainScene, middle, silhouette
from diptych.scenes.scene import Thing

_LEAST_CONTRAST = 40.0  # levels, Euclidean, from which a pixel is no ground
_LEAST_SIDE, _LEAST_AREA = 0.15, 0.015  # of the picture; what is smaller is a speck
_LEAST_OVERLAP = 0.6  # of a region with the outline that covers it best
_PALETTE = np.array(list(COLOURS.values()), np.float32)


class Check(NamedTuple):
    """What of a caption a picture shows: whether all things that it names are there in their colours and kinds and no
    others; whether the first lies to the second as it says, None if it does not say; and apart from each other whether
    the colours are those of the named things, and whether the kinds are."""

    things: bool
    relation: bool | None
    colours: bool
    kinds: bool


def check(image: Image.Image, described: Described) -> Check:
    """Whether a picture shows what a caption says. Sizes are not judged."""
    return compare(things_in(image), described)


def compare(found: Sequence[Thing], described: Described) -> Check:
    """Whether the things that were found in a picture are what a caption says."""
    named = [(thing.colour, thing.kind) for thing in described.things]
    seen = [(thing.colour, thing.kind) for thing in found]
    holds = None
    if described.relation is not None:
        first, word, second = described.relation
        one, other = (
            [thing for thing, pair in zip(found, seen, strict=True) if pair == named[each]] for each in (first, second)
        )
        holds = len(one) == len(other) == 1 and _lies(one[0], word, other[0])
    colours, kinds = (sorted(pair[part] for pair in named) == sorted(pair[part] for pair in seen) for part in (0, 1))
    return Check(sorted(named) == sorted(seen), holds, colours, kinds)


def things_in(image: Image.Image) -> list[Thing]:
    """The things in a square RGB picture on a plain ground, the largest first; boxes in pixels."""
    pixels = np.asarray(image.convert("RGB"), np.float32)
    ground = np.median(np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]), axis=0)
    contrast = np.sqrt(((pixels - ground) ** 2).sum(2))
    regions = [_thing(pixels, ground, region) for region in _regions(contrast > _LEAST_CONTRAST)]
    things = [thing for thing in regions if thing]
    return sorted(things, key=lambda thing: -thing.box_xywh_px[2] * thing.box_xywh_px[3])


def _lies(one: Thing, word: str, other: Thing) -> bool:
    (x0, y0), (x1, y1) = middle(one), middle(other)
    across, down = x0 - x1, y0 - y1
    along, beside = (across, down) if word in ("left", "right") else (down, across)
    return abs(along) > abs(beside) and (along < 0) == (word in ("left", "above"))


def _regions(is_thing: np.ndarray) -> list[np.ndarray]:
    """The connected regions of a mask, (h, w) bool each; pixels touch by their sides and corners."""
    labels = np.where(is_thing, np.arange(1, is_thing.size + 1).reshape(is_thing.shape), 0)
    while True:
        padded = np.pad(labels, 1)
        height, width = labels.shape
        shifted = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
        grown = np.where(is_thing, np.maximum.reduce(shifted), 0)
        if (grown == labels).all():
            break
        labels = grown
    return [labels == label for label in np.unique(labels[is_thing])]


def _thing(pixels: np.ndarray, ground: np.ndarray, region: np.ndarray) -> Thing | None:
    """What a region is: the colour of its pixels that differ most from the ground, the outline that fits best."""
    size_px = len(pixels)
    distance = np.sqrt(((pixels - ground) ** 2).sum(2))
    core = region & (distance >= 0.85 * np.quantile(distance[region], 0.9))
    colour = np.median(pixels[core], axis=0)
    cover = np.clip(((pixels - ground) @ (colour - ground)) / max(1.0, float(((colour - ground) ** 2).sum())), 0, 1)
    cover = cover * region
    box = _box(cover)
    if min(box[2:]) < _LEAST_SIDE * size_px or cover.sum() < _LEAST_AREA * size_px**2:
        return None
    overlaps = {kind: _overlap(cover, silhouette(kind, box, size_px)) for kind in KINDS}
    kind = max(overlaps, key=lambda each: overlaps[each])
    if overlaps[kind] < _LEAST_OVERLAP:
        return None
    name = list(COLOURS)[int(((_PALETTE - colour) ** 2).sum(1).argmin())]
    return Thing(kind, name, _size(max(box[2:]) / size_px), box)


def _box(cover: np.ndarray) -> tuple[float, float, float, float]:
    """The box around a coverage in 0..1, to a part of a pixel: an edge's pixel counts by how much of it is covered."""
    columns, rows = cover.max(0), cover.max(1)
    (left, width), (top, height) = _extent(columns), _extent(rows)
    return left, top, width, height


def _extent(covered: np.ndarray) -> tuple[float, float]:
    inside = np.flatnonzero(covered >= 0.25)
    if not len(inside):
        return 0.0, 0.0
    first, last = int(inside[0]), int(inside[-1])
    low, high = first + 1 - float(covered[first]), last + float(covered[last])
    return low, max(0.0, high - low)


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two coverages."""
    return float(np.minimum(one, other).sum() / max(1e-6, np.maximum(one, other).sum()))


def _size(side: float) -> str:
    """The size whose range of sides is nearest."""
    return min(SIDES, key=lambda size: abs(side - sum(SIDES[size]) / 2))


def accuracy(checks: Sequence[Check]) -> dict[str, float]:
    """The shares of pictures whose things are right, of those with a stated relation whose relation is, and of pictures
    whose colours, and whose kinds, are."""
    relations = [each.relation for each in checks if each.relation is not None]
    judged = {
        "things": [each.things for each in checks],
        "relation": relations,
        "colours": [each.colours for each in checks],
        "kinds": [each.kinds for each in checks],
    }
    return {name: float(np.mean(values)) if values else 0.0 for name, values in judged.items()}


class Controls(NamedTuple):
    """What this checker says of pictures that are right, and of pictures that are wrong: the shares, see `accuracy`, of
    true scenes with their own captions and with the next one's."""

    own: dict[str, float]
    swapped: dict[str, float]


def controls(scenes: Sequence[PlainScene]) -> Controls:
    """The shares of true scenes, to read those of drawn pictures beside."""
    following = [*scenes[1:], *scenes[:1]]
    found = [things_in(scene.image) for scene in scenes]
    own, swapped = (
        accuracy([compare(seen, other.descriptions[0]) for seen, other in zip(found, others, strict=True)])
        for others in (scenes, following)
    )
    return Controls(own, swapped)
