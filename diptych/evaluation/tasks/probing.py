"""Linear probes: trained on all training pictures of a data set, or on a few of each class."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from diptych.data.samples import count
from diptych.data.sources.classes import spelling
from diptych.errors import DataError
from diptych.evaluation.sets.dataset import LabelledDataset
from diptych.evaluation.tasks.job import EvaluationJob, TaskResult, template_settings
from diptych.scoring.probe import (
    SHOTS,
    CentredFeatures,
    Probe,
    Search,
    Split,
    few_shots,
    from_class_vectors,
    interpolated,
)

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

HELD_OUT = 0.2  # the share of training pictures on which L2 penalty and start are chosen
MIN_HELD_OUT, FOLDS = 100, 5  # with fewer held out, five-fold cross-validation chooses
DRAWS = 3
MAX_VALIDATION = 4  # per class: as many as shots, up to four, as in CoOp's code (Zhou et al. 2022)
PLAIN_L2 = 1.0  # if there are no pictures to choose it on
WISE_FT_ALPHA = 0.5  # the share of the fitted weights (Wortsman et al. 2022)
ZERO_SHOT_START, ZERO_START = "names", "nothing"  # the weights that a probe starts from and is pulled towards


class FeatureSplit(NamedTuple):
    """Training and test vectors with their class indices, and the indices of the test pictures in the data set."""

    train: Float[np.ndarray, "n dim"]
    train_labels: Int[np.ndarray, " n"]
    test: Float[np.ndarray, "m dim"]
    test_labels: Int[np.ndarray, " m"]
    indices: Int[np.ndarray, " m"]
    failures: dict[str, int]


def probe_settings(job: EvaluationJob) -> dict[str, Any]:
    """The prompts, the training pictures, and how the L2 penalty and the start are chosen."""
    chosen_on = f"{HELD_OUT:.0%}, or each of {FOLDS} parts where that is less than {MIN_HELD_OUT}"
    return {**template_settings(job), "train": _train_words(job), "chosen_on": chosen_on}


def few_shot_settings(job: EvaluationJob) -> dict[str, Any]:
    """`probe_settings`, the number of draws, and the interpolation of weights."""
    chosen_on = f"as many other pictures of each class, at most {MAX_VALIDATION}, as well"
    return {**probe_settings(job), "draws": DRAWS, "wise": WISE_FT_ALPHA, "shots_chosen_on": chosen_on}


def _train_words(job: EvaluationJob) -> str:
    if job.train is not None:
        return f"the split {job.train.pictures.split}"
    return f"half of each class, drawn by seed {job.seed}; judged on the other half"


def probe_task(job: EvaluationJob) -> TaskResult:
    """Multinomial logistic regression on the vectors. `top1` is the accuracy of `diptych probe`, which starts from the
    zero-shot weights or from zero, whichever is better in cross-validation; `plain` is the accuracy from zero, as in
    Radford et al. 2021, appendix A.3."""
    parts, zero = split_features(job), _zero_shot(job)
    found = full_probe(parts, zero, job.seed)
    plain = found if found.start == ZERO_START else full_probe(parts, zero, job.seed, plain=True)
    right = _correct(found.probe, parts)
    numbers = {"top1": _mean_percent(right), "l2": found.probe.l2, "validation_top1": found.validation}
    details = {"trained_on": len(parts.train), "start": found.start, "in_cross_validation": found.tried}
    per_item = {"places": parts.indices, "right": right, "plain_right": _correct(plain.probe, parts)}
    numbers["plain"] = _mean_percent(per_item["plain_right"])
    return TaskResult(numbers, len(right), parts.failures, details, per_item)


def few_shot_task(job: EvaluationJob) -> TaskResult:
    """Probes on 1 to 16 pictures of each class and on all pictures, trained as in `diptych probe`; and their weights
    interpolated with the zero-shot weights (WiSE-FT)."""
    parts = split_features(job)
    zero = _zero_shot(job)
    per_item = {"places": parts.indices, "zero_shot_right": _correct(zero, parts)}
    curve = []
    most = int(np.bincount(parts.train_labels).max())
    for shots in (each for each in SHOTS if each <= most):
        draws = [few_shot_probe(parts, zero, shots, job.seed + draw) for draw in range(DRAWS)]
        rights = np.stack([_correct(draw.probe, parts) for draw in draws])
        wise = np.stack([_correct(_wise_ft(zero, draw.probe), parts) for draw in draws])
        per_item |= {f"shots_{shots}_right": rights.mean(axis=0), f"shots_{shots}_wise_right": wise.mean(axis=0)}
        shares = 100 * rights.mean(axis=1, dtype=np.float64)
        values = {"accuracy": shares.mean(), "low": shares.min(), "high": shares.max(), "wise": _mean_percent(wise)}
        point = {"shots": shots, **{name: float(value) for name, value in values.items()}}
        curve.append(point | {"starts": [draw.start for draw in draws], "draws": shares.tolist()})
    every = full_probe(parts, zero, job.seed)
    per_item |= {"right": _correct(every.probe, parts), "wise_right": _correct(_wise_ft(zero, every.probe), parts)}
    numbers = {"zero_shot": _mean_percent(per_item["zero_shot_right"])}
    numbers |= {f"shots_{point['shots']}": point["accuracy"] for point in curve}
    numbers["all"] = _mean_percent(per_item["right"])
    details = {"curve": curve, "all_wise": _mean_percent(per_item["wise_right"]), "trained_on": len(parts.train)}
    details["start"] = every.start
    return TaskResult(numbers, len(parts.test), parts.failures, details, per_item)


def _zero_shot(job: EvaluationJob) -> Probe:
    """The zero-shot classifier as a probe."""
    return from_class_vectors(job.classes, range(len(job.classes)), scale=job.model.scale)


def completed(probe: Probe, zero: Probe) -> Probe:
    """A probe with the zero-shot weights for the classes that it was not trained on. Its biases are shifted to a mean
    of zero, like the zero-shot ones; predictions among its own classes do not change."""
    weights, bias = zero.weights.copy(), zero.bias.copy()
    weights[probe.classes], bias[probe.classes] = probe.weights, probe.bias - probe.bias.mean()
    return Probe(weights, bias, zero.classes, probe.l2)


def _wise_ft(zero: Probe, probe: Probe) -> Probe:
    return interpolated(zero, completed(probe, zero), WISE_FT_ALPHA)


def _mean_percent(rights: np.ndarray) -> float:
    return 100 * float(rights.mean(dtype=np.float64))


def _correct(probe: Probe, parts: FeatureSplit) -> Float[np.ndarray, " m"]:
    return (probe.predict(parts.test) == parts.test_labels).astype(np.float32)


class SelectedStart(NamedTuple):
    """A probe, its start ("names" or "nothing"), its accuracy in percent on held-out training pictures (NaN if there
    were none), and that accuracy and the mean cross entropy for each start that was tried."""

    probe: Probe
    start: str
    validation: float
    tried: dict[str, dict[str, float]]


def full_probe(parts: FeatureSplit, zero: Probe, seed: int, *, plain: bool = False) -> SelectedStart:
    """A probe on all training pictures; `plain` starts it from zero."""
    splits = splits_of(parts.train, parts.train_labels, seed)
    return _select_start(parts.train, parts.train_labels, splits, None if plain else zero)


def few_shot_probe(parts: FeatureSplit, zero: Probe, shots: int, seed: int, *, plain: bool = False) -> SelectedStart:
    """A probe on `shots` random training pictures of each class. L2 penalty and start are chosen on as many others, at
    most MAX_VALIDATION of a class, and, if these are fewer than MIN_HELD_OUT, by cross-validation as well."""
    chosen = few_shots(parts.train_labels, shots, seed=seed)
    rest = np.setdiff1d(np.arange(len(parts.train_labels)), chosen)
    features, labels = parts.train[chosen], parts.train_labels[chosen]
    if not len(rest):
        return _select_start(features, labels, splits_of(features, labels, seed), None if plain else zero)
    judged = rest[few_shots(parts.train_labels[rest], min(shots, MAX_VALIDATION), seed=seed)]
    splits = [Split(CentredFeatures(features, labels), parts.train[judged], parts.train_labels[judged])]
    if len(judged) < MIN_HELD_OUT:
        splits += splits_of(features, labels, seed)
    return _select_start(features, labels, splits, None if plain else zero)


def _select_start(
    features: np.ndarray, labels: np.ndarray, splits: Sequence[Split], zero: Probe | None
) -> SelectedStart:
    """The better start by the cross entropy on held-out pictures, because accuracy on few pictures is too noisy. The
    probe is judged as it will be used: with the zero-shot weights of classes that it was not trained on."""
    searches = {ZERO_START: Search(splits)}
    if zero is not None:
        near, whole_of = zero.weights[np.unique(labels)], partial(completed, zero=zero)
        searches = {ZERO_SHOT_START: Search(splits, prior=near, finish=whole_of), **searches}
    tried = {start: _tried(search) for start, search in searches.items()} if splits else {}
    start = min(tried, key=lambda each: tried[each]["loss"]) if tried else next(iter(searches))
    best = searches[start].fine() if splits else None
    l2, first = (best.probe.l2, best.probe) if best else (PLAIN_L2, None)
    probe = CentredFeatures(features, labels).fit(l2, start=first, prior=searches[start].prior)
    probe = searches[start].finish(probe)
    return SelectedStart(probe, start, best.accuracy if best else float("nan"), tried)


def _tried(search: Search) -> dict[str, float]:
    return {"top1": search.coarse().accuracy, "loss": search.loss}


def splits_of(features: Float[np.ndarray, "n dim"], labels: Int[np.ndarray, " n"], seed: int) -> list[Split]:
    """One split with a fifth held out if that is enough pictures, else one for each fold; none if every class has a
    single picture."""
    one = held_out(labels, HELD_OUT, seed)
    held = [one] if one.sum() >= MIN_HELD_OUT else [part for part in folds(labels, seed) if part.any()]
    return [Split(CentredFeatures(features[~part], labels[~part]), features[part], labels[part]) for part in held]


def folds(labels: Int[np.ndarray, " n"], seed: int) -> list[Bool[np.ndarray, " n"]]:
    """Five random folds of each class, or as many as the largest class has pictures. The picture of a class with one
    picture is in no fold."""
    generator, number = np.random.default_rng([seed, FOLDS]), np.full(len(labels), -1)
    parts = min(FOLDS, int(np.unique(labels, return_counts=True)[1].max()))
    for one in np.unique(labels):
        own = generator.permutation(np.flatnonzero(labels == one))
        if len(own) > 1:
            number[own] = (np.arange(len(own)) + generator.integers(parts)) % parts
    return [number == part for part in range(parts)]


def held_out(labels: Int[np.ndarray, " n"], share: float, seed: int) -> Bool[np.ndarray, " n"]:
    """A random share of each class, at least one picture of a class with two or more; one picture always stays."""
    generator = np.random.default_rng([seed, 20])
    held = np.zeros(len(labels), bool)
    for one in np.unique(labels):
        own = generator.permutation(np.flatnonzero(labels == one))
        held[own[: min(max(1, round(share * len(own))), len(own) - 1)]] = True
    return held


def split_features(job: EvaluationJob) -> FeatureSplit:
    """The data set's vectors and those of its training split; without one, two halves of each class. Raises DataError
    if a half would be empty or the training split has other classes."""
    seen, labelled = job.embed(job.labelled), job.labelled
    labels = labelled.labels[seen.indices]
    if job.train is None:
        test = held_out(labels, 0.5, job.seed)
        if not test.any():
            raise DataError("every class has a single picture; a probe needs some for training and others for testing.")
        halves = seen.vectors[~test], labels[~test], seen.vectors[test], labels[test]
        return FeatureSplit(*halves, seen.indices[test], seen.reasons())
    learnt = job.embed(job.train)
    failures = seen.reasons()
    for reason, number in learnt.reasons().items():
        count(failures, f"{reason} (training)", number)
    renamed = _renumbered(job.train, labelled)[job.train.labels[learnt.indices]]
    return FeatureSplit(learnt.vectors, renamed, seen.vectors, labels, seen.indices, failures)


def _renumbered(train: LabelledDataset, test: LabelledDataset) -> Int[np.ndarray, " classes"]:
    """For each training class its index in the data set. Raises DataError for one that the data set does not have."""
    spelt = [spelling(name) for name in test.classes]
    if missing := [name for name in train.classes if spelling(name) not in spelt]:
        raise DataError(f"the training pictures have the class {missing[0]!r}, which the test pictures do not have.")
    return np.array([spelt.index(spelling(name)) for name in train.classes])


class ProbeResult(NamedTuple):
    """A linear probe of a model, its accuracy in percent, and that of the zero-shot classifier.

    `classes` are the names for the indices in `probe.classes`; `unlearnt` are those without training pictures. `start`
    is its start, "names" (the zero-shot classifier) or "nothing" (zero); `tried` has the accuracy and mean cross
    entropy of each start in cross-validation, and `validation` the accuracy of the chosen one (NaN if nothing was held
    out). `failures` counts unreadable pictures by reason; `notes` describe them and the data set; `fingerprint` is the
    model's.
    """

    probe: Probe
    classes: tuple[str, ...]
    accuracy: float
    zero_shot: float
    validation: float
    trained_on: int
    judged_on: int
    failures: dict[str, int]
    train: str
    unlearnt: tuple[str, ...] = ()
    start: str = ZERO_SHOT_START
    tried: Mapping[str, Mapping[str, float]] = {}
    notes: tuple[str, ...] = ()
    fingerprint: str = ""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights, bias, classes, l2 and the model's fingerprint as an .npz file."""
        names = np.array([self.classes[number] for number in self.probe.classes])
        weights, bias, l2 = self.probe.weights, self.probe.bias, self.probe.l2
        with open(path, "wb") as file:
            np.savez(file, weights=weights, bias=bias, classes=names, l2=l2, fingerprint=self.fingerprint)


def probe_set(job: EvaluationJob, *, shots: int | None = None, plain: bool = False) -> ProbeResult:
    """A probe of a job's data set, trained on all training pictures or on `shots` of each class. It starts from the
    zero-shot weights or from zero, whichever is better in cross-validation; `plain` starts it from zero, as in Radford
    et al. 2021. Raises DataError."""
    parts, zero = split_features(job), _zero_shot(job)
    if shots is None:
        found, trained = full_probe(parts, zero, job.seed, plain=plain), len(parts.train)
    else:
        found = few_shot_probe(parts, zero, shots, job.seed, plain=plain)
        trained = len(few_shots(parts.train_labels, shots, seed=job.seed))
    known = np.unique(parts.train_labels)
    return ProbeResult(
        probe=found.probe,
        classes=job.labelled.classes,
        accuracy=_mean_percent(_correct(found.probe, parts)),
        zero_shot=_mean_percent(_correct(zero, parts)),
        validation=found.validation,
        trained_on=trained,
        judged_on=len(parts.test),
        failures=parts.failures,
        train=_train_words(job),
        unlearnt=tuple(name for at, name in enumerate(job.labelled.classes) if at not in known),
        start=found.start,
        tried=found.tried,
    )
