"""Data sets that models are judged by: pictures with a class each, and pictures with captions."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from diptych.data.samples import Source, spell_counts
from diptych.media.images import Source as ImageSource

if TYPE_CHECKING:
    from jaxtyping import Int

Kind = Literal["classes", "pairs"]
WHOLE = "all"  # the split of a set that has no splits


@dataclass(frozen=True)
class Pictures:
    """Pictures by their places, from 0. `read(place)` gives anything that `images.open_image` takes, or raises
    DataError or OSError. `identity` is a hash of what the set is made of; `split` says which part of it this is."""

    keys: Sequence[str]
    read: Callable[[int], ImageSource]
    identity: str
    split: str = WHOLE

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class Labelled:
    """Pictures with a class each: `answers[place]` is the class's number in `classes`. `templates` are those that came
    with the set; `said` is what a person should know of how it was read."""

    pictures: Pictures
    classes: tuple[str, ...]
    answers: Int[np.ndarray, " pictures"]
    templates: tuple[str, ...] = ()
    said: str = ""


@dataclass(frozen=True)
class Pairs:
    """Pictures with captions: `captions(place)` are all of one; it raises DataError or OSError where they cannot be
    read. `said` is what a person should know of how they were read."""

    pictures: Pictures
    captions: Callable[[int], tuple[str, ...]]
    said: str = ""


def pairs_of(source: Source, identity: str, split: str = WHOLE) -> Pairs:
    """Pairs as training reads them."""
    keys = [source.key(place) for place in range(len(source))]
    said = f"left out {spell_counts(source.skipped)}" if source.skipped else ""
    return Pairs(Pictures(keys, lambda place: source[place].image, identity, split), source.captions, said)


def identity_of(folder: Path, files: Iterable[Path], said: Iterable[str] = ()) -> str:
    """A hash of files by name within the folder, size and time of change; and of further words. A set that is moved as
    it is stays the same."""
    found = hashlib.blake2b(digest_size=12)
    for path in files:
        status = path.stat()
        name = os.path.relpath(path, folder)
        found.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    for word in said:
        found.update(word.encode("utf-8", "surrogateescape"))
    return found.hexdigest()
