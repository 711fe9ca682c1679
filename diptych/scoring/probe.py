"""Linear probes on frozen features: multinomial logistic regression, its L2 sweep, and few shots.

After Radford et al. 2021, appendix A.3: the strength of the regularisation is searched on a validation split, from 1e-6
to 1e6 in eight steps per decade, coarse to fine. The minimum is that of scikit-learn's LogisticRegression with
C = 1 / l2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.errors import ArgumentError
from diptych.extras import require

if TYPE_CHECKING:
    from jaxtyping import Float, Int

STEPS = 97  # strengths from 1e-6 to 1e6, eight per decade
STRENGTHS = np.logspace(-6, 6, STEPS)
FIRST = range(0, STEPS, 16)  # 1e-6, 1e-4, ..., 1e6
# L-BFGS stops at this relative decrease of the loss, which is then within about 1e-7 of its minimum. A smaller
# tolerance is below float32's noise, where line searches took most of the time. The gradient is a poor criterion: for
# separable classes it is small long before the minimum.
CLOSE, FLAT = 1e-8, 1e-8
APART = 0.005  # loss per sample below which the classes are separable, and float64 continues
SHOTS = (1, 2, 4, 8, 16)


class Probe(NamedTuple):
    """A linear classifier: the logit of class j of `classes` is features @ weights[j] + bias[j]. `l2` is the strength
    of its regularisation."""

    weights: Float[np.ndarray, "classes dim"]
    bias: Float[np.ndarray, " classes"]
    classes: np.ndarray
    l2: float

    def scores(self, features: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, "n classes"]:
        """Logits."""
        return features @ self.weights.T + self.bias

    def predict(self, features: Float[np.ndarray, "n dim"]) -> np.ndarray:
        """The most likely class of each sample."""
        return self.classes[self.scores(features).argmax(axis=1)]

    def accuracy(self, features: Float[np.ndarray, "n dim"], labels: np.ndarray) -> float:
        """The percentage of correct predictions."""
        return 100 * float(np.mean(self.predict(features) == labels))

    def loss(self, features: Float[np.ndarray, "n dim"], labels: np.ndarray) -> float:
        """The summed cross entropy. All labels must be among `classes`, which are sorted."""
        logits = self.scores(features).astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        own = logits[np.arange(len(labels)), np.searchsorted(self.classes, labels)]
        return float((np.log(np.exp(logits).sum(axis=1)) - own).sum())


class CentredFeatures:
    """Training features prepared for fitting at many strengths: centred and rotated to their principal axes, where the
    curvature of the loss is nearly diagonal, so that L-BFGS takes about ten steps instead of hundreds.

    Böhning 1992, "Multinomial logistic regression algorithm": the Hessian is at most half of X'X for each class. With
    X'X = V diag(s) V', the weights along the axes V, each times sqrt(s / 2 + l2), have a curvature between 0 and 1.
    """

    def __init__(self, features: Float[np.ndarray, "n dim"], labels: np.ndarray):
        require("a linear probe", "scipy")
        if len(features) != len(labels) or not len(features):
            raise ArgumentError(
                f"{len(labels)} labels for {len(features)} features; expected one each, and at least one."
            )
        self.classes, self.at = np.unique(labels, return_inverse=True)
        if len(self.classes) < 2:
            raise ArgumentError(f"all {len(labels)} labels are {self.classes[0]!r}; a probe needs two or more classes.")
        self.mean = features.mean(axis=0, dtype=np.float64)
        centred = (features - self.mean).astype(np.float32)
        self.curvature, self.axes = np.linalg.eigh(centred.T.astype(np.float64) @ centred)
        self.rotated = np.ascontiguousarray(centred @ self.axes.astype(np.float32))  # (n, dim)

    def fit(
        self, l2: float, *, start: Probe | None = None, prior: Float[np.ndarray, "classes dim"] | None = None
    ) -> Probe:
        """The minimum of the summed cross entropy + l2 / 2 |weights - prior|^2; the bias is not regularised. With two
        classes the term is l2 |weights - prior|^2, which regularises their difference as scikit-learn does, which fits
        the difference alone. `start` is a probe of these classes to start from; it changes the path, not the minimum.
        `prior` are the weights to regularise towards, by default 0."""
        held = 2 * l2 if len(self.classes) == 2 else l2
        shape = (len(self.classes), len(self.mean) + 1)
        step = 1 / np.sqrt(np.maximum(self.curvature, 0) / 2 + held + 1e-12)
        bias_step = 1 / np.sqrt(len(self.at) / 2)
        offset = np.zeros((shape[0], shape[1] - 1)) if prior is None else prior @ self.axes

        def loss(flat: np.ndarray, rotated: np.ndarray) -> tuple[float, np.ndarray]:
            inner = flat.reshape(shape)
            weights = inner[:, :-1] * step
            value, slopes = self._cross_entropy(weights, inner[:, -1] * bias_step, rotated)
            off = weights - offset
            slopes[:, :-1] += held * off
            slopes[:, :-1] *= step
            slopes[:, -1] *= bias_step
            return value + held / 2 * float((off * off).sum()), slopes.ravel()

        first = np.zeros(shape)
        if start is not None:
            rotated = start.weights @ self.axes
            first[:, :-1], first[:, -1] = rotated / step, (start.bias + start.weights @ self.mean) / bias_step
        elif prior is not None:
            first[:, :-1] = offset / step
        inner = self._least(loss, first.ravel()).reshape(shape)
        weights = (inner[:, :-1] * step) @ self.axes.T
        bias = inner[:, -1] * bias_step - weights @ self.mean
        return Probe(weights.astype(np.float32), bias.astype(np.float32), self.classes, l2)

    def _least(self, loss: Callable[..., tuple[float, np.ndarray]], first: np.ndarray) -> np.ndarray:
        """The minimum of `loss`, in float32. If the remaining loss is small, because the classes are separable, float64
        continues with the loss relative to the remaining one, until that no longer decreases: the sum of float32 values
        would be mostly noise."""
        from scipy.optimize import minimize

        options = {"maxiter": 500, "gtol": FLAT, "ftol": CLOSE}
        found = minimize(loss, first, (self.rotated,), "L-BFGS-B", jac=True, options=options)
        at, left = found.x, found.fun
        while 0 < left < APART * len(self.at):

            def share(flat: np.ndarray, of: float = left) -> tuple[float, np.ndarray]:
                value, slopes = loss(flat, self._exact)
                return value / of, slopes / of

            found = minimize(share, at, (), "L-BFGS-B", jac=True, options=options)
            at, before, left = found.x, left, found.fun * left
            if left > 0.99 * before:
                break
        return at

    @cached_property
    def _exact(self) -> np.ndarray:
        return self.rotated.astype(np.float64)

    def _cross_entropy(self, weights: np.ndarray, bias: np.ndarray, rotated: np.ndarray) -> tuple[float, np.ndarray]:
        """The sum over all samples and its gradient to (weights, bias), in the precision of the features `rotated`. The
        products use scipy's BLAS, as L-BFGS does: numpy has a BLAS of its own, and the threads of two compete (1.6
        times the time)."""
        from scipy.linalg import blas

        product = blas.sgemm if rotated.dtype == np.float32 else blas.dgemm  # type: ignore[attr-defined]
        logits = product(1.0, weights.astype(rotated.dtype), rotated.T)  # (classes, n)
        logits += bias.astype(rotated.dtype)[:, None]
        logits -= logits.max(axis=0)
        samples = np.arange(len(self.at))
        own = logits[self.at, samples].sum(dtype=np.float64)
        np.exp(logits, out=logits)
        sums = logits.sum(axis=0)
        value = float(np.log(sums, dtype=np.float64).sum() - own)
        logits /= sums
        logits[self.at, samples] -= 1
        slopes = product(1.0, logits, rotated.T, trans_b=True)
        return value, np.concatenate([slopes, logits.sum(axis=1)[:, None]], axis=1).astype(np.float64)


class Split(NamedTuple):
    """Features to fit, and validation features with their labels."""

    ready: CentredFeatures
    validation: Float[np.ndarray, "m dim"]
    labels: np.ndarray


class Swept(NamedTuple):
    """The best probe of a sweep (with several splits, that of the first), its accuracy on the validation features, and
    the accuracy at each strength."""

    probe: Probe
    accuracy: float
    tried: dict[float, float]


def sweep(
    features: Float[np.ndarray, "n dim"],
    labels: np.ndarray,
    validation: Float[np.ndarray, "m dim"],
    validation_labels: np.ndarray,
    *,
    prior: Float[np.ndarray, "classes dim"] | None = None,
    keep: Callable[[Probe], object] = lambda probe: None,
) -> Swept:
    """The strength with the best accuracy on the validation features: first seven strengths, two decades apart, then
    finer steps around the best, as in the paper. The strongest of equals is chosen. `keep` is called with each
    probe."""
    search = Search([Split(CentredFeatures(features, labels), validation, validation_labels)], prior=prior, keep=keep)
    return search.fine()


class Search:
    """A search over strengths on several splits of the same classes. A strength is scored by the accuracy of its probes
    on all of their validation features together."""

    def __init__(
        self, splits: Sequence[Split], *, prior: Float[np.ndarray, "classes dim"] | None = None,
        finish: Callable[[Probe], Probe] = lambda probe: probe, keep: Callable[[Probe], object] = lambda probe: None,
    ):  # fmt: skip
        """`finish` turns each probe into the one that is scored; `keep` is called with each fitted probe."""
        self.splits, self.prior, self.finish, self.keep = splits, prior, finish, keep
        self.fitted: dict[int, tuple[list[Probe], float]] = {}
        self.loss = np.inf  # the lowest mean cross entropy; for few pictures it says more than the accuracy

    def coarse(self) -> Swept:
        """Seven strengths, two decades apart."""
        for index in reversed(FIRST):
            self._try_at(index)
        return self._found()

    def fine(self) -> Swept:
        """Also finer steps around the best of these."""
        self.coarse()
        width = FIRST.step // 2
        while width:
            best = self._best()
            self._try_at(best + width)
            self._try_at(best - width)
            width //= 2
        return self._found()

    def _try_at(self, index: int) -> None:
        if index in self.fitted or not 0 <= index < STEPS:
            return
        near = min(self.fitted, key=lambda other: abs(other - index), default=None)
        starts = [None] * len(self.splits) if near is None else self.fitted[near][0]
        probes, right, loss = [], 0, 0.0
        for split, start in zip(self.splits, starts, strict=True):
            probes.append(split.ready.fit(float(STRENGTHS[index]), start=start, prior=self.prior))
            self.keep(probes[-1])
            scored = self.finish(probes[-1])
            right += int((scored.predict(split.validation) == split.labels).sum())
            loss += scored.loss(split.validation, split.labels)
        count = sum(len(split.labels) for split in self.splits)
        self.fitted[index] = probes, 100 * right / count
        self.loss = min(self.loss, loss / count)

    def _best(self) -> int:
        return max(self.fitted, key=lambda index: (self.fitted[index][1], index))

    def _found(self) -> Swept:
        probes, accuracy = self.fitted[self._best()]
        tried = {float(STRENGTHS[index]): self.fitted[index][1] for index in sorted(self.fitted)}
        return Swept(probes[0], accuracy, tried)


def few_shots(labels: np.ndarray, shots: int, *, seed: int = 0) -> Int[np.ndarray, " chosen"]:
    """The indices of a draw of `shots` samples of each class; all samples of a class with fewer."""
    generator = np.random.default_rng([seed, shots])
    chosen = [generator.permutation(np.flatnonzero(labels == one))[:shots] for one in np.unique(labels)]
    return np.sort(np.concatenate(chosen))


def interpolated(zero_shot: Probe, fitted: Probe, share: float) -> Probe:
    """The interpolation from one probe to the other (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models",
    section 3): (1 - share) zero_shot + share fitted."""
    weights = (1 - share) * zero_shot.weights + share * fitted.weights
    return Probe(weights, (1 - share) * zero_shot.bias + share * fitted.bias, fitted.classes, fitted.l2)


def from_class_vectors(classes: Float[np.ndarray, "classes dim"], names: Sequence[object], *, scale: float) -> Probe:
    """Zero-shot class vectors as a probe."""
    return Probe(scale * classes, np.zeros(len(classes), np.float32), np.asarray(names), np.inf)
