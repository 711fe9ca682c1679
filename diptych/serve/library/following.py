"""The hits that follow the first ones, down to the last: all at once, because nobody looks closely at them."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from diptych.index.filters.filters import Filters
from diptych.index.search.query import Query
from diptych.index.search.sampling import standardised_in
from diptych.serve.library.pages import RankedHit

if TYPE_CHECKING:
    from diptych.media.items import Modality
    from diptych.serve.library.index_pool import AnyIndex


def following(
    index: AnyIndex, query: Query, filters: Filters, modality: Modality, head: list[RankedHit],
    own: Collection[int], newest: int,
) -> list[RankedHit]:  # fmt: skip
    """All hits after those of `head`, best first, without the items `own` and those after `newest`. Files of the same
    bytes, the frames of one video, and the captions of one picture are one hit; unlike in a search, a RAW file and its
    JPEG are two, and copies are not listed."""
    if not index.exists or not head:
        return []
    keys, selection = index.store.keys(modality, filters), index.store.select(modality, filters)
    if not keys:
        return []
    terms = query.term_vectors(index.model, truncate=True)
    vector = standardised_in([index.store], modality, query, terms, index.model).combined(terms)
    ids, cosines = selection.search(vector, max(1, len(selection)))
    start = f"{index.subfolder}/" if index.subfolder else ""
    copies = {start + path for hit in head for path in hit.copies}  # as shown: one that is not UTF-8 may come twice
    seen = {keys[id].content for id in [*(hit.id for hit in head), *own] if id in keys}
    slope, offset = _line(head)
    hits = []
    for id, cosine in zip(ids.tolist(), np.clip(cosines, -1, 1).tolist(), strict=True):
        key = keys.get(id)
        if id <= newest and key is not None and key.content not in seen and key.path not in copies:
            seen.add(key.content)
            hits.append(RankedHit(id, cosine, None if slope is None else slope * cosine + offset, ()))
    return hits


def _line(head: list[RankedHit]) -> tuple[float | None, float]:
    """z as a line of the score, by two hits that have both."""
    first, last = head[0], head[-1]
    if first.z is None or last.z is None or first.score - last.score < 1e-6:
        return None, 0.0
    slope = (first.z - last.z) / (first.score - last.score)
    return slope, first.z - slope * first.score
