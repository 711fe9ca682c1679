"""Data sets for evaluation: pictures with a class each, pictures with captions, or pictures alone."""

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

DatasetKind = Literal["classes", "pairs", "pictures"]
WHOLE = "all"  # the split of a data set without splits


@dataclass(frozen=True)
class PictureSequence:
    """Pictures by index. `read(index)` returns anything that `images.open_image` takes, or raises DataError or OSError.
    `identity` is a hash of the data set's contents; `split` names the split."""

    keys: Sequence[str]
    read: Callable[[int], ImageSource]
    identity: str
    split: str = WHOLE

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class LabelledDataset:
    """Pictures with a class each: `labels[index]` is an index into `classes`. `templates` are the data set's own;
    `description` is a sentence about peculiarities, such as skipped pictures."""

    pictures: PictureSequence
    classes: tuple[str, ...]
    labels: Int[np.ndarray, " pictures"]
    templates: tuple[str, ...] = ()
    description: str = ""


@dataclass(frozen=True)
class CaptionedDataset:
    """Pictures with captions: `captions(index)` returns all captions of one, or raises DataError or OSError.
    `description` is as in LabelledDataset."""

    pictures: PictureSequence
    captions: Callable[[int], tuple[str, ...]]
    description: str = ""


@dataclass(frozen=True)
class PictureDataset:
    """Pictures alone, such as a generator's. `description` is as in LabelledDataset."""

    pictures: PictureSequence
    description: str = ""


Dataset = LabelledDataset | CaptionedDataset | PictureDataset


def pairs_of(source: Source, identity: str, split: str = WHOLE) -> CaptionedDataset:
    """A source of pairs as a data set."""
    keys = [source.key(index) for index in range(len(source))]
    description = f"left out {spell_counts(source.skipped)}" if source.skipped else ""
    pictures = PictureSequence(keys, lambda index: source[index].image, identity, split)
    return CaptionedDataset(pictures, source.captions, description)


def identity_of(folder: Path, files: Iterable[Path], words: Iterable[str] = ()) -> str:
    """A hash of the files' paths in `folder`, their sizes and modification times, and of further words. It stays the
    same when the folder is moved."""
    digest = hashlib.blake2b(digest_size=12)
    for path in files:
        status = path.stat()
        name = os.path.relpath(path, folder)
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    for word in words:
        digest.update(word.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
