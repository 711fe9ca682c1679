"""A generator as a data set: its pictures of held-out captions of plain scenes, drawn when they are read."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from diptych.errors import ArgumentError
from diptych.evaluation.sets.dataset import CaptionedDataset, PictureSequence, identity_of
from diptych.generation.generator import BUNDLED, Generator, open_generator
from diptych.generation.steps import Sampler
from diptych.scenes.plain import PlainScene, plain_scenes

NAME = "bundled"  # of the generator that comes with the package
MOST_PICTURES = 100_000
_AT_ONCE = 32


@dataclass(frozen=True)
class Drawing:
    """How a generator's pictures are drawn: `count` of them, of as many captions. Raises ArgumentError."""

    guidance: float = 4.0
    steps: int = 30
    sampler: Sampler = "dpm"
    count: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST_PICTURES:
            raise ArgumentError(f"count={self.count}; it is from 1 to {MOST_PICTURES:,} pictures.", argument="count")

    def scenes(self, size_px: int) -> list[PlainScene]:
        """The scenes of the test split whose first captions are drawn, so each names a pair of colour and shape that no
        training scene has."""
        return list(plain_scenes(self.count, size_px=size_px, split="test", seed=self.seed))

    def settings(self) -> dict[str, Any]:
        """What of it is told with results."""
        return {name: value for name, value in asdict(self).items() if name != "seed"}


def open_generated(source: str | os.PathLike[str], drawing: Drawing) -> CaptionedDataset:
    """The pictures of a generator, "bundled" or a folder that `diptych generate train` made, each with its prompt.

    Picture i begins with the noise of number i, whichever are read. Raises CheckpointError for a folder that is no
    generator.
    """
    generator = open_generator(None if source == NAME else source)
    prompts = [scene.captions[0] for scene in drawing.scenes(generator.size_px)]
    folder = BUNDLED if source == NAME else Path(source)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    identity = identity_of(folder, files, [repr(drawing)])
    keys = [f"{number} {prompt}" for number, prompt in enumerate(prompts)]
    pictures = PictureSequence(keys, _Pictures(generator, prompts, drawing).read, identity)
    return CaptionedDataset(pictures, lambda index: (prompts[index],))


def drawn(generator: Generator, prompts: Sequence[str], drawing: Drawing, first: int = 0) -> list[Image.Image]:
    """Pictures of prompts, the first with the noise of number `first`."""
    guidance, steps, sampler = drawing.guidance, drawing.steps, drawing.sampler
    return generator.draw(prompts, guidance=guidance, steps=steps, sampler=sampler, seed=first).images()


class _Pictures:
    """Draws some at once and keeps them; several threads may read."""

    def __init__(self, generator: Generator, prompts: Sequence[str], drawing: Drawing):
        self._generator, self._prompts, self._drawing = generator, prompts, drawing
        self._lock, self._part = threading.Lock(), lru_cache(MOST_PICTURES // _AT_ONCE)(self._draw)

    def read(self, index: int) -> Image.Image:
        with self._lock:
            return self._part(index // _AT_ONCE)[index % _AT_ONCE]

    def _draw(self, part: int) -> list[Image.Image]:
        first = part * _AT_ONCE
        return drawn(self._generator, self._prompts[first : first + _AT_ONCE], self._drawing, first)
