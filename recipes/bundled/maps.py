"""Maps of the image tower's lower blocks, of photographs and of drawn scenes, computed once to train the upper ones.

    python maps.py --lite FILE.pth --block 6 --train SHARDS --dev SHARDS --out FOLDER [--views 8] [--scenes 24000]

FOLDER gets train.npy, dev.npy and scenes.npy, the inputs of block BLOCK as float16 (views, pictures, channels, side,
side), pooled-train.npy and pooled-dev.npy, the released network's pooled features (views, pictures, 1280), and
train.json, dev.json and scenes.json with captions, and boxes of the scenes' phrases. Views come in pairs, of which the
second is mirrored; the first pair is the whole picture.
"""

import argparse
import io
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino  # before diptych, which hides its converters
import torch
from numpy.lib.format import open_memmap
from PIL import Image
from torch import Tensor, nn
from towers import lower, released_lite, upper

from diptych.data.loading.augmentation import Augmentation, augment_picture, mirror_caption, moved_region
from diptych.data.loading.decoding import picture_of
from diptych.data.loading.stream import indexed
from diptych.data.sources.opening import open_source
from diptych.nets.efficientnet import EfficientNet
from diptych.training.scene_source import SCENE_AUGMENTATION, SceneSource, photographs

BATCH = 32
PARTS = ("dev", "train", "scenes")
SCENE_SIZES_PX = (280, 192)  # in turns: larger and smaller than what the tower sees
SHRUNK = 0.5  # the share of views, but for the first, that are of a smaller file
CROPS = Augmentation(crop_scale=0.45, flip=0, jitter=0.25, erase=0, drop_words=0)
Inputs = Iterator[tuple[np.ndarray, dict[str, Any]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("lite", "train", "dev", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name, value in (("block", 6), ("views", 8), ("scenes", 24000), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, help="make these alone")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    tower = released_lite(options.lite)
    lower = Lower(tower, options.block, options.threads)
    size_px = tower.config.image_size
    for name, views in (("dev", 1), ("train", options.views)):
        if name not in options.only:
            continue
        source = indexed(open_source(getattr(options, name), held_out=name == "dev"))
        lower.write(options.out, name, lambda view, source=source: _photos(source, size_px, view), len(source), views)
    if "scenes" in options.only:
        backgrounds = photographs(open_source(options.train), max(SCENE_SIZES_PX))
        scenes = [SceneSource(each, backgrounds) for each in SCENE_SIZES_PX]
        lower.write(options.out, "scenes", lambda _: _drawn(scenes, options.scenes, size_px), options.scenes, 1)


class Halves(nn.Module):
    """Pixels (uint8, channels last) to the input of block `block`, and to the pooled features."""

    def __init__(self, tower: EfficientNet, block: int):
        super().__init__()
        self.tower, self.block = tower.eval(), block

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        x = lower(self.tower, (pixels.permute(0, 3, 1, 2).float() - 127) / 128, self.block)
        return x, upper(self.tower, x, self.block)[1].mean(dim=1)


class Lower:
    """`Halves` under OpenVINO, which is several times as fast as PyTorch at depthwise convolutions."""

    def __init__(self, tower: EfficientNet, block: int, threads: int):
        size = tower.config.image_size
        pixels = torch.zeros(2, size, size, 3, dtype=torch.uint8)
        graph = openvino.convert_model(
            Halves(tower, block), example_input=pixels, input=[([-1, size, size, 3], openvino.Type.u8)]
        )
        how = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        self.compiled = openvino.Core().compile_model(graph, "CPU", how)

    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = self.compiled(pixels)
        return found[0], found[1]

    def write(self, folder: Path, name: str, inputs: Any, count: int, views: int) -> None:
        maps, pooled, facts = None, None, []
        for view in range(views):
            began, at, batch = time.monotonic(), 0, []
            for number, (pixels, fact) in enumerate(inputs(view), start=1):
                batch.append(pixels)
                if view == 0:
                    facts.append(fact)
                if len(batch) == BATCH or number == count:
                    x, y = self(np.stack(batch))
                    if maps is None:
                        maps = open_memmap(folder / f"{name}.npy", "w+", np.float16, (views, count, *x.shape[1:]))
                        pooled = np.empty((views, count, y.shape[1]), np.float16)
                    maps[view, at : at + len(batch)], pooled[view, at : at + len(batch)] = x, y
                    at, batch = at + len(batch), []
            print(f"{name} view {view}: {count / (time.monotonic() - began):.0f} pictures/s", flush=True)
        np.save(folder / f"pooled-{name}.npy", pooled)
        (folder / f"{name}.json").write_text(json.dumps({key: [fact[key] for fact in facts] for key in facts[0]}))


def _photos(source: Any, size_px: int, view: int) -> Inputs:
    rng = np.random.default_rng(view)
    for index in range(len(source)):
        sample = source[index]
        image = picture_of(sample, size_px)
        image = _coarser(image, rng) if view and rng.random() < SHRUNK else image
        if view < 2:
            pixels = np.asarray(image.resize((size_px, size_px), Image.Resampling.BICUBIC))
        else:
            pixels = augment_picture(image, size_px, CROPS, rng).pixels
        yield pixels[:, ::-1] if view % 2 else pixels, {"captions": list(sample.captions), "keys": sample.key}


def _coarser(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The picture as a smaller file has it: small pictures and thumbnails are searched too."""
    width, height = image.size
    scale = rng.uniform(0.4, 0.9)
    small = image.resize((round(scale * width), round(scale * height)), Image.Resampling.BICUBIC)
    small.save(file := io.BytesIO(), "JPEG", quality=int(rng.integers(40, 95)))
    return Image.open(file).convert("RGB")


def _drawn(scenes: Sequence[SceneSource], count: int, size_px: int) -> Inputs:
    rng = np.random.default_rng(0)
    for index in range(count):
        sample = scenes[index % len(scenes)][index]
        assert isinstance(sample.image, Image.Image)
        drawn = augment_picture(sample.image.convert("RGB"), size_px, SCENE_AUGMENTATION, rng)
        moved = [moved_region(each, drawn.region, is_mirrored=drawn.is_mirrored) for each in sample.regions]
        captions = [mirror_caption(text) if drawn.is_mirrored else text for text in sample.captions]
        yield drawn.pixels, {"captions": captions, "regions": [[each.phrase, each.box] for each in moved if each]}


if __name__ == "__main__":
    main()
