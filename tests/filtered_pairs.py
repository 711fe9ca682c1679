"""Pictures that look unlike each other, pairs of them, and shards of pairs."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from diptych.collect.output.facts import pair_of
from diptych.collect.output.open_shard import all_pairs, content_of
from diptych.collect.output.shard_writer import ShardWriter
from diptych.collect.pairs import Found, Pair, Words
from diptych.collect.pictures.preparing import prepare
from diptych.collect.pictures.rules import PICTURE_RULES, PictureRules

ANY = PictureRules(disabled=tuple(PICTURE_RULES))
THINGS = ["dog", "cat", "horse", "boat", "tower", "bridge", "child", "singer", "market", "forest", "river", "train"]


def soft(seed: int, size: tuple[int, int] = (192, 144)) -> Image.Image:
    """A picture with shapes, unlike those of other seeds."""
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pair(image: Image.Image | bytes, *captions: str, url: str = "") -> Pair:
    words = tuple(Words(caption, "alt") for caption in captions)
    content = image if isinstance(image, bytes) else encoded(image)
    return Pair(prepare(content, rules=ANY), words, Found(url, words, time_s=1e9))


def good(number: int) -> Pair:
    return pair(soft(number), f"A {THINGS[number]} near the old harbour", url=f"https://a.example/{number}.jpg")


def written(folder: Path, *shards: list[Pair]) -> Path:
    for pairs in shards:
        with ShardWriter(folder) as writer:
            for each in pairs:
                writer.add(each)
    return folder


def kept(folder: Path) -> list[Pair]:
    return [
        pair_of(each.facts, content_of(each, path))
        for path in sorted(folder.glob("*.tar"))
        for each in all_pairs(path)
    ]  # fmt: skip


def best_captions(folder: Path) -> list[str]:
    return [each.captions[0].text for each in kept(folder)]
