"""Linear probes on a set: on all of its training pictures, and on a few of each class."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from diptych.data.samples import count
from diptych.data.sources.classes import spelling
from diptych.errors import DataError
from diptych.evaluation.sets.sets import Labelled
from diptych.evaluation.tasks.tasks import Job, Outcome, of_templates
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

HELD_OUT = 0.2  # of the training pictures, on which strength and beginning are chosen
ENOUGH, FOLDS = 100, 5  # where that is fewer pictures than this, they are chosen on each of five parts in turn
DRAWS = 3
MOST_VALIDATION = 4  # of a class: as many as shots, up to four, as in the published code of CoOp (Zhou et al. 2022)
PLAIN_L2 = 1.0  # where nothing is left to choose it by
WISE = 0.5  # the share of the fitted weights (Wortsman et al. 2022)
NAMES, NOTHING = "names", "nothing"  # where a probe begins, and what it stays near


class Parts(NamedTuple):
    """Vectors to learn from and to be judged by, with their class numbers, and the places of the latter in the set."""

    train: Float[np.ndarray, "n dim"]
    train_answers: Int[np.ndarray, " n"]
    test: Float[np.ndarray, "m dim"]
    test_answers: Int[np.ndarray, " m"]
    places: Int[np.ndarray, " m"]
    failures: dict[str, int]


def probe_settings(job: Job) -> dict[str, Any]:
    """Prompts, what it is trained on, and how its strength and beginning are chosen."""
    chosen_on = f"{HELD_OUT:.0%}, or each of {FOLDS} parts where that is less than {ENOUGH}"
    return {**of_templates(job), "train": _train_words(job), "chosen_on": chosen_on}


def few_shot_settings(job: Job) -> dict[str, Any]:
    """Draws and the mixing of weights as well."""
    chosen_on = f"as many other pictures of each class, at most {MOST_VALIDATION}, as well"
    return {**probe_settings(job), "draws": DRAWS, "wise": WISE, "shots_chosen_on": chosen_on}


def _train_words(job: Job) -> str:
    if job.train is not None:
        return f"the split {job.train.pictures.split}"
    return f"half of each class, drawn by seed {job.seed}; judged on the other half"


def probe_task(job: Job) -> Outcome:
    """Multinomial logistic regression on the vectors: `top1` is what `diptych probe` gives, which begins at the names
    of the classes or at nothing, whichever does better in cross-validation; `plain` what it gives from nothing, as in
    Radford et al. 2021, appendix A.3."""
    parts, zero = parts_of(job), _zero_shot(job)
    found = whole(parts, zero, job.seed)
    plain = found if found.start == NOTHING else whole(parts, zero, job.seed, plain=True)
    right = _right(found.probe, parts)
    numbers = {"top1": _percent(right), "l2": found.probe.l2, "validation_top1": found.validation}
    details = {"trained_on": len(parts.train), "start": found.start, "in_cross_validation": found.tried}
    per_item = {"places": parts.places, "right": right, "plain_right": _right(plain.probe, parts)}
    numbers["plain"] = _percent(per_item["plain_right"])
    return Outcome(numbers, len(right), parts.failures, details, per_item)


def few_shot_task(job: Job) -> Outcome:
    """Probes on 1 to 16 pictures of a class and on all, each as `diptych probe` makes it; and their weights mixed with
    the zero-shot ones."""
    parts = parts_of(job)
    zero = _zero_shot(job)
    per_item = {"places": parts.places, "zero_shot_right": _right(zero, parts)}
    curve = []
    most = int(np.bincount(parts.train_answers).max())
    for shots in (each for each in SHOTS if each <= most):
        draws = [few(parts, zero, shots, job.seed + draw) for draw in range(DRAWS)]
        rights = np.stack([_right(draw.probe, parts) for draw in draws])
        wise = np.stack([_right(_wise(zero, draw.probe), parts) for draw in draws])
        per_item |= {f"shots_{shots}_right": rights.mean(axis=0), f"shots_{shots}_wise_right": wise.mean(axis=0)}
        shares = 100 * rights.mean(axis=1, dtype=np.float64)
        said = {"accuracy": shares.mean(), "low": shares.min(), "high": shares.max(), "wise": _percent(wise)}
        point = {"shots": shots, **{name: float(value) for name, value in said.items()}}
        curve.append(point | {"starts": [draw.start for draw in draws], "draws": shares.tolist()})
    every = whole(parts, zero, job.seed)
    per_item |= {"right": _right(every.probe, parts), "wise_right": _right(_wise(zero, every.probe), parts)}
    numbers = {"zero_shot": _percent(per_item["zero_shot_right"])}
    numbers |= {f"shots_{point['shots']}": point["accuracy"] for point in curve}
    numbers["all"] = _percent(per_item["right"])
    details = {"curve": curve, "all_wise": _percent(per_item["wise_right"]), "trained_on": len(parts.train)}
    details["start"] = every.start
    return Outcome(numbers, len(parts.test), parts.failures, details, per_item)


def _zero_shot(job: Job) -> Probe:
    """The names of all classes as a probe, by the classes' numbers."""
    return from_class_vectors(job.classes, range(len(job.classes)), scale=job.model.scale)


