"""Drawn scenes as a training source."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from diptych.data.augment import Augmentation
from diptych.data.loader import picture_of
from diptych.data.scenes import draw_scene
from diptych.data.sources import Sample, Source

# A crop or an erased rectangle could take away what a caption names, and a missing colour word makes it ambiguous.
SCENE_AUGMENTATION = Augmentation(crop_scale=0.85, flip=0.0, jitter=0.1, erase=0.0, drop_words=0.0)
ENDLESS = 1 << 40
BACKGROUNDS = 300


@dataclass(frozen=True)
class SceneSource:
    """Scenes without end: sample i is the scene of seed i, on a part of a training photograph where that is drawn."""

    size_px: int
    backgrounds: Sequence[Image.Image] = ()

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> Sample:
        scene = draw_scene(index, size_px=self.size_px, split="train", backgrounds=self.backgrounds)
        return Sample(scene.image, scene.captions, f"scene-{index}")


def photographs(source: Source, size_px: int, count: int = BACKGROUNDS) -> list[Image.Image]:
    """Some of a source's pictures, evenly spread, to draw on."""
    step = max(1, len(source) // count)
    return [picture_of(source[i], size_px) for i in range(0, len(source), step)][:count]
