"""What a cosine means beside others: a query's own background, and results that are not all alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.errors import ArgumentError

if TYPE_CHECKING:
    from jaxtyping import Float, Int

MIN_SAMPLE = 10  # items; the spread of fewer tells nothing


class SampleStatistics(NamedTuple):
    """The cosines of one query with a sample of an index's items: their mean, deviation and number."""

    mean: float
    std: float
    count: int

    @classmethod
    def of(cls, cosines: Float[np.ndarray, "items"]) -> SampleStatistics:
        """From the sample's cosines. All of it counts, what fits the query too, so that the sample of a small index is
        the index."""
        if not len(cosines):
            return cls(0.0, 0.0, 0)
        return cls(float(cosines.mean()), float(cosines.std()), len(cosines))

    def standardise(self, cosines: Float[np.ndarray, "hits"]) -> Float[np.ndarray, "hits"]:
        """How many deviations above the mean each is; 0 where there is no spread. What a mixed ranking goes by."""
        if self.std < 1e-6:  # all items are one, or there is but one
            return np.zeros(len(cosines))
        return (cosines - self.mean) / self.std

    def z_scores(self, cosines: Float[np.ndarray, "hits"]) -> list[float | None]:
        """`standardise` for people, with None where the index holds too little to say: under 10 items, or all alike."""
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
    """The order in which to take candidates so that each is relevant and unlike those before it.

    Maximal marginal relevance (Carbonell and Goldstein 1998): take next the candidate with the greatest
    (1 - diversity) * relevance - diversity * (greatest cosine to one taken). Both are first scaled to 0..1 over the
    candidates, for cosines between a text and pictures span a tenth of those among pictures. Raises ValueError where
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