def completed(probe: Probe, zero: Probe) -> Probe:
    """A probe that was fitted near the zero-shot weights, with these for the classes that it had no picture of. Its
    biases are shifted together, which changes none of its own answers, to be zero in the mean as the others' are."""
    weights, bias = zero.weights.copy(), zero.bias.copy()
    weights[probe.classes], bias[probe.classes] = probe.weights, probe.bias - probe.bias.mean()
    return Probe(weights, bias, zero.classes, probe.l2)


def _wise(zero: Probe, probe: Probe) -> Probe:
    return interpolated(zero, completed(probe, zero), WISE)


def _percent(rights: np.ndarray) -> float:
    return 100 * float(rights.mean(dtype=np.float64))


def _right(probe: Probe, parts: Parts) -> Float[np.ndarray, " m"]:
    return (probe.predict(parts.test) == parts.test_answers).astype(np.float32)


class Begun(NamedTuple):
    """A probe, where it began ("names" or "nothing"), how often it was right on pictures held out of those that it
    learns from (NaN where none could be), in percent, and for each beginning that was tried that and the mean cross
    entropy there."""

    probe: Probe
    start: str
    validation: float
    tried: dict[str, dict[str, float]]


def whole(parts: Parts, zero: Probe, seed: int, *, plain: bool = False) -> Begun:
    """A probe on all training pictures; `plain`, it begins at nothing in any case."""
    splits = splits_of(parts.train, parts.train_answers, seed)
    return _begun(parts.train, parts.train_answers, splits, None if plain else zero)


def few(parts: Parts, zero: Probe, shots: int, seed: int, *, plain: bool = False) -> Begun:
    """One draw of so many of each class. Strength and beginning are chosen by what is right on other training pictures,
    as many, at most four of a class, and, where these are too few, on parts of the chosen by the rest of them."""
    chosen = few_shots(parts.train_answers, shots, seed=seed)
    rest = np.setdiff1d(np.arange(len(parts.train_answers)), chosen)
    features, answers = parts.train[chosen], parts.train_answers[chosen]
    if not len(rest):
        return _begun(features, answers, splits_of(features, answers, seed), None if plain else zero)
    judged = rest[few_shots(parts.train_answers[rest], min(shots, MOST_VALIDATION), seed=seed)]
    splits = [Split(CentredFeatures(features, answers), parts.train[judged], parts.train_answers[judged])]
    if len(judged) < ENOUGH:
        splits += splits_of(features, answers, seed)
    return _begun(features, answers, splits, None if plain else zero)


def _begun(features: np.ndarray, answers: np.ndarray, splits: Sequence[Split], zero: Probe | None) -> Begun:
    """The better of two beginnings by the cross entropy of what is held out: of few pictures the share that is right is
    chance. It is judged as it will be used, with the names of classes that none of these pictures is of."""
    searches = {NOTHING: Search(splits)}
    if zero is not None:
        near, whole_of = zero.weights[np.unique(answers)], partial(completed, zero=zero)
        searches = {NAMES: Search(splits, prior=near, finish=whole_of), **searches}
    tried = {start: _tried(search) for start, search in searches.items()} if splits else {}
    start = min(tried, key=lambda each: tried[each]["loss"]) if tried else next(iter(searches))
    best = searches[start].fine() if splits else None
    l2, first = (best.probe.l2, best.probe) if best else (PLAIN_L2, None)
    probe = CentredFeatures(features, answers).fit(l2, start=first, prior=searches[start].prior)
    probe = searches[start].finish(probe)
    return Begun(probe, start, best.accuracy if best else float("nan"), tried)


def _tried(search: Search) -> dict[str, float]:
    return {"top1": search.coarse().accuracy, "loss": search.loss}


