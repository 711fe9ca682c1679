"""Sets by name, through Hugging Face: one table of where each lies, and what its columns are called."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase as fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diptych.data.confinement import Confined
from diptych.data.samples import caption_lines
from diptych.data.sources.hub import caches, load_saved
from diptych.data.tables.unpacked import Row, picture_bytes
from diptych.errors import DataError
from diptych.evaluation.sets.sets import HELD_OUT, TRAIN, WHOLE, Labelled, Pairs, Pictures, identity_of

PARQUET = "refs/convert/parquet"  # where the hub keeps a copy of what has a loading script, which nobody runs any more


class Named(NamedTuple):
    """Where a set lies: its hub id, its splits by the names that it is asked for with (the first is the default), and
    the folder of its Parquet files with their columns. Without columns it is shards as CLIP_benchmark lays them out.
    `names` is a repository of such shards whose class names and templates are taken in place of the set's own.
    `shift_of` names the set of which this has the classes on other pictures."""

    hub: str
    splits: Mapping[str, str]
    folder: str | None = None
    image: str | None = None
    label: str | None = None
    caption: str | None = None
    names: str | None = None
    shift_of: str | None = None


_VALIDATED = {"val": "validation", "train": "train"}
_TESTED = {"test": "test", "train": "train"}
_TEST = {"test": "test"}
_IMAGENET_NAMES = (
    "clip-benchmark/wds_imagenet1k"  # the names and prompts of Radford et al. 2021, as the shifts have them
)

NAMED = {
    "imagenette": Named("frgfm/imagenette", _VALIDATED, "320px", "image", "label"),
    "imagenet-1k": Named("ILSVRC/imagenet-1k", _VALIDATED, "data", "image", "label", names=_IMAGENET_NAMES),
    "imagenet-v2": Named("clip-benchmark/wds_imagenetv2", _TEST, shift_of="imagenet-1k"),
    "imagenet-r": Named("clip-benchmark/wds_imagenet-r", _TEST, shift_of="imagenet-1k"),
    "imagenet-a": Named("clip-benchmark/wds_imagenet-a", _TEST, shift_of="imagenet-1k"),
    "imagenet-sketch": Named("clip-benchmark/wds_imagenet_sketch", _TEST, shift_of="imagenet-1k"),
    "objectnet": Named("clip-benchmark/wds_objectnet", _TEST, shift_of="imagenet-1k"),
    "cifar10": Named("uoft-cs/cifar10", _TESTED, "plain_text", "img", "label"),
    "cifar100": Named("uoft-cs/cifar100", _TESTED, "cifar100", "img", "fine_label"),
    "flickr30k": Named("clip-benchmark/wds_flickr30k", _TEST),
    "coco": Named("clip-benchmark/wds_mscoco_captions", _TEST),
}

_FETCHED = Confined([], allow_outside=True)  # the hub's client lays links to files of its own in its cache


def open_named(name: str, split: str | None = None) -> Labelled | Pairs:
    """A set of NAMED, fetched into the cache of Hugging Face where it is not there yet. Raises DataError that says what
    to do where it cannot be had."""
    entry = NAMED[name]
    asked = next(iter(entry.splits)) if split is None else split
    if asked not in entry.splits:
        raise DataError(f"{name} has no split {asked!r} here; it has {', '.join(entry.splits)}.")
    try:
        return _fetched_shards(entry, asked) if entry.folder is None else _fetched_rows(entry, asked)
    except DataError:
        raise
    except Exception as error:  # what the hub's client and the formats under `datasets` raise has no common base
        raise DataError(f"{name} cannot be fetched: {_why(entry, error)}") from error


def _why(entry: Named, error: Exception) -> str:
    """What is wrong, and what to do."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    hub = getattr(error, "repo_id", None) or entry.hub  # also that of the names
    if isinstance(error, GatedRepoError):
        page = f"https://huggingface.co/datasets/{hub}"
        return f"{hub} has terms; accept them at {page} and log in with `hf auth login`."
    if isinstance(error, RepositoryNotFoundError):
        return f"the hub has no {hub} that you may read; log in with `hf auth login`, or pass a folder."
    said = str(error).strip().partition("\n")[0].rstrip(".")
    return f"{type(error).__name__}: {said}. {entry.hub} needs the network once; try again when the hub can be reached."


