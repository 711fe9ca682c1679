"""Data sets by name, from the Hugging Face hub: one table with the repository and the columns of each."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase as fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from diptych.data.confinement import AllowedFolders
from diptych.errors import DataError
from diptych.evaluation.sets.clip_benchmark import CLASSES, TEMPLATES, names_in, open_shards
from diptych.evaluation.sets.dataset import Dataset, LabelledDataset
from diptych.evaluation.sets.saved_datasets import hashed, import_datasets, of_rows

PARQUET = "refs/convert/parquet"  # the hub's Parquet copy of data sets with a loading script


class NamedDataset(NamedTuple):
    """A data set on the hub: its id, its splits (requested name -> name on the hub; the first is the default), the
    folder of its Parquet files, and their columns. Without a folder it consists of shards in CLIP_benchmark's layout.
    `names` is a repository of such shards with better class names and templates. `shift_of` names the data set that
    has the same classes, see `diptych.evaluation.shifts`."""

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
_IMAGENET_NAMES = "clip-benchmark/wds_imagenet1k"  # the names and prompts of Radford et al. 2021, as in the shifts

NAMED = {
    "imagenette": NamedDataset("frgfm/imagenette", _VALIDATED, "320px", "image", "label"),
    "imagenet-1k": NamedDataset("ILSVRC/imagenet-1k", _VALIDATED, "data", "image", "label", names=_IMAGENET_NAMES),
    "imagenet-v2": NamedDataset("clip-benchmark/wds_imagenetv2", _TEST, shift_of="imagenet-1k"),
    "imagenet-r": NamedDataset("clip-benchmark/wds_imagenet-r", _TEST, shift_of="imagenet-1k"),
    "imagenet-a": NamedDataset("clip-benchmark/wds_imagenet-a", _TEST, shift_of="imagenet-1k"),
    "imagenet-sketch": NamedDataset("clip-benchmark/wds_imagenet_sketch", _TEST, shift_of="imagenet-1k"),
    "objectnet": NamedDataset("clip-benchmark/wds_objectnet", _TEST, shift_of="imagenet-1k"),
    "cifar10": NamedDataset("uoft-cs/cifar10", _TESTED, "plain_text", "img", "label"),
    "cifar100": NamedDataset("uoft-cs/cifar100", _TESTED, "cifar100", "img", "fine_label"),
    "flickr30k": NamedDataset("clip-benchmark/wds_flickr30k", _TEST),
    "coco": NamedDataset("clip-benchmark/wds_mscoco_captions", _TEST),
}

_FETCHED = AllowedFolders([], allow_outside=True)  # the hub's client makes links within its cache


def open_named(name: str, split: str | None = None) -> Dataset:
    """A data set of NAMED, downloaded into the Hugging Face cache if it is not there. Raises DataError with a remedy if
    it cannot be downloaded."""
    entry = NAMED[name]
    requested = next(iter(entry.splits)) if split is None else split
    if requested not in entry.splits:
        raise DataError(f"{name} has no split {requested!r} here; it has {', '.join(entry.splits)}.")
    try:
        return _fetched_shards(entry, requested) if entry.folder is None else _fetched_rows(entry, requested)
    except DataError:
        raise
    except Exception as error:  # errors of the hub's client and of `datasets` have no common base
        raise DataError(f"{name} cannot be fetched: {_advice(entry, error)}") from error


def _advice(entry: NamedDataset, error: Exception) -> str:
    """The problem and its remedy."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    hub = getattr(error, "repo_id", None) or entry.hub  # may be the repository of the names
    if isinstance(error, GatedRepoError):
        page = f"https://huggingface.co/datasets/{hub}"
        return f"{hub} has terms of use; accept them at {page} and log in with `hf auth login`."
    if isinstance(error, RepositoryNotFoundError):
        return f"the hub has no {hub} that you can read; log in with `hf auth login`, or pass a folder."
    message = str(error).strip().partition("\n")[0].rstrip(".")
    return (
        f"{type(error).__name__}: {message}. {entry.hub} needs the network once; try again when the hub can be reached."
    )


def _fetched_rows(entry: NamedDataset, split: str) -> Dataset:
    datasets = import_datasets(entry.hub)
    classes, templates = _class_names(entry)
    top, files = _parquet(entry, entry.splits[split])
    rows = datasets.Dataset.from_parquet([os.fspath(path) for path in files])
    identity = hashed(entry.hub, top.name, *(path.name for path in files), *classes)  # the folder's name is a commit
    found = of_rows(rows, split, image=entry.image or "", label=entry.label, caption=entry.caption, identity=identity)
    if not classes or not isinstance(found, LabelledDataset):
        return found
    if len(classes) != len(found.classes):
        raise DataError(f"{entry.names} names {len(classes)} classes; {entry.hub} has {len(found.classes)}.")
    return replace(found, classes=classes, templates=templates)


def _parquet(entry: NamedDataset, split: str) -> tuple[Path, list[Path]]:
    """The folder of the commit and the files of one split, from the hub's Parquet copy if the repository has none.
    (`load_dataset` would fetch all splits: 150 GB for ImageNet's 50,000 validation pictures.)"""
    from huggingface_hub.errors import LocalEntryNotFoundError, RevisionNotFoundError

    pattern, failed = f"{entry.folder}/{split}*.parquet", None  # * also matches slashes
    for revision in (None, PARQUET):
        try:
            top = _snapshot(entry.hub, [pattern], revision)
        except RevisionNotFoundError:
            break
        except LocalEntryNotFoundError as error:  # offline, the cache may contain only the copy
            failed = failed or error
            continue
        if files := sorted(
            path for path in top.rglob("*.parquet") if fnmatch(path.relative_to(top).as_posix(), pattern)
        ):
            return top, _require_all(files)
    raise failed or DataError(f"{entry.hub} has no files {pattern} any more; fetch it yourself and pass its folder.")


def _require_all(files: list[Path]) -> list[Path]:
    """The files. Raises DataError if their names count more of them, as after an interrupted download."""
    counted = re.search(r"-of-(\d+)\.parquet$", files[0].name)
    if counted and int(counted[1]) != len(files):
        raise DataError(f"{files[0].parent} holds {len(files)} of {int(counted[1])} files; connect to fetch the rest.")
    return files


def _class_names(entry: NamedDataset) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return names_in(_snapshot(entry.names, [CLASSES, TEMPLATES]), _FETCHED) if entry.names else ((), ())


def _fetched_shards(entry: NamedDataset, split: str) -> Dataset:
    top = _snapshot(entry.hub, [f"{entry.splits[split]}/*", "*.txt"])
    return open_shards(top, top / entry.splits[split], split, None, _FETCHED)


def _snapshot(hub: str, wanted: list[str], revision: str | None = None) -> Path:
    from huggingface_hub import snapshot_download

    from diptych.checkpoint.progress import bars

    where: Any = {"repo_type": "dataset", "revision": revision, "tqdm_class": bars()}
    return Path(snapshot_download(hub, allow_patterns=wanted, **where))
