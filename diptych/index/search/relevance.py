"""Whether an index contains anything relevant to a query: the query's best hits compared with those of background
queries.

A cosine alone does not decide this: models differ in the cosines that they reach, and the best of many irrelevant items
is higher in a larger index. The z-score of the best hit over a sample of the index does not either: a query that
matches a third of the pictures raises its own mean. So everyday sentences unrelated to the query are searched in the
same items, and the mean cosine of the query's ten best hits is compared with theirs.

Texts differ in the cosines that they reach with any pictures. Where the model's files have reference pictures
(`diptych.scoring.reference_pictures`), a query of texts is compared with them instead: the mean cosine of the hundred
best hits with what is expected of the same text with the best of as many reference pictures as the index has. That is
a weighted mean of what they reach, and of what they would reach if none of them showed it (UNMATCHED): a text of which
the reference pictures show more than the index does is not refused, and one that they do not show at all is not let
through so easily. The unit is the standard deviation of the text's cosines with pictures that do not show it. A little
(AMONG_SENTENCES) counts how near the hits come by what everyday sentences reach with the reference pictures, because a
text that comes near to no picture at all is seldom one that the index shows.

The expected mean depends on the number of pictures, so one threshold serves small and large indexes. In an index with
more than a hundred times as many pictures as there are reference pictures, it is too low.

`bench/relevance.py` compares such statistics, and makes the file of reference pictures.

This assumes that the model was trained on such sentences, and that an index contains something for some of them and
nothing for others. For a folder of scanned letters it is less reliable.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.errors import QueryError, SearchIndexError
from diptych.storage.directory import IndexDirectory
from diptych.versions import TOKENIZING

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from diptych.index.search.query import EmbeddingModel, Query
    from diptych.index.stores.store import Selection
    from diptych.scoring.reference_pictures import ReferencePictures

SUBJECTS = (
    "a man", "a woman", "a child", "a crowd of people", "two friends", "a baby", "a dog", "a cat", "a bird", "a horse",
    "a flock of sheep", "a fish", "an insect", "a car", "a train", "a boat", "a bicycle", "an airplane", "a tree",
    "a flower", "a plate of food", "a cup of coffee", "a cake", "a house", "a bridge", "a statue", "a computer",
    "a book", "a chair", "a guitar", "a sign with words", "a toy",
)  # fmt: skip
SCENES = (
    "in the snow", "on a beach", "in a city street", "in a kitchen", "in a green field", "at night", "beside a lake",
    "in front of a wall", "under a blue sky", "on a table", "in a forest", "at a party",
)  # fmt: skip
BACKGROUND_SENTENCES = tuple(
    f"{subject} {SCENES[(5 * row + 4 * turn) % len(SCENES)]}"
    for row, subject in enumerate(SUBJECTS)
    for turn in range(2)
)
_HEADER_BYTES = 1024  # upper bound for a two-dimensional array in NumPy's format
# Hits that are averaged, without and with reference pictures; in a small index a twentieth or a tenth of the items
MAX_TOP_K, MAX_TOP_K_WITH_REFERENCE = 10, 100
PART, PART_WITH_REFERENCE = 20, 10
UNMATCHED, AMONG_SENTENCES = 0.25, 1 / 11
# The least relevance z-score. For texts it keeps 90 % of the true first hits of 25 nouns on Flickr8k, where
# bench/relevance.py chooses it and reports on 25 others. For pictures, 90 % of those of an index pass.
TEXT_THRESHOLD, PICTURE_THRESHOLD = -0.33, -1.28


class BackgroundStatistics(NamedTuple):
    """Mean and standard deviation of the mean cosine of the `top_k` best hits, over the background queries or expected
    among reference pictures, and the `threshold` that a query's relevance z-score must reach."""

    mean: float
    std: float
    top_k: int
    threshold: float

    def relevance_z(self, cosines: Float[np.ndarray, "hits"]) -> float:
        """The standard deviations by which the mean of the `top_k` first of these cosines, sorted in descending order,
        exceeds the background mean; -inf without cosines."""
        return self.z_score(float(cosines[: self.top_k].mean())) if len(cosines) else -np.inf

    def z_score(self, cosine: float) -> float:
        """The same for one cosine."""
        return (cosine - self.mean) / max(self.std, 1e-6)


def reference_statistics(
    reference: ReferencePictures,
    vector: Float[np.ndarray, "dim"],
    size: int,
    sentences: Float[np.ndarray, "sentences dim"],
    threshold: float | None = None,
) -> BackgroundStatistics:
    """What is expected of a query of texts with this vector, among `size` of the model's reference pictures.
    `sentences` are the vectors of BACKGROUND_SENTENCES. `threshold` None is the one chosen with the pictures."""
    top_k = top_k_for(size, MAX_TOP_K_WITH_REFERENCE, PART_WITH_REFERENCE)
    own, *others = reference.expected(np.vstack([vector, sentences]), size, top_k)
    unmatched, deviation = reference.without_matches(vector, size, top_k)
    own = (1 - UNMATCHED) * own + UNMATCHED * unmatched
    # A weighted mean of two z-scores is a z-score: by their steepness, which is one unit for each deviation.
    steepness = (1 - AMONG_SENTENCES) / max(deviation, 1e-6), AMONG_SENTENCES / max(float(np.std(others)), 1e-6)
    mean = (steepness[0] * own + steepness[1] * np.mean(others)) / sum(steepness)
    threshold = reference.threshold if threshold is None else threshold
    return BackgroundStatistics(float(mean), 1 / sum(steepness), top_k, threshold)


