"""Drawn scenes as a source of training samples."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np
from PIL import Image

from diptych.data.loading.augmentation import Augmentation, moved_region
from diptych.data.loading.decoding import picture_of
from diptych.data.loading.stream import fetched
from diptych.data.samples import Region, Sample, Source, Stream
from diptych.errors import DataError, ImageError
from diptych.scenes.captions import captions_about
from diptych.scenes.scene import Scene, draw_scene

# A crop or an erased rectangle could remove a thing that a caption names, and without its colour word a caption is
# ambiguous.
SCENE_AUGMENTATION = Augmentation(crop_scale=0.85, flip=0.0, jitter=0.1, erase=0.0, drop_words=0.0)
ENDLESS = 1 << 40
BACKGROUNDS = 300


CLOSE_UPS = 0.3  # the share of scenes cropped to one thing and its surroundings, as search windows are
_KINDS, _COLOURS = 0.5, 0.2  # the shares of scenes whose kinds, and colours, are also phrases by themselves


@dataclass
class SceneSource:
    """An endless source: sample i is the scene of seed i, at times on part of a training photograph, or a close-up of
    one of its things. Each thing is a region."""

    size_px: int
    backgrounds: Sequence[Image.Image] = ()
    skipped: dict[str, int] = field(default_factory=dict)
    form: str = "drawn scenes"

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> Sample:
        scene = draw_scene(index, size_px=self.size_px, split="train", backgrounds=self.backgrounds)
        rng = Random(f"regions {index}")
        regions = regions_of(scene, rng)
        if rng.random() < CLOSE_UPS:
            return close_up(scene, regions, rng)._replace(key=self.key(index))
        return Sample(scene.image, scene.captions, self.key(index), regions)

    def captions(self, index: int) -> tuple[str, ...]:
        """The captions of one scene, which is drawn for them."""
        return self[index].captions

    def key(self, index: int) -> str:
        """The scene's seed."""
        return f"scene {index}"


def regions_of(scene: Scene, rng: Random) -> tuple[Region, ...]:
    """The box of each thing with its colour and kind; at times also with its kind or its colour alone."""
    size_px, names = scene.image.width, [lambda thing: f"{thing.colour} {thing.kind}"]
    if rng.random() < _KINDS:
        names.append(lambda thing: thing.kind)
    if rng.random() < _COLOURS:
        names.append(lambda thing: thing.colour)
    return tuple(
        Region(name(thing), (x / size_px, y / size_px, (x + width) / size_px, (y + height) / size_px))
        for name in names
        for thing in scene.things
        for x, y, width, height in [thing.box_xywh_px]
    )


def close_up(scene: Scene, regions: Sequence[Region], rng: Random) -> Sample:
    """A square around one of the things, with captions of it."""
    thing, size_px = rng.choice(scene.things), scene.image.width
    x, y, width, height = thing.box_xywh_px
    side = min(size_px, max(width, height) * rng.uniform(1.05, 2.4))
    left, top = (
        min(size_px - side, max(0.0, start + length / 2 - side / 2 + rng.uniform(-0.15, 0.15) * length))
        for start, length in ((x, width), (y, height))
    )
    box = (round(left), round(top), round(left + side), round(top + side))
    part = (box[0] / size_px, box[1] / size_px, box[2] / size_px, box[3] / size_px)
    moved = [moved_region(region, part) for region in regions]
    return Sample(
        scene.image.crop(box), captions_about(thing, 3, rng=rng), "", tuple(region for region in moved if region)
    )


def photographs(source: Source | Stream, size_px: int, count: int = BACKGROUNDS) -> list[Image.Image]:
    """Small copies of `count` pictures of a source, evenly spread, as backgrounds of scenes; from a stream's first
    shard. Unreadable ones are skipped."""
    pictures = []
    source = fetched(source, source.shards[0]) if isinstance(source, Stream) else source
    for index in np.linspace(0, len(source) - 1, min(count, len(source))).astype(int):
        try:
            picture = picture_of(source[index], size_px)
        except (ImageError, DataError, OSError):
            continue
        picture.thumbnail((3 * size_px, 3 * size_px))
        pictures.append(picture)
    return pictures
