"""Drawn scenes as a training source."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from diptych.data.augment import Augmentation
from diptych.data.decoding import picture_of
from diptych.data.samples import DataError, Sample, Source, Stream
from diptych.data.scenes import draw_scene
from diptych.data.stream import fetched
from diptych.images import ImageError

# A crop or an erased rectangle could take away what a caption names, and a missing colour word makes it ambiguous.
SCENE_AUGMENTATION = Augmentation(crop_scale=0.85, flip=0.0, jitter=0.1, erase=0.0, drop_words=0.0)
ENDLESS = 1 << 40
BACKGROUNDS = 300


@dataclass
class SceneSource:
    """Scenes without end: sample i is the scene of seed i, on a part of a training photograph where that is drawn."""

    size_px: int
    backgrounds: Sequence[Image.Image] = ()
    skipped: dict[str, int] = field(default_factory=dict)
    form: str = "drawn scenes"

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> Sample:
        scene = draw_scene(index, size_px=self.size_px, split="train", backgrounds=self.backgrounds)
        return Sample(scene.image, scene.captions, self.key(index))

    def captions(self, index: int) -> tuple[str, ...]:
        """Those of one scene, which has to be drawn for them."""
        return self[index].captions

    def key(self, index: int) -> str:
        """The scene's seed."""
        return f"scene {index}"


def photographs(source: Source | Stream, size_px: int, count: int = BACKGROUNDS) -> list[Image.Image]:
    """Some of a source's pictures, evenly spread and made small, to draw on; of a stream those of its first
    shard. Broken ones are passed over."""
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
