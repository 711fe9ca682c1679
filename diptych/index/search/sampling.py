"""A sample of the items of an index: how far apart the cosines of a query lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from diptych.index.search.query import EmbeddingModel, Query, reference_sample

if TYPE_CHECKING:
    from jaxtyping import Float

    from diptych.index.stores.store import Store
    from diptych.media.items import Modality

SAMPLE_SIZE = 2048  # items of an index by which the cosines of a query are standardised
# Items by which kinds of terms are compared, where the model has reference pictures. In so many pictures of Flickr8k
# the ratio of the spreads of a picture and a text is off by a sixth, and by reference pictures by a tenth.
_ENOUGH = 40


def standardised_in(
    stores: Sequence[Store],
    modality: Modality,
    query: Query,
    vectors: Float[np.ndarray, "terms dim"],
    model: EmbeddingModel,
) -> Query:
    """`Query.standardised` by samples of the stores that are searched, or by the model's reference pictures where
    these hold only a few items. `vectors` are those of the terms."""
    if not query.is_mixed:
        return query
    sample = np.concatenate([store.sample(modality, SAMPLE_SIZE)[1] for store in stores])
    if len(sample) < _ENOUGH and len(reference := reference_sample(query, model)):
        sample = reference
    return query.standardised(vectors, sample)
