"""Linear probes on a set: on all of its training pictures, and on a few of each class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from diptych.data.classes import spelling
from diptych.data.samples import DataError, count
from diptych.evaluation.sets import Labelled
from diptych.evaluation.tasks import Job, Outcome, of_templates
from diptych.probe import SHOTS, Features, Probe, few_shots, mixed, of_vectors, sweep

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

HELD_OUT = 0.2  # of the training pictures, on which the strength of the regularisation is chosen
DRAWS = 3
MOST_VALIDATION = 4  # of a class: as many as shots, up to four, as in the published code of CoOp (Zhou et al. 2022)
PLAIN_L2 = 1.0  # where nothing is left to choose it by
WISE = 0.5  # the share of the fitted weights (Wortsman et al. 2022)


class Parts(NamedTuple):
    """Vectors to learn from and to be judged by, with their class numbers, and the places of the latter in the set."""

    train: Float[np.ndarray, "n dim"]
    train_answers: Int[np.ndarray, " n"]
    test: Float[np.ndarray, "m dim"]
    test_answers: Int[np.ndarray, " m"]
    places: Int[np.ndarray, " m"]
    failures: dict[str, int]


class Fitted(NamedTuple):
    """A probe on all training pictures, and its accuracy in percent on the held-out part, before that was taken in."""

    probe: Probe
    validation: float


def probe_settings(job: Job) -> dict[str, Any]:
    """What it is trained on."""
    return {"train": _train_words(job), "held_out": HELD_OUT}


def few_shot_settings(job: Job) -> dict[str, Any]:
    """Prompts, draws and the mixing of weights as well."""
    chosen_on = f"as many other pictures of each class, at most {MOST_VALIDATION}"
    return {**of_templates(job), **probe_settings(job), "draws": DRAWS, "wise": WISE, "l2_chosen_on": chosen_on}


def _train_words(job: Job) -> str:
    if job.train is not None:
        return f"the split {job.train.pictures.split}"
    return f"half of each class, drawn by seed {job.seed}; judged on the other half"


def probe_task(job: Job) -> Outcome:
    """Multinomial logistic regression on the vectors (Radford et al. 2021, appendix A.3)."""
    parts = parts_of(job)
    probe, validation = fitted(parts.train, parts.train_answers, job.seed)
    right = (probe.predict(parts.test) == parts.test_answers).astype(np.float32)
    numbers = {"top1": _percent(right), "l2": probe.l2, "validation_top1": validation}
    result = Outcome(numbers, len(right), parts.failures, {"trained_on": len(parts.train)})
    result.per_item = {"places": parts.places, "right": right}
    return result


def few_shot_task(job: Job) -> Outcome:
    """Probes that start at the zero-shot weights and stay near them, on 1 to 16 pictures of a class and on all; and
    their weights mixed with the zero-shot ones."""
    parts = parts_of(job)
    zero = _zero_shot(job)
    near = zero.weights[np.unique(parts.train_answers)]
    per_item = {"places": parts.places, "zero_shot_right": _right(zero, parts)}
    curve = []
    most = int(np.bincount(parts.train_answers).max())
    for shots in (each for each in SHOTS if each <= most):
        draws = [completed(_draw(parts, near, shots, job.seed + draw), zero) for draw in range(DRAWS)]
        rights = np.stack([_right(probe, parts) for probe in draws])
        wise = np.stack([_right(mixed(zero, probe, WISE), parts) for probe in draws])
        per_item |= {f"shots_{shots}_right": rights.mean(axis=0), f"shots_{shots}_wise_right": wise.mean(axis=0)}
        shares = 100 * rights.mean(axis=1, dtype=np.float64)
        said = {"accuracy": shares.mean(), "low": shares.min(), "high": shares.max(), "wise": _percent(wise)}
        curve.append({"shots": shots, **{name: float(value) for name, value in said.items()}})
    whole = completed(fitted(parts.train, parts.train_answers, job.seed, prior=near).probe, zero)
    per_item |= {"right": _right(whole, parts), "wise_right": _right(mixed(zero, whole, WISE), parts)}
    numbers = {"zero_shot": _percent(per_item["zero_shot_right"])}
    numbers |= {f"shots_{point['shots']}": point["accuracy"] for point in curve}
    numbers["all"] = _percent(per_item["right"])
    details = {"curve": curve, "all_wise": _percent(per_item["wise_right"]), "trained_on": len(parts.train)}
    return Outcome(numbers, len(parts.test), parts.failures, details, per_item)


def _zero_shot(job: Job) -> Probe:
    """The names of all classes as a probe, by the classes' numbers."""
    return of_vectors(job.classes, range(len(job.classes)), scale=job.model.scale)


