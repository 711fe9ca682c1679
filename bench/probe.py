"""Time and accuracy of the L2 sweep of a linear probe.

    python bench/probe.py [--count N] [--dim N] [--classes N] [--quick] [--json]

Features are synthetic: overlapping clouds in a cone. The strengths are those of Diptych's sweep. scikit-learn fits each
from zero, once with its defaults (in float32 it stops early under weak regularisation), once in float64 to a tolerance
of 1e-8. "objective" is the summed cross entropy and penalty relative to the lowest of all, the worst over the
strengths; "accuracy apart" is the difference in points to the converged one.
"""

import time
from collections.abc import Callable

import numpy as np
from sklearn.linear_model import LogisticRegression
from table import Row, arguments, report, with_ratios

from diptych.scoring.probe import Probe, sweep

QUESTION = "The L2 sweep of a linear probe"


def clouds(count: int, dim: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(count, dim) unit features and their classes: noise with a falling spectrum around centres in a cone."""
    centres = 0.045 * np.random.default_rng(0).standard_normal((classes, dim)) + 3 * np.eye(dim)[0]
    draw = np.random.default_rng([1, seed])
    labels = draw.integers(classes, size=count)
    features = centres[labels] + draw.standard_normal((count, dim)) * np.linspace(1, 0.1, dim)
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32), labels


def objective(features: np.ndarray, labels: np.ndarray, probe: Probe) -> float:
    """Summed cross entropy + l2 / 2 |weights|^2, in float64."""
    logits = features.astype(np.float64) @ probe.weights.T.astype(np.float64) + probe.bias
    logits -= logits.max(axis=1, keepdims=True)
    own = logits[np.arange(len(labels)), labels] - np.log(np.exp(logits).sum(axis=1))
    return float(-own.sum() + probe.l2 / 2 * (probe.weights.astype(np.float64) ** 2).sum())


def scikit(strengths: list[float], features: np.ndarray, labels: np.ndarray, tol: float) -> list[Probe]:
    """scikit-learn's probe at each strength."""
    found = []
    for l2 in strengths:
        fitted = LogisticRegression(C=1 / l2, max_iter=10_000, tol=tol).fit(features, labels)
        found.append(Probe(fitted.coef_, fitted.intercept_, fitted.classes_, l2))
    return found


def main() -> None:
    """Diptych first, because its sweep chooses the strengths."""
    parser = arguments(QUESTION)
    parser.add_argument("--count", type=int, help="features; 5,000 by default")
    parser.add_argument("--dim", type=int, help="numbers of each; 512 by default")
    parser.add_argument("--classes", type=int, default=10)
    options = parser.parse_args()
    count = options.count or (100 if options.quick else 5_000)
    dim = options.dim or (32 if options.quick else 512)
    features, labels = clouds(count, dim, options.classes, 1)
    validation, answers = clouds(100 if options.quick else 2_000, dim, options.classes, 2)

    def timed(work: Callable[[], list[Probe]]) -> tuple[list[Probe], float]:
        started_s = time.perf_counter()
        return work(), time.perf_counter() - started_s

    fitted: list[Probe] = []
    _, ours_s = timed(lambda: [sweep(features, labels, validation, answers, keep=fitted.append).probe])
    strengths = [probe.l2 for probe in fitted]
    ways = {
        "scikit-learn, float32": timed(lambda: scikit(strengths, features, labels, 1e-4)),
        "scikit-learn, float64, converged": timed(lambda: scikit(strengths, features.astype(np.float64), labels, 1e-8)),
        "diptych": (fitted, ours_s),
    }
    least = np.min([[objective(features, labels, one) for one in found] for found, _ in ways.values()], axis=0)
    converged = [one.accuracy(validation, answers) for one in ways["scikit-learn, float64, converged"][0]]
    rows = with_ratios([Row(who, taken_s, "s") for who, (_, taken_s) in ways.items()])
    for who, (found, _) in ways.items():
        worst = max(objective(features, labels, one) / low for one, low in zip(found, least, strict=True))
        apart = [abs(one.accuracy(validation, answers) - right) for one, right in zip(found, converged, strict=True)]
        rows += [Row(who, worst, "x the least objective"), Row(who, max(apart), "points of accuracy apart")]
    name = f"{QUESTION}: {options.classes} classes, {count:,} x {dim}, {len(strengths)} strengths"
    report(name, rows, as_json=options.as_json)


if __name__ == "__main__":
    main()