def background_statistics(
    query: Query,
    drawn: tuple[Int[np.ndarray, "ids"], Float[np.ndarray, "ids dim"]],
    selection: Selection,
    sentences: Float[np.ndarray, "sentences dim"],
    *,
    threshold: float | None = None,
) -> BackgroundStatistics:
    """Search with queries of the same form: each text is replaced by one of the `sentences`, each picture or vector by
    one of the `drawn` items of the index, which is excluded from its own hits; the weights stay. `threshold` None is
    TEXT_THRESHOLD, or PICTURE_THRESHOLD for a query without texts."""
    count = len(sentences)
    ids, vectors = drawn
    substitutes, excluded = [], np.full((count, len(query.terms)), -1, np.int64)
    for position, term in enumerate(query.terms):
        rows = np.arange(count) + 37 * position  # different sentences per term: 37 and 64 are coprime
        if term.kind == "text":
            substitutes.append(sentences[rows % count])
        else:
            substitutes.append(vectors[rows % len(ids)])
            excluded[:, position] = ids[rows % len(ids)]
    top_k = top_k_for(len(selection))
    kept, queries = _nonzero_queries(query, np.stack(substitutes, axis=1))
    means = np.array(_mean_top_k(selection, queries, top_k, excluded[kept]) if kept else [0.0])
    if threshold is None:
        threshold = TEXT_THRESHOLD if any(term.kind == "text" for term in query.terms) else PICTURE_THRESHOLD
    return BackgroundStatistics(float(means.mean()), float(means.std()), top_k, threshold)


def _nonzero_queries(query: Query, substitutes: Float[np.ndarray, "queries terms dim"]) -> tuple[list[int], np.ndarray]:
    """The queries that are not zero, and their vectors. A query is zero if a picture is subtracted from itself or a
    copy, which can happen in a small index."""

    kept: dict[int, np.ndarray] = {}
    for position, vectors in enumerate(substitutes):
        with suppress(QueryError):
            kept[position] = query.combined(vectors)
    return list(kept), np.array(list(kept.values()))


def top_k_for(size: int, most: int = MAX_TOP_K, part: int = PART) -> int:
    """How many of the best hits are averaged in an index of `size` items: one of `part`, at most `most`."""
    return max(1, min(most, size // part))


def _mean_top_k(selection: Selection, queries: np.ndarray, top_k: int, excluded: np.ndarray) -> list[float]:
    """The mean of each query's `top_k` best cosines, without its `excluded` items."""
    found = selection.search_many(queries, top_k + excluded.shape[1])
    means = []
    for (near, cosines), without in zip(found, excluded, strict=True):
        kept = cosines[~np.isin(near, without)][:top_k]
        means.append(float(kept.mean()) if len(kept) else 0.0)
    return means


def sentence_vectors(
    model: EmbeddingModel, folder: str | os.PathLike[str] | None, fingerprint: str
) -> Float[np.ndarray, "sentences dim"]:
    """The vectors of BACKGROUND_SENTENCES, cached in `folder`; a folder that is not writable only costs time.

    `fingerprint` identifies the model, so vectors of different models are never confused.
    """

    def embed() -> np.ndarray:
        return model.embed_texts(BACKGROUND_SENTENCES, truncate=True)

    if folder is None:
        return embed()
    identity = (fingerprint, str(TOKENIZING), *BACKGROUND_SENTENCES)
    name = hashlib.blake2b("\n".join(identity).encode(), digest_size=8).hexdigest()
    shape = len(BACKGROUND_SENTENCES), model.dim
    return _cached_array(IndexDirectory.of(folder), f"background-{name}.npy", embed, shape=shape)


def _cached_array(
    directory: IndexDirectory, name: str, make: Callable[[], np.ndarray], *, shape: tuple[int, int]
) -> np.ndarray:
    """The array in a file; it is computed and written if the file is missing or damaged."""
    with suppress(OSError, ValueError, EOFError, MemoryError):  # MemoryError: a header that claims too much
        max_bytes = _HEADER_BYTES + 4 * shape[0] * shape[1]
        cached = np.load(BytesIO(directory.read(name, max_bytes)), allow_pickle=False)
        if cached.shape == shape and cached.dtype == np.float32 and np.isfinite(cached).all():
            return cached
    array, file = make(), BytesIO()
    np.save(file, array)
    with suppress(OSError, SearchIndexError):
        directory.write(name, file.getvalue(), durable=False)
    return array
