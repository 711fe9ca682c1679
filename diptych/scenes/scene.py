"""Draws scenes with known captions and boxes: coloured shapes and simple things in many styles on many backgrounds.

They teach a small model to bind colours to shapes, and they test unseen combinations, which photographs cannot: those
in HELD_OUT are drawn for split="test" alone, at least one in each scene.
"""

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Literal

import numpy as np
from PIL import Image

from diptych.errors import ArgumentError
from diptych.scenes.captions import captions_of
from diptych.scenes.drawing import (
    COLOUR_HSV,
    ObjectAppearance,
    background,
    colour_distance,
    develop,
    outlined,
    paint,
    sample_look,
    stamp,
)
from diptych.scenes.shapes import SHAPE_DRAWERS
from diptych.storage.atomic import atomic_write

Split = Literal["train", "test"]

KINDS: tuple[str, ...] = tuple(SHAPE_DRAWERS)
SHAPES, OBJECTS = KINDS[: KINDS.index("hat")], KINDS[KINDS.index("hat") :]
COLOURS: tuple[str, ...] = tuple(COLOUR_HSV)
HELD_OUT: frozenset[tuple[str, str]] = frozenset(
    (colour, kind) for c, colour in enumerate(COLOURS) for k, kind in enumerate(KINDS) if (3 * c + 7 * k) % 10 == 0
)
_SEEN = tuple((colour, kind) for colour in COLOURS for kind in KINDS if (colour, kind) not in HELD_OUT)
_UNSEEN = tuple(sorted(HELD_OUT))

# Shares of the picture: the bounds of an object's paint, and the limits for "small" and "large"
LEAST_SHARE, MOST_SHARE = 0.03, 0.30
_SMALL_SHARE, _LARGE_SHARE = 0.06, 0.14
_MOST_THINGS = 8


@dataclass(frozen=True)
class Thing:
    """One object. `size` is "small", "large" or "" for neither; the box is tight around its paint, including hidden
    parts."""

    kind: str
    colour: str
    size: str
    box_xywh_px: tuple[float, float, float, float]


@dataclass(frozen=True)
class Scene:
    """A square RGB picture, its objects from back to front, and about five true captions, the first of all objects."""

    image: Image.Image
    things: tuple[Thing, ...]
    captions: tuple[str, ...]


def draw_scene(
    seed: int,
    *,
    size_px: int = 128,
    split: Split = "train",
    things: tuple[int, int] = (1, 5),
    backgrounds: Sequence[Image.Image] = (),
) -> Scene:
    """The scene of `seed`, with at least things[0] and at most things[1] objects.

    `backgrounds` are photographs; half of the scenes are drawn on a part of one. At least half of every object is
    visible. The same arguments always give the same pixels.
    """
    rng = Random(f"{split} {seed}")
    scene_canvas = _compose(rng, size_px, split, rng.randint(*things), backgrounds)
    return _scene(scene_canvas, develop_seed=rng.getrandbits(64), caption_seed=rng.getrandbits(64))


def draw_pair(
    seed: int,
    *,
    size_px: int = 128,
    split: Split = "train",
    things: tuple[int, int] = (1, 4),
    backgrounds: Sequence[Image.Image] = (),
) -> tuple[Scene, Scene, Thing]:
    """A scene, the same scene with one more object, and that object, whose kind the first scene lacks."""
    rng = Random(f"pair {split} {seed}")
    while True:
        scene_canvas = _compose(rng, size_px, split, rng.randint(*things), backgrounds)
        seeds = {"develop_seed": rng.getrandbits(64), "caption_seed": rng.getrandbits(64)}
        before = _scene(scene_canvas, **seeds)
        present = {thing.kind for thing in before.things}
        choices = [choice for choice in (_SEEN if split == "train" else _UNSEEN) if choice[1] not in present]
        if scene_canvas.add(*rng.choice(choices), most_share=0.15, rng=rng):
            return before, _scene(scene_canvas, **seeds), scene_canvas.things[-1]


@dataclass(frozen=True)
class Scenes:
    """A sequence of `count` scenes, each drawn on access."""

    count: int
    seed: int = 0
    size_px: int = 128
    split: Split = "train"
    things: tuple[int, int] = (1, 5)
    backgrounds: Sequence[Image.Image] = ()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Scene:
        if not -self.count <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        return draw_scene(
            self.seed * 1_000_000_007 + index % self.count,
            size_px=self.size_px,
            split=self.split,
            things=self.things,
            backgrounds=self.backgrounds,
        )

    def __iter__(self) -> Iterator[Scene]:
        return (self[index] for index in range(self.count))


