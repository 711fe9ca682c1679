"""Trains a linear probe of a model on a data set of classes, as `diptych probe` does."""

from __future__ import annotations

import os
from collections.abc import Callable

from diptych.embedder import Embedder
from diptych.errors import DataError
from diptych.evaluation.sets.dataset import LabelledDataset
from diptych.evaluation.sets.opening import open_set, training_set
from diptych.evaluation.tasks.features import kept_for_user
from diptych.evaluation.tasks.job import EvaluationJob
from diptych.evaluation.tasks.probing import ProbeResult, probe_set
from diptych.scoring.zero_shot import load_templates


def probe(
    model: Embedder,
    data: str | os.PathLike[str],
    *,
    val: str | os.PathLike[str] | None = None,
    shots: int | None = None,
    plain: bool = False,
    templates: str | os.PathLike[str] = "general",
    seed: int = 0,
    allow_outside: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ProbeResult:
    """Train a linear classifier on the vectors of `data` and evaluate it.

    `data` is a folder of class folders, with or without splits (train/, test/, val/) above them, or another data set of
    classes that `diptych.evaluate` reads. It is evaluated on `val`, else on the held-out split of `data`, else on half
    of each class. `shots` trains on that many pictures of each class. The probe starts from the zero-shot classifier of
    `templates` (see `zero_shot.load_templates`) or from zero, whichever is better in cross-validation; `plain` starts
    from zero. `progress` is called with (done, total) pictures. Vectors are kept in the user's cache. Needs
    scipy. Raises DataError and ArgumentError.
    """
    prompts = load_templates(templates)
    judged = _classes(val or data, allow_outside)
    train = training_set(data, allow_outside=allow_outside)
    if val and train is None:
        train = _classes(data, allow_outside)
    with kept_for_user() as cache:
        job = EvaluationJob(model, judged, train, os.fspath(templates), prompts, seed, cache, progress)
        result = probe_set(job, shots=shots, plain=plain)
    descriptions = dict.fromkeys(dataset.description for dataset in (judged, train) if dataset and dataset.description)
    return result._replace(notes=(*descriptions, *job.left_out.values()), fingerprint=model.fingerprint)


def _classes(source: str | os.PathLike[str], allow_outside: bool) -> LabelledDataset:
    dataset = open_set(source, kind="classes", allow_outside=allow_outside)
    if not isinstance(dataset, LabelledDataset):
        raise DataError(f"{source} has captions and no classes; a probe needs a folder for each class.")
    return dataset
