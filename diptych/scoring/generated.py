"""Scores of generated pictures, from vectors: CLIP score for their agreement with words, CMMD for their likeness to a
set of true pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from diptych.errors import ArgumentError

if TYPE_CHECKING:
    from jaxtyping import Float, Int

WEIGHT = 2.5  # of CLIPScore, which stretches its usual values to about 0 to 1 (Hessel et al. 2021, section 3)
SIGMA, CMMD_SCALE = 10.0, 1000.0  # of CMMD (Jayasumana et al. 2024, section 4)
BLOCK = 1024  # rows of the kernel's matrix at a time
UNIT_TOLERANCE = 1e-2  # of a vector's length, for vectors that were stored in float16


def clip_scores(
    images: Float[np.ndarray, "n dim"], texts: Float[np.ndarray, "n dim"], *, weight: float = WEIGHT
) -> Float[np.ndarray, " n"]:
    """CLIPScore of each picture with its text: weight * max(cos, 0), 0 to 2.5 (Hessel et al. 2021, arXiv 2104.08718,
    section 3). The score of a set is their mean.

    Vectors are of any length but zero. Raises ArgumentError for arrays of different shapes, no rows, or rows that are
    zero or not finite."""
    images, texts = _unit(images, "images"), _unit(texts, "texts")
    if images.shape != texts.shape:
        raise ArgumentError(f"pictures {images.shape} and texts {texts.shape}; wanted a text for each picture.")
    return weight * np.maximum(np.einsum("nd,nd->n", images, texts), 0.0)


def reference_clip_scores(
    images: Float[np.ndarray, "n dim"],
    texts: Float[np.ndarray, "n dim"],
    references: Float[np.ndarray, "m dim"],
    text_index: Int[np.ndarray, " m"],
    *,
    weight: float = WEIGHT,
) -> Float[np.ndarray, " n"]:
    """RefCLIPScore of each picture with its text: the harmonic mean of its CLIPScore and of the highest cosine, or 0,
    of the text with its references, 0 where one of the two is 0 (Hessel et al. 2021, section 3). Reference j, another
    text on the same picture, belongs to row `text_index[j]`. A row without references is NaN.

    Raises ArgumentError as `clip_scores`, and for a `text_index` of another length or range."""
    scores, candidates = clip_scores(images, texts, weight=weight), _unit(texts, "texts")
    references, rows = _unit(references, "references"), np.asarray(text_index)
    if rows.shape != references.shape[:1] or rows.min() < 0 or rows.max() >= len(scores):
        raise ArgumentError(f"text_index {rows.shape} for {len(references)} references of {len(scores)} texts.")
    best = np.full(len(scores), -np.inf)
    np.maximum.at(best, rows, np.einsum("md,md->m", references, candidates[rows]))
    best = np.where(np.isneginf(best), np.nan, np.maximum(best, 0.0))
    total = scores + best
    return np.where(total > 0, 2 * scores * best / np.where(total > 0, total, 1), np.where(np.isnan(best), np.nan, 0.0))


def cmmd(
    generated: Float[np.ndarray, "n dim"],
    real: Float[np.ndarray, "m dim"],
    *,
    sigma: float = SIGMA,
    biased: bool = False,
) -> float:
    """CMMD: 1000 times the squared maximum mean discrepancy of two sets of unit vectors, with the kernel
    exp(-|x - y|^2 / (2 sigma^2)) and sigma 10 (Jayasumana et al. 2024, arXiv 2401.09603, section 4). 0 is the same
    distribution; lower is better.

    The estimator is the paper's: unbiased, without the diagonals of the kernel's matrices (Gretton et al. 2012, section
    2.2), so that it may be a little below 0. `biased` is that of the authors' published code, with the diagonals: never
    below 0, and higher for small sets. Memory does not grow with the product of the two sizes. Raises ArgumentError for
    vectors that are not of unit length, of different widths, or fewer than two (biased: one), and for a sigma that is
    not above 0."""
    if not sigma > 0:
        raise ArgumentError(f"sigma is {sigma}; wanted a number above 0.", argument="sigma")
    sets = [
        _of_unit_length(rows, name, 1 if biased else 2) for rows, name in ((generated, "generated"), (real, "real"))
    ]
    x, y = sets
    if x.shape[1] != y.shape[1]:
        raise ArgumentError(f"vectors of {x.shape[1]} and {y.shape[1]} dimensions; wanted those of one model.")
    within = sum(_mean_kernel(rows, rows, sigma, without_diagonal=not biased) for rows in (x, y))
    return CMMD_SCALE * (within - 2 * _mean_kernel(x, y, sigma))


def _mean_kernel(x: np.ndarray, y: np.ndarray, sigma: float, *, without_diagonal: bool = False) -> float:
    """The mean of exp(-|x_i - y_j|^2 / (2 sigma^2)) - 1, by blocks of rows. 1 is subtracted from each term, which
    cancels in CMMD, to keep the digits that matter: at sigma 10 every term is between 0.98 and 1."""
    total = 0.0
    for first in range(0, len(x), BLOCK):
        rows = x[first : first + BLOCK]
        for second in range(0, len(y), BLOCK):
            columns = y[second : second + BLOCK]
            lengths = (rows**2).sum(axis=1)[:, None] + (columns**2).sum(axis=1)
            distances = np.maximum(lengths - 2 * (rows @ columns.T), 0.0)
            total += float(np.expm1(-distances / (2 * sigma**2)).sum())
    # The diagonal's terms are exp(0) - 1 = 0, so only the number of terms changes without it.
    return total / (len(x) * (len(y) - 1) if without_diagonal else len(x) * len(y))


def _unit(rows: Float[np.ndarray, "n dim"], name: str) -> Float[np.ndarray, "n dim"]:
    """The rows at unit length, in float64."""
    rows = np.asarray(rows, dtype=np.float64)
    if rows.ndim != 2 or not rows.size:
        raise ArgumentError(f"{name} {rows.shape}; wanted some rows of vectors.")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise ArgumentError(f"some of {name} are zero, NaN or infinite; a cosine needs a direction.")
    return rows / lengths


def _of_unit_length(rows: Float[np.ndarray, "n dim"], name: str, least: int) -> Float[np.ndarray, "n dim"]:
    """The rows in float64, at exactly unit length. A kernel's width is for such vectors alone."""
    units = _unit(rows, name)
    if len(units) < least:
        raise ArgumentError(f"{len(units)} {name} vectors; wanted {least} or more.")
    lengths = np.linalg.norm(np.asarray(rows, dtype=np.float64), axis=1)
    if (np.abs(lengths - 1) > UNIT_TOLERANCE).any():
        raise ArgumentError(f"{name} vectors are of length {lengths.min():.3g} to {lengths.max():.3g}; wanted 1.")
    return units