def write_shards(
    folder: str | Path,
    count: int,
    *,
    seed: int = 0,
    size_px: int = 128,
    split: Split = "train",
    things: tuple[int, int] = (1, 5),
    backgrounds: Sequence[Image.Image] = (),
    shard_size: int = 1000,
    quality: int = 92,
) -> list[Path]:
    """Writes scenes as WebDataset shards, KEY.jpg beside KEY.json with "captions" and "things". Returns their paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    scenes = Scenes(count, seed=seed, size_px=size_px, split=split, things=things, backgrounds=backgrounds)
    paths = []
    for shard, start in enumerate(range(0, count, shard_size)):
        paths.append(folder / f"scenes-{split}-{shard:05d}.tar")
        with atomic_write(paths[-1]) as part, tarfile.open(part, "w") as tar:
            for index in range(start, min(start + shard_size, count)):
                _write_sample(tar, f"{split}-{seed}-{index:08d}", scenes[index], quality)
    return paths


def _write_sample(tar: tarfile.TarFile, key: str, scene: Scene, quality: int) -> None:
    picture = io.BytesIO()
    scene.image.save(picture, "JPEG", quality=quality)
    words = {"captions": scene.captions, "things": [asdict(thing) for thing in scene.things]}
    for ending, content in (("jpg", picture.getvalue()), ("json", json.dumps(words).encode())):
        entry = tarfile.TarInfo(f"{key}.{ending}")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))


class _SceneCanvas:
    """A scene being drawn: the canvas, and for each thing the pixels that it covers and those still visible."""

    def __init__(self, canvas: Image.Image, ground: str, least_visible: float) -> None:
        self.canvas = canvas
        self.ground = ground
        self.least_visible = least_visible
        self.things: list[Thing] = []
        self.areas: list[int] = []
        self.visible: list[np.ndarray] = []  # (size, size) bool each
        self.covered: list[tuple[int, int]] = []  # (front, back) if the front hides a part of the back

    def add(self, colour: str, kind: str, *, most_share: float, rng: Random) -> bool:
        """Draws a thing in front of all others without hiding too much of any; False if no position allows it."""
        for shrink in (1.0, 0.7, 0.5):
            share = LEAST_SHARE * 1.15 * (shrink * most_share / LEAST_SHARE / 1.15) ** rng.random()
            look = sample_look(kind, colour, share, size_px=self.canvas.width, rng=rng)
            # If the background has the object's colour everywhere, a contour makes the object visible.
            if self._try(look, colour, 12, rng, must_contrast=True):
                return True
            if self._try(outlined(look), colour, 4, rng, must_contrast=False):
                return True
        return False

    def _try(self, look: ObjectAppearance, colour: str, tries: int, rng: Random, *, must_contrast: bool) -> bool:
        size_px = self.canvas.width
        patch = paint(look, limit_px=0.86 * size_px)
        height, width = patch.solid.shape
        area = int(patch.solid.sum())
        if not LEAST_SHARE <= area / size_px**2 <= MOST_SHARE:
            return False
        pixels = np.asarray(self.canvas)
        for _ in range(tries):
            x, y = rng.randint(0, size_px - width), rng.randint(0, size_px - height)
            window = np.s_[y : y + height, x : x + width]
            if must_contrast and not _stands_out(pixels[window][patch.solid], look.colour):
                continue
            left = [np.count_nonzero(seen[window] & patch.solid) for seen in self.visible]
            if any(
                np.count_nonzero(seen) - hidden < self.least_visible * whole
                for seen, hidden, whole in zip(self.visible, left, self.areas, strict=True)
            ):
                continue
            self.covered += [(len(self.things), i) for i, hidden in enumerate(left) if hidden > 0.08 * self.areas[i]]
            for seen in self.visible:
                seen[window] &= ~patch.solid
            stamp(self.canvas, patch, x, y, look.shadow)
            mask = np.zeros((size_px, size_px), bool)
            mask[window] = patch.solid
            self.visible.append(mask)
            self.areas.append(area)
            self.things.append(Thing(look.kind, colour, _size_word(area / size_px**2), (x, y, width, height)))
            return True
        return False


def _stands_out(under: np.ndarray, colour: tuple[int, int, int]) -> bool:
    """Whether few of the (n, 3) pixels under an object are close to its colour."""
    return bool((colour_distance(under, colour) < 0.21).mean() < 0.25)


def _size_word(share: float) -> str:
    return "small" if share < _SMALL_SHARE else "large" if share > _LARGE_SHARE else ""


def _compose(rng: Random, size_px: int, split: Split, count: int, backgrounds: Sequence[Image.Image]) -> _SceneCanvas:
    """A canvas with `count` things, at least one of HELD_OUT in the test split."""
    if not 1 <= count <= _MOST_THINGS:
        raise ArgumentError(f"{count} things; a scene has 1 to {_MOST_THINGS}, each at least half visible.")
    while True:
        choices = _choose(rng, split, count)
        scene_canvas = _SceneCanvas(
            *background(size_px, rng, backgrounds), least_visible=rng.choice([0.55, 0.55, 0.75, 1.0])
        )
        most_share = min(0.27, 0.6 / count)
        added = [scene_canvas.add(colour, kind, most_share=most_share, rng=rng) for colour, kind in choices]
        if all(added):
            return scene_canvas


def _choose(rng: Random, split: Split, count: int) -> list[tuple[str, str]]:
    """(colour, kind) of each thing. Some share a kind or a colour, so that neither alone distinguishes them."""
    chosen = [rng.choice(_UNSEEN if split == "test" else _SEEN)]
    while len(chosen) < count:
        colour, kind = rng.choice(_SEEN) if split == "train" else rng.choice(_SEEN + _UNSEEN)
        if rng.random() < 0.25:
            kind = rng.choice(chosen)[1]
        elif rng.random() < 0.25:
            colour = rng.choice(chosen)[0]
        if split == "test" or (colour, kind) not in HELD_OUT:
            chosen.append((colour, kind))
    rng.shuffle(chosen)
    return chosen


def _scene(scene_canvas: _SceneCanvas, *, develop_seed: int, caption_seed: int) -> Scene:
    image = develop(scene_canvas.canvas, Random(develop_seed))
    things = tuple(scene_canvas.things)
    captions = captions_of(
        things, scene_canvas.covered, scene_canvas.ground, size_px=image.width, rng=Random(caption_seed)
    )
    return Scene(image, things, captions)
