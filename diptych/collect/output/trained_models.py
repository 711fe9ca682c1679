"""Which runs were trained on some shards, by what each has noted of its data."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from diptych.training.run.seen_data import SEEN, SeenData, seen_data
from diptych.untrusted.links import walk


class TrainedModel(NamedTuple):
    """A run that was trained on pairs which were removed, and how that is known: it has seen their `shards`; it has
    read the `folder`, but no version of the shards that is known; or it started from the `model` of such a run."""

    run: Path
    known_by: Literal["shards", "folder", "model"]


def trained_on(runs: Iterable[Path], marks: Collection[str], out: Path) -> list[TrainedModel]:
    """The runs in or below these folders that were trained on shards with these marks, by path."""
    found, seen = dict[Path, TrainedModel](), dict(_noted(runs))
    for run, data in seen.items():
        if any(file.mark in marks for file in data.files):
            found[run] = TrainedModel(run, "shards")
        elif not data.files and any(_is_in(source, out) for source in data.sources):
            found[run] = TrainedModel(run, "folder")
    while more := [run for run, data in seen.items() if run not in found and _starts_from(data, found)]:
        found |= {run: TrainedModel(run, "model") for run in more}
    return [found[run] for run in sorted(found)]


def _noted(runs: Iterable[Path]) -> Iterator[tuple[Path, SeenData]]:
    for folder in runs:
        for here, _, names in walk(Path(os.path.abspath(folder))):
            if SEEN in names and (data := seen_data(here)) is not None:
                yield Path(here), data


def _starts_from(data: SeenData, found: Collection[Path]) -> bool:
    return bool(data.init) and any(Path(data.init).is_relative_to(run) for run in found)


def _is_in(source: str, out: Path) -> bool:
    return "://" not in source and Path(source).is_relative_to(os.path.abspath(out))