def _fetched_rows(entry: Named, split: str) -> Labelled | Pairs:
    datasets = _datasets(entry.hub)
    classes, templates = _names_of(entry)
    top, files = _parquet(entry, entry.splits[split])
    rows = datasets.Dataset.from_parquet([os.fspath(path) for path in files])
    identity = _hashed(entry.hub, top.name, *(path.name for path in files), *classes)  # the folder is called by commit
    found = of_rows(rows, split, image=entry.image or "", label=entry.label, caption=entry.caption, identity=identity)
    if not classes or isinstance(found, Pairs):
        return found
    if len(classes) != len(found.classes):
        raise DataError(f"{entry.names} names {len(classes)} classes; {entry.hub} has {len(found.classes)}.")
    return replace(found, classes=classes, templates=templates)


def _parquet(entry: Named, split: str) -> tuple[Path, list[Path]]:
    """The files of one split alone (`load_dataset` would fetch all splits: 150 GB for ImageNet's 50,000 pictures), and
    the folder of their commit; from the hub's own copy where the set has none."""
    from huggingface_hub.errors import LocalEntryNotFoundError, RevisionNotFoundError

    pattern, failed = f"{entry.folder}/{split}*.parquet", None  # also SPLIT/0000.parquet: here a star takes slashes
    for revision in (None, PARQUET):
        try:
            top = _snapshot(entry.hub, [pattern], revision)
        except RevisionNotFoundError:
            break
        except LocalEntryNotFoundError as error:  # without network the copy may be there, and the set itself not
            failed = failed or error
            continue
        if files := sorted(
            path for path in top.rglob("*.parquet") if fnmatch(path.relative_to(top).as_posix(), pattern)
        ):
            return top, _all_of(files)
    raise failed or DataError(f"{entry.hub} has no files {pattern} any more; fetch it yourself and pass its folder.")


def _all_of(files: list[Path]) -> list[Path]:
    """DataError where their names say that there are more: what was cut off, and is now opened without network."""
    counted = re.search(r"-of-(\d+)\.parquet$", files[0].name)
    if counted and int(counted[1]) != len(files):
        raise DataError(f"{files[0].parent} holds {len(files)} of {int(counted[1])} files; connect to fetch the rest.")
    return files


def _names_of(entry: Named) -> tuple[tuple[str, ...], tuple[str, ...]]:
    from diptych.evaluation.sets.clip_benchmark import CLASSES, TEMPLATES, names_in

    return names_in(_snapshot(entry.names, [CLASSES, TEMPLATES]), _FETCHED) if entry.names else ((), ())


def _fetched_shards(entry: Named, split: str) -> Labelled | Pairs:
    from diptych.evaluation.sets.clip_benchmark import open_shards

    top = _snapshot(entry.hub, [f"{entry.splits[split]}/*", "*.txt"])
    return open_shards(top, top / entry.splits[split], split, None, _FETCHED)


def _snapshot(hub: str, wanted: list[str], revision: str | None = None) -> Path:
    from huggingface_hub import snapshot_download

    from diptych.checkpoint.progress import bars

    where: Any = {"repo_type": "dataset", "revision": revision, "tqdm_class": bars()}
    return Path(snapshot_download(hub, allow_patterns=wanted, **where))


def _datasets(what: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise DataError(f'{what} is read by datasets; pip install "diptych[datasets]".') from error
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
    datasets = _datasets(where)
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
    datasets = _datasets(split)
    shown = rows.cast_column(image, datasets.Image(decode=False)).select_columns([image])
    identity = identity or _hashed(rows._fingerprint, str(len(rows)))
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


def _hashed(*said: str) -> str:
    return hashlib.blake2b("\0".join(said).encode(), digest_size=12).hexdigest()


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
