"""Data sets of the library `datasets`: those that it saved to disk, and its rows as a set."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from diptych.data.confinement import Confined
from diptych.data.samples import DataError, caption_lines
from diptych.data.sources.hub import caches, load_saved
from diptych.data.splits import HELD_OUT, TRAIN
from diptych.data.tables.spooled import Row, picture_bytes
from diptych.evaluation.sets.dataset import WHOLE, Labelled, Pairs, Pictures, identity_of


def import_datasets(needed_for: str) -> Any:
    """The library `datasets`. Raises DataError where it is not installed."""
    try:
        import datasets
    except ImportError as error:
        raise DataError(f'{needed_for} is read by datasets; pip install "diptych[datasets]".') from error
    return datasets


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` of `datasets` left this."""
    return any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))


def saved_splits(folder: Path) -> tuple[str, ...]:
    """The splits of what was saved, those of usual names first; () where one set was saved without."""
    if not (folder / "dataset_dict.json").is_file():
        return ()
    found = [each.name for each in sorted(folder.iterdir()) if (each / "state.json").is_file()]
    return tuple(sorted(found, key=lambda name: [*HELD_OUT, TRAIN, name].index(name)))


def open_saved(folder: Path, split: str | None = None, confined: Confined | None = None) -> Labelled | Pairs:
    """What `save_to_disk` left: a picture's column, and one of class numbers with names or one of captions. Pictures
    that rows give by their path lie where `confined` allows, by default in the folder."""
    there = saved_splits(folder)
    if split is not None and there and split not in there:
        raise DataError(f"{folder} has no split {split!r}; it has {', '.join(there)}.")
    chosen = (split or there[0]) if there else WHOLE
    place = folder / chosen if there else folder
    confined = confined or Confined([folder])
    rows = load_saved(place, confined)
    files = sorted(place.iterdir())
    return of_rows(
        rows,
        chosen,
        identity=identity_of(place, files),
        confined=confined,
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
    confined: Confined | None = None,
) -> Labelled | Pairs:  # fmt: skip
    """A `datasets.Dataset` as a set. Class names are those of its label's feature. Raises DataError where it has none,
    or a picture without a class."""
    datasets = import_datasets(split)
    shown = rows.cast_column(image, datasets.Image(decode=False)).select_columns([image])
    identity = identity or hashed(rows._fingerprint, str(len(rows)))
    pictures = Pictures(
        [f"row {place}" for place in range(len(rows))],
        _reader(shown, image, confined or Confined(caches())),
        identity,
        split,
    )
    if label is None:
        texts = rows.select_columns([caption])
        return Pairs(pictures, lambda place: caption_lines(texts[place][caption], pictures.keys[place]))
    names = getattr(rows.features[label], "names", None)
    if not names:
        raise DataError(f"the column {label} is {rows.features[label]}; wanted a ClassLabel, which names its classes.")
    answers = np.array(rows.with_format(None)[label], np.int64)
    if len(answers) and answers.min() < 0:
        raise DataError(f"the split {split} hides its classes (they are -1); choose another.")
    return Labelled(pictures, first_synonyms(names), answers)


def hashed(*words: str) -> str:
    """24 hex digits."""
    return hashlib.blake2b("\0".join(words).encode(), digest_size=12).hexdigest()


def _reader(rows: Any, image: str, confined: Confined) -> Any:
    def read(place: int) -> bytes:
        return picture_bytes(Row(f"row {place}", rows[place][image], []), None, confined)

    return read


def first_synonyms(names: list[str]) -> tuple[str, ...]:
    """ImageNet's "tench, Tinca tinca" is "tench"; the whole where the first word of two classes is the same (its two
    cranes). Underscores are spaces."""
    firsts = [name.partition(",")[0] for name in names]
    times = Counter(firsts)
    kept = [first if times[first] == 1 else name for first, name in zip(firsts, names, strict=True)]
    return tuple(name.replace("_", " ").strip() for name in kept)
