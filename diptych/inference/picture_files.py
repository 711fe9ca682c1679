"""Files and folders of pictures labelled by a model, or compared with texts; files that cannot be read are left out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from diptych.data.sources.classes import labels_from_paths
from diptych.errors import ArgumentError
from diptych.failures import EmbeddingResult, Failure
from diptych.inference import labels
from diptych.media.images import Source
from diptych.media.scanning.image_files import find_images
from diptych.scoring.comparison import Comparison, compare
from diptych.scoring.metrics import Accuracy, accuracy
from diptych.scoring.zero_shot import Calibration, Classification, calibrated

if TYPE_CHECKING:
    from diptych.inference.labels import LabelSet

Progress = Callable[[int, int], None]


class Model(labels.Model, Protocol):
    """The part of `diptych.Embedder` that this module needs."""

    def try_embed_images(
        self, items: Sequence[Source], *, encode: Callable[[np.ndarray], np.ndarray] | None = None,
        progress: Progress | None = None,
    ) -> EmbeddingResult: ...  # fmt: skip
    def try_embed_texts(self, texts: Sequence[str], *, truncate: bool = False) -> EmbeddingResult[int]: ...


class FoundPictures(NamedTuple):
    """The pictures of several sources, and how many links that lead out of their folders were not followed."""

    pictures: list[Source]
    links: int


@dataclass(frozen=True, eq=False)
class ClassifiedFiles:
    """Labels of the `pictures` that could be read: `classification` has a row for each.

    `failures` says why others could not be read; `links` counts those that lead out of a folder and were not followed.
    `accuracy` is of the pictures in folders named as a label, None where there are none; `unlabelled` counts all
    others. `scale` is the inverse temperature used, the model's own or that of `calibration`, whose unreadable pictures
    are in `calibration_failures`.
    """

    pictures: list[Source]
    classification: Classification
    failures: dict[Source, Failure]
    links: int
    scale: float
    accuracy: Accuracy | None
    unlabelled: int
    calibration: Calibration | None
    calibration_failures: dict[Source, Failure]


@dataclass(frozen=True, eq=False)
class ComparedFiles:
    """The measures of `pictures` by `texts`, of those that could be read. `picture_failures` and `text_failures` say
    why others could not, the latter by position; `links` counts those that were not followed."""

    pictures: list[Source]
    texts: list[str]
    links: int
    measures: Comparison
    picture_failures: dict[Source, Failure]
    text_failures: dict[int, Failure]


def find_pictures(sources: Iterable[Source], *, follow_links: bool = False) -> FoundPictures:
    """Files, URLs and pictures as they are, and every picture in or below those that are folders. Links that lead out
    of a folder are followed with `follow_links`, and counted without."""
    found, links = list[Source](), list[Path]()
    follows = (lambda path: True) if follow_links else None
    for source in sources:
        if isinstance(source, (str, os.PathLike)) and os.path.isdir(source):
            found += find_images(source, follows=follows, skipped=links)
        else:
            found.append(source)
    return FoundPictures(found, len(links))


def classify_files(
    model: Model, sources: Sequence[Source], labels: LabelSet, *, calibrate: str | os.PathLike[str] | None,
    follow_links: bool, progress: Progress | None,
) -> ClassifiedFiles:  # fmt: skip
    """See `Embedder.classify_files`."""
    labelled = find_pictures([calibrate] if calibrate else [], follow_links=follow_links)
    calibration, unread = _calibration(model, calibrate, labelled.pictures, labels) if calibrate else (None, {})
    found = find_pictures(sources, follow_links=follow_links)
    seen = model.try_embed_images(found.pictures, encode=labels.encode, progress=progress)
    cosines = seen.vectors if seen.keys else np.empty((0, len(labels.vectors)), np.float32)
    judged = labels.classify(cosines, calibration and calibration.scale)
    answers = _answers(judged.labels, seen.keys, sources)
    counted = [at for at, answer in enumerate(answers) if answer is not None]
    right = np.array([answers[at] for at in counted], np.int64)
    return ClassifiedFiles(
        pictures=seen.keys, classification=judged, failures=seen.failures, links=found.links + labelled.links,
        scale=(calibration and calibration.scale) or labels.scale,
        accuracy=accuracy(judged.probabilities[counted], right, judged.labels) if counted else None,
        unlabelled=len(answers) - len(counted), calibration=calibration, calibration_failures=unread,
    )  # fmt: skip


def _calibration(
    model: Model, folder: str | os.PathLike[str], pictures: Sequence[Source], labels: LabelSet
) -> tuple[Calibration, dict[Source, Failure]]:
    """By the pictures of a folder, each in a folder named as its label. Raises ArgumentError where one is not, or there
    is none."""
    seen = model.try_embed_images(pictures, encode=labels.encode)
    answers = _answers(labels.names, seen.keys, [folder])
    if not answers or None in answers:
        odd = sorted({Path(str(path)).parent.name for path, at in zip(seen.keys, answers, strict=True) if at is None})
        which = f"pictures in {odd[0]!r}, which is no label" if odd else "no picture that can be read"
        names = ", ".join(labels.names[:5])
        raise ArgumentError(f"{folder} has {which}; wanted folders called {names}.", argument="calibrate")
    return calibrated(seen.vectors[:, : len(labels.names)], np.array(answers, np.int64)), seen.failures


def _answers(labels: Sequence[str], pictures: Sequence[Source], sources: Sequence[Source]) -> list[int | None]:
    """The number of the label that the folder of each picture is named as, in one of the sources; None for pictures in
    other folders, and for those that are no files."""
    folders = [source for source in sources if isinstance(source, (str, os.PathLike)) and os.path.isdir(source)]
    files = {at: each for at, each in enumerate(pictures) if isinstance(each, (str, os.PathLike))}
    known = dict(zip(files, labels_from_paths(labels, files.values(), folders), strict=True))
    return [known.get(at) for at in range(len(pictures))]


def compare_files(
    model: Model, sources: Sequence[Source], texts: Sequence[str], *, truncate: bool, follow_links: bool,
    progress: Progress | None,
) -> ComparedFiles:  # fmt: skip
    """See `Embedder.compare_files`."""
    read = model.try_embed_texts(texts, truncate=truncate)
    found = find_pictures(sources, follow_links=follow_links)
    seen = model.try_embed_images(found.pictures, progress=progress)
    measures = compare(seen.vectors, read.vectors)
    kept: list[str] = [texts[at] for at in read.keys]
    return ComparedFiles(seen.keys, kept, found.links, measures, seen.failures, read.failures)