def completed(probe: Probe, zero: Probe) -> Probe:
    """A probe that was fitted near the zero-shot weights, with these for the classes that it had no picture of. Its
    biases are shifted together, which changes none of its own answers, to be zero in the mean as the others' are."""
    weights, bias = zero.weights.copy(), zero.bias.copy()
    weights[probe.classes], bias[probe.classes] = probe.weights, probe.bias - probe.bias.mean()
    return Probe(weights, bias, zero.classes, probe.l2)


def _percent(rights: np.ndarray) -> float:
    return 100 * float(rights.mean(dtype=np.float64))


def _right(probe: Probe, parts: Parts) -> Float[np.ndarray, " m"]:
    return (probe.predict(parts.test) == parts.test_answers).astype(np.float32)


def _draw(parts: Parts, near: Float[np.ndarray, "classes dim"] | None, shots: int, seed: int) -> Probe:
    """One draw of so many of each class. The strength is chosen on other training pictures, as many, at most four of a
    class; where none are left, on some that are held out of the chosen."""
    chosen = few_shots(parts.train_answers, shots, seed=seed)
    rest = np.setdiff1d(np.arange(len(parts.train_answers)), chosen)
    features, answers = parts.train[chosen], parts.train_answers[chosen]
    if not len(rest):
        return fitted(features, answers, seed, prior=near).probe
    judged = rest[few_shots(parts.train_answers[rest], min(shots, MOST_VALIDATION), seed=seed)]
    return sweep(features, answers, parts.train[judged], parts.train_answers[judged], prior=near).probe


def fitted(
    features: Float[np.ndarray, "n dim"], answers: Int[np.ndarray, " n"], seed: int,
    *, prior: Float[np.ndarray, "classes dim"] | None = None,
) -> Fitted:  # fmt: skip
    """A probe on all of these, of the strength that did best on a held-out part when trained on the rest. Where every
    class has but one picture nothing can be held out: the strength is then PLAIN_L2, and `validation` NaN."""
    held = held_out(answers, HELD_OUT, seed)
    if not held.any():
        return Fitted(Features(features, answers).fit(PLAIN_L2, prior=prior), float("nan"))
    best = sweep(features[~held], answers[~held], features[held], answers[held], prior=prior)
    return Fitted(Features(features, answers).fit(best.probe.l2, start=best.probe, prior=prior), best.accuracy)


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


class Probed(NamedTuple):
    """A probe of the vectors of a model, its accuracy in percent, and that of the names of its classes without any
    training. `classes` are the names by the numbers in probe.classes, `unlearnt` those of which there was no picture to
    learn from; `validation` is NaN where the strength was not chosen on held-out pictures."""

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


def probe_set(job: Job, *, shots: int | None = None, plain: bool = False) -> Probed:
    """A probe of a job's set, on all training pictures or on `shots` of each class. It begins at the zero-shot weights
    and stays near them; `plain`, it begins at nothing, as in the paper. Raises DataError."""
    parts, zero = parts_of(job), _zero_shot(job)
    known, validation = np.unique(parts.train_answers), float("nan")
    near = None if plain else zero.weights[known]
    if shots is None:
        probe, validation = fitted(parts.train, parts.train_answers, job.seed, prior=near)
        trained = len(parts.train)
    else:
        probe = _draw(parts, near, shots, job.seed)
        trained = len(few_shots(parts.train_answers, shots, seed=job.seed))
    probe = probe if plain else completed(probe, zero)
    unlearnt = tuple(name for at, name in enumerate(job.labelled.classes) if at not in known)
    accuracy, before = (_percent(_right(each, parts)) for each in (probe, zero))
    judged, train = len(parts.test), _train_words(job)
    return Probed(
        probe, job.labelled.classes, accuracy, before, validation, trained, judged, parts.failures, train, unlearnt
    )
