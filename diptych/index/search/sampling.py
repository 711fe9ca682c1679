"""A sample of the items of an index: how far apart the cosines of a query lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from diptych.index.search.query import EmbeddingModel, Query, reference_sample
from diptych.index.search.relevance import VectorSearch

if TYPE_CHECKING:
    from jaxtyping import Float

SAMPLE_SIZE = 2048  # items of an index by which the cosines of a query are standardised
# Items by which kinds of terms are compared, where the model has reference pictures. In so many pictures of Flickr8k
# the ratio of the spreads of a picture and a text is off by a sixth, and by reference pictures by a tenth.
_ENOUGH = 40

_samples: WeakKeyDictionary[VectorSearch, tuple[int, np.ndarray]] = WeakKeyDictionary()


def sample_of(nearest: VectorSearch) -> Float[np.ndarray, "items dim"]:
    """The vectors of a sample of the index. It is drawn once for as long as the number of items stays."""
    count, vectors = _samples.get(nearest, (-1, None))
    if vectors is None or count != len(nearest):
        count, vectors = len(nearest), nearest.sample(SAMPLE_SIZE)[1]
        _samples[nearest] = count, vectors
    return vectors


def standardised_in(
    searched: Sequence[VectorSearch], query: Query, vectors: Float[np.ndarray, "terms dim"], model: EmbeddingModel
) -> Query:
    """`Query.standardised` by samples of the indexes that are searched, or by the model's reference pictures where
    these hold only a few items. `vectors` are those of the terms."""
    if not query.is_mixed:
        return query
    sample = np.concatenate([sample_of(nearest) for nearest in searched])
    if len(sample) < _ENOUGH and len(reference := reference_sample(query, model)):
        sample = reference
    return query.standardised(vectors, sample)