def splits_of(features: Float[np.ndarray, "n dim"], answers: Int[np.ndarray, " n"], seed: int) -> list[Split]:
    """A fifth to be judged by the rest, where that is enough, else each part in turn; none where every class has but
    one picture."""
    one = held_out(answers, HELD_OUT, seed)
    held = [one] if one.sum() >= ENOUGH else [part for part in folds(answers, seed) if part.any()]
    return [Split(CentredFeatures(features[~part], answers[~part]), features[part], answers[part]) for part in held]


def folds(answers: Int[np.ndarray, " n"], seed: int) -> list[Bool[np.ndarray, " n"]]:
    """Fifths of each class, drawn by the seed, or as many parts as the largest class has pictures; of a class with one
    picture none."""
    generator, number = np.random.default_rng([seed, FOLDS]), np.full(len(answers), -1)
    parts = min(FOLDS, int(np.unique(answers, return_counts=True)[1].max()))
    for one in np.unique(answers):
        own = generator.permutation(np.flatnonzero(answers == one))
        if len(own) > 1:
            number[own] = (np.arange(len(own)) + generator.integers(parts)) % parts
    return [number == part for part in range(parts)]


def held_out(answers: Int[np.ndarray, " n"], share: float, seed: int) -> Bool[np.ndarray, " n"]:
    """A share of each class, drawn by the seed; at least one of a class stays, and one goes where there are two."""
    generator = np.random.default_rng([seed, 20])
    held = np.zeros(len(answers), bool)
    for one in np.unique(answers):
        own = generator.permutation(np.flatnonzero(answers == one))
        held[own[: min(max(1, round(share * len(own))), len(own) - 1)]] = True
    return held


def parts_of(job: Job) -> Parts:
    """The set and its training split; of a set without one, two halves of each class. DataError where a half would be
    empty, or the split has other classes."""
    seen, labelled = job.seen(job.labelled), job.labelled
    answers = labelled.answers[seen.places]
    if job.train is None:
        test = held_out(answers, 0.5, job.seed)
        if not test.any():
            raise DataError(
                "every class has but one picture; a probe wants some to learn from and others to be judged by."
            )
        halves = seen.vectors[~test], answers[~test], seen.vectors[test], answers[test]
        return Parts(*halves, seen.places[test], seen.reasons())
    learnt = job.seen(job.train)
    failures = seen.reasons()
    for reason, number in learnt.reasons().items():
        count(failures, f"{reason} (training)", number)
    renamed = _renumbered(job.train, labelled)[job.train.answers[learnt.places]]
    return Parts(learnt.vectors, renamed, seen.vectors, answers, seen.places, failures)


def _renumbered(train: Labelled, test: Labelled) -> Int[np.ndarray, " classes"]:
    """Of each training class its number in the set. DataError for one that the set does not have."""
    spelt = [spelling(name) for name in test.classes]
    if missing := [name for name in train.classes if spelling(name) not in spelt]:
        raise DataError(
            f"the pictures to learn from have the class {missing[0]!r}, which those to be judged by have not."
        )
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
    start: str = NAMES
    tried: Mapping[str, Mapping[str, float]] = {}
    notes: tuple[str, ...] = ()
    fingerprint: str = ""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights, bias, classes, l2 and the model's fingerprint as an .npz file."""
        names = np.array([self.classes[number] for number in self.probe.classes])
        weights, bias, l2 = self.probe.weights, self.probe.bias, self.probe.l2
        with open(path, "wb") as file:
            np.savez(file, weights=weights, bias=bias, classes=names, l2=l2, fingerprint=self.fingerprint)


def probe_set(job: Job, *, shots: int | None = None, plain: bool = False) -> ProbeResult:
    """A probe of a job's set, on all training pictures or on `shots` of each class. It begins at the zero-shot weights
    and stays near them, or begins at nothing, whichever does better in cross-validation on what it learns from;
    `plain`, it begins at nothing in any case, as in the paper. Raises DataError."""
    parts, zero = parts_of(job), _zero_shot(job)
    if shots is None:
        found, trained = whole(parts, zero, job.seed, plain=plain), len(parts.train)
    else:
        found = few(parts, zero, shots, job.seed, plain=plain)
        trained = len(few_shots(parts.train_answers, shots, seed=job.seed))
    known = np.unique(parts.train_answers)
    return ProbeResult(
        probe=found.probe,
        classes=job.labelled.classes,
        accuracy=_percent(_right(found.probe, parts)),
        zero_shot=_percent(_right(zero, parts)),
        validation=found.validation,
        trained_on=trained,
        judged_on=len(parts.test),
        failures=parts.failures,
        train=_train_words(job),
        unlearnt=tuple(name for at, name in enumerate(job.labelled.classes) if at not in known),
        start=found.start,
        tried=found.tried,
    )
