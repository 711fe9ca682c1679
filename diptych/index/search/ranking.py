"""Cosines relative to others: z-scores over a sample of the index, and diverse results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.errors import ArgumentError

if TYPE_CHECKING:
    from jaxtyping import Float, Int

MIN_SAMPLE = 10  # items; the standard deviation of fewer is not meaningful


class SampleStatistics(NamedTuple):
    """The cosines of a query with a sample of an index's items: mean, standard deviation and number."""

    mean: float
    std: float
    count: int

    @classmethod
    def of(cls, cosines: Float[np.ndarray, "items"]) -> SampleStatistics:
        """From the sample's cosines. All count, including relevant items, so that the sample of a small index is the
        whole index."""
        if not len(cosines):
            return cls(0.0, 0.0, 0)
        return cls(float(cosines.mean()), float(cosines.std()), len(cosines))

    def standardise(self, cosines: Float[np.ndarray, "hits"]) -> Float[np.ndarray, "hits"]:
        """Standard deviations above the mean, for ranking; 0 if the standard deviation is 0."""
        if self.std < 1e-6:  # a single item, or equal ones
            return np.zeros(len(cosines))
        return (cosines - self.mean) / self.std

    def z_scores(self, cosines: Float[np.ndarray, "hits"]) -> list[float | None]:
        """z-scores for display; None if they are not meaningful, with fewer than 10 items or equal ones."""
        if self.count < MIN_SAMPLE or self.std < 1e-6:
            return [None] * len(cosines)
        return [float(z) for z in self.standardise(cosines)]


def diverse_order(
    vectors: Float[np.ndarray, "candidates dim"],
    relevance: Float[np.ndarray, "candidates"] | Sequence[float],
    *,
    diversity: float,
    limit: int,
) -> Int[np.ndarray, "chosen"]:
    """An order of the candidates in which each is relevant and unlike those before it.

    Maximal marginal relevance (Carbonell and Goldstein, 1998): repeatedly take the candidate with the greatest (1 -
    diversity) * relevance - diversity * (greatest cosine to one taken). Both terms are first scaled to 0..1 over the
    candidates, because text-picture cosines span a tenth of the range of picture-picture cosines. Raises ValueError if
    `diversity` is not in 0..1.
    """
    if not 0 <= diversity <= 1:
        raise ArgumentError(
            f"diverse is {diversity:g}; wanted 0 (the best alone) to 1 (as unlike each other as can be)."
        )
    if not len(vectors):
        return np.empty(0, np.int64)
    scaled_relevance, similarity = _scaled(np.asarray(relevance, np.float64)), _scaled(vectors @ vectors.T)
    chosen = [int(scaled_relevance.argmax())]
    max_similarity = similarity[chosen[0]].copy()
    while len(chosen) < min(limit, len(vectors)):
        scores = (1 - diversity) * scaled_relevance - diversity * max_similarity
        scores[chosen] = -np.inf
        chosen.append(int(scores.argmax()))
        max_similarity = np.maximum(max_similarity, similarity[chosen[-1]])
    return np.array(chosen, np.int64)


def _scaled(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values, np.float64)
