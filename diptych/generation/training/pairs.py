"""Batches of (picture, caption) for a generator: plain scenes drawn as they are needed, or a data set of pairs."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from PIL import Image, ImageOps

from diptych.data.loading.decoding import BadSample, describe_failures, failure_of, picture_of
from diptych.errors import DataError, ImageError
from diptych.scenes.plain import plain_scene

if TYPE_CHECKING:
    from jaxtyping import UInt8

    from diptych.data.samples import Source


MOST_BYTES = 8 << 30


class Pair(NamedTuple):
    """Pixels (size, size, 3) uint8 and one caption."""

    pixels: UInt8[np.ndarray, "size size 3"]
    caption: str


class Pairs(Protocol):
    """Pair number i of an endless sequence; the same number gives the same pair."""

    def __call__(self, number: int) -> Pair: ...


class DataPairs(NamedTuple):
    """The pairs of a data set, how many could be read, and the others counted by reason, "" if there are none."""

    pairs: Pairs
    count: int
    failures: str


def scene_pairs(size_px: int, seed: int) -> Pairs:
    """Plain scenes of the training split, each with one of its captions."""

    def pair(number: int) -> Pair:
        scene = plain_scene((seed + 1) * 1_000_000_007 + number, size_px=size_px)
        return Pair(np.asarray(scene.image), Random(number).choice(scene.captions))

    return pair


def data_pairs(source: Source, size_px: int, seed: int, on_progress: Callable[[int, int], None]) -> DataPairs:
    """The pairs of a data set in a new order in each pass, each picture cut to its middle square and kept in memory.

    Raises DataError if none can be read, or if their pixels would take more than MOST_BYTES.
    """
    needed = len(source) * 3 * size_px**2
    if needed > MOST_BYTES:
        raise DataError(
            f"{len(source):,} pictures of {size_px} px take {needed / 1e9:.0f} GB of memory, and at most "
            f"{MOST_BYTES / 1e9:.0f} are taken. Name fewer, or make them smaller."
        )
    pixels, captions, bad = np.empty((len(source), size_px, size_px, 3), np.uint8), [], dict[str, BadSample]()
    for index in range(len(source)):
        try:
            sample = source[index]
            pixels[len(captions)] = _square(picture_of(sample, size_px), size_px)
            captions.append(sample.captions)
        except (ImageError, DataError, OSError) as error:
            bad |= [failure_of(source.key(index), error)]
        on_progress(index + 1, len(source))
    if not captions:
        raise DataError(f"none of {len(source):,} pairs can be read: {describe_failures(bad)}.")
    order = _order(len(captions), seed)

    def pair(number: int) -> Pair:
        return Pair(pixels[order(number)], Random(number).choice(captions[order(number)]))

    return DataPairs(pair, len(captions), describe_failures(bad))


def _square(picture: Image.Image, size_px: int) -> np.ndarray:
    fitted = ImageOps.fit(picture.convert("RGB"), (size_px, size_px), Image.Resampling.BICUBIC)
    return np.asarray(fitted)


def _order(count: int, seed: int) -> Callable[[int], int]:
    """Which sample is the n-th of an endless sequence of shuffled passes."""
    known: dict[int, np.ndarray] = {}

    def at(number: int) -> int:
        run = number // count
        if run not in known:
            known.clear()
            known[run] = np.random.default_rng((seed, run)).permutation(count)
        return int(known[run][number % count])

    return at
