"""Data sets of the library `datasets`: folders of its `save_to_disk`, and its rows."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from diptych.data.confinement import AllowedFolders
from diptych.data.samples import caption_lines
from diptych.data.sources.hub import caches, load_saved
from diptych.data.splits import HELD_OUT, TRAIN
from diptych.data.tables.spooled import TableRow, picture_bytes
from diptych.errors import DataError
from diptych.evaluation.sets.dataset import (
    WHOLE,
    CaptionedDataset,
    Dataset,
    LabelledDataset,
    PictureSequence,
    identity_of,
)


def import_datasets(needed_for: str) -> Any:
    """The library `datasets`. Raises DataError if it is not installed."""
    try:
        import datasets
    except ImportError as error:
        raise DataError(f'{needed_for} needs the library datasets; pip install "diptych[datasets]".') from error
    return datasets


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` of `datasets` wrote this folder."""
    return any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))


def saved_splits(folder: Path) -> tuple[str, ...]:
    """The splits in a saved folder, usual names first; () for one data set without splits."""
    if not (folder / "dataset_dict.json").is_file():
        return ()
    found = [each.name for each in sorted(folder.iterdir()) if (each / "state.json").is_file()]
    return tuple(sorted(found, key=lambda name: [*HELD_OUT, TRAIN, name].index(name)))


def open_saved(folder: Path, split: str | None = None, allowed: AllowedFolders | None = None) -> Dataset:
    """A folder of `save_to_disk`: an image column, and a column of class labels with names or one of captions. Pictures
    that rows give as paths must be in `allowed`, by default the folder. Raises DataError."""
    available = saved_splits(folder)
    if split is not None and available and split not in available:
        raise DataError(f"{folder} has no split {split!r}; it has {', '.join(available)}.")
    chosen = (split or available[0]) if available else WHOLE
    index = folder / chosen if available else folder
    allowed = allowed or AllowedFolders([folder])
    rows = load_saved(index, allowed)
    files = sorted(index.iterdir())
    return of_rows(
        rows,
        chosen,
        identity=identity_of(index, files),
        allowed=allowed,
        **_columns(rows, str(folder)),
    )


def _columns(rows: Any, where: str) -> dict[str, Any]:
    datasets = import_datasets(where)
    features = dict(rows.features)
    image = next((name for name, kind in features.items() if isinstance(kind, datasets.Image)), None)
    label = next((name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)), None)
    words = ("caption", "captions", "text", "texts", "sentence", "sentences")
    caption = next((name for name in words if name in features), None)
    if image is None or (label is None and caption is None):
        listed = ", ".join(f"{name} ({kind})" for name, kind in features.items())
        raise DataError(f"{where} has the columns {listed}; wanted an Image, and a ClassLabel or one called caption.")
    return {"image": image, "label": label, "caption": None if label else caption}


def of_rows(
    rows: Any, split: str, *, image: str, label: str | None, caption: str | None, identity: str | None = None,
    allowed: AllowedFolders | None = None,
) -> Dataset:  # fmt: skip
    """A `datasets.Dataset` as a data set. Class names are those of the label's feature. Raises DataError if there are
    none, or if a picture has no class."""
    datasets = import_datasets(split)
    shown = rows.cast_column(image, datasets.Image(decode=False)).select_columns([image])
    identity = identity or hashed(rows._fingerprint, str(len(rows)))
    pictures = PictureSequence(
        [f"row {index}" for index in range(len(rows))],
        _reader(shown, image, allowed or AllowedFolders(caches())),
        identity,
        split,
    )
    if label is None:
        texts = rows.select_columns([caption])
        return CaptionedDataset(pictures, lambda index: caption_lines(texts[index][caption], pictures.keys[index]))
    names = getattr(rows.features[label], "names", None)
    if not names:
        raise DataError(f"the column {label} is {rows.features[label]}; wanted a ClassLabel, which names its classes.")
    labels = np.array(rows.with_format(None)[label], np.int64)
    if len(labels) and labels.min() < 0:
        raise DataError(f"the split {split} hides its classes (they are -1); choose another.")
    return LabelledDataset(pictures, first_synonyms(names), labels)


def hashed(*words: str) -> str:
    """24 hex digits."""
    return hashlib.blake2b("\0".join(words).encode(), digest_size=12).hexdigest()


def _reader(rows: Any, image: str, allowed: AllowedFolders) -> Any:
    def read(index: int) -> bytes:
        return picture_bytes(TableRow(f"row {index}", rows[index][image], []), None, allowed)

    return read


def first_synonyms(names: list[str]) -> tuple[str, ...]:
    """The first of each name's synonyms: ImageNet's "tench, Tinca tinca" becomes "tench". Names whose first synonym is
    not unique (ImageNet's two cranes) stay complete. Underscores become spaces."""
    firsts = [name.partition(",")[0] for name in names]
    times = Counter(firsts)
    kept = [first if times[first] == 1 else name for first, name in zip(firsts, names, strict=True)]
    return tuple(name.replace("_", " ").strip() for name in kept)
