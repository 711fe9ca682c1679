"""Is there anything like that here? A query's best hits beside those of other queries on the same index.

A cosine alone does not say: models differ in what theirs reach, and in a larger index the best of nothing is higher.
How far the best hit stands above the query's own background (its z) does not say either: a query that fits a third of
the pictures raises its own background. So some everyday sentences, which have nothing to do with the question, are
asked of the same items, and the query's ten best are set beside theirs. `bench/relevance.py` compares such statistics.

What this assumes: that the sentences are of the kind that the model was trained on, and that an index holds something
for some of them and nothing for others. Of a folder of scanned letters it is less sure.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from diptych.errors import QueryError, SearchIndexError
from diptych.storage.directory import IndexDirectory
from diptych.versions import TOKENIZING

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from diptych.index.search.query import EmbeddingModel, Query

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
MAX_EXHAUSTIVE_ITEMS = 300_000  # items
_BLOCK = 8192
_HEADER_BYTES = 1024  # of NumPy's format, at most, for an array of two dimensions
MAX_TOP_K = 10  # how many of the best hits count; of a small index a twentieth
# Above this a query stands out. For texts: keeps 90 % of the true first hits of 25 nouns on Flickr8k, where
# bench/relevance.py chooses it and reports on 25 others. Pictures are set beside those of the index: 90 % of them pass.
TEXT_THRESHOLD, PICTURE_THRESHOLD = -0.33, -1.28


class VectorSearch(Protocol):
    """What is needed of an index of one modality; `diptych.vectors.nearest.VectorIndex` has it."""

    def __len__(self) -> int: ...

    def search(
        self, query: np.ndarray, k: int, *, allowed_ids: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]: ...

    @property
    def ids(self) -> np.ndarray: ...

    def vectors(self, ids: np.ndarray) -> np.ndarray: ...

    def sample(self, count: int) -> tuple[np.ndarray, np.ndarray]: ...


class BackgroundStatistics(NamedTuple):
    """What background queries reach on the same items: mean and deviation of the mean cosine of their `top_k` hits, and
    the `threshold` above which a query of this make stands out."""

    mean: float
    std: float
    top_k: int
    threshold: float

    def relevance_z(self, cosines: Float[np.ndarray, "hits"]) -> float:
        """How many deviations the best of these, sorted from the best down, stand above what other queries reach.
        -inf where there are none."""
        return self.z_score(float(cosines[: self.top_k].mean())) if len(cosines) else -np.inf

    def z_score(self, cosine: float) -> float:
        """The same of one cosine."""
        return (cosine - self.mean) / max(self.std, 1e-6)


def background_statistics(
    query: Query,
    nearest: VectorSearch,
    sentences: Float[np.ndarray, "sentences dim"],
    *,
    allowed_ids: Int[np.ndarray, "ids"] | None = None,
    threshold: float | None = None,
) -> BackgroundStatistics:
    """Ask other queries of the same make: each text is replaced by one of the `sentences`, each picture or vector by an
    item of the index (which then may not find itself), and the weights stay."""
    count = len(sentences)
    ids, vectors = nearest.sample(count)
    substitutes, excluded = [], np.full((count, len(query.terms)), -1, np.int64)
    for position, term in enumerate(query.terms):
        rows = np.arange(count) + 37 * position  # another sentence for each term: 37 has no divisor in common with 64
        if term.kind == "text":
            substitutes.append(sentences[rows % count])
        else:
            substitutes.append(vectors[rows % len(ids)])
            excluded[:, position] = ids[rows % len(ids)]
    top_k = top_k_for(len(nearest) if allowed_ids is None else len(allowed_ids))
    kept, queries = _nonzero_queries(query, np.stack(substitutes, axis=1))
    means = _mean_top_k(nearest, queries, top_k, excluded[kept], allowed_ids) if kept else [0.0]
    if threshold is None:
        threshold = TEXT_THRESHOLD if any(term.kind == "text" for term in query.terms) else PICTURE_THRESHOLD
    return BackgroundStatistics(float(np.mean(means)), float(np.std(means)), top_k, threshold)


def _nonzero_queries(query: Query, substitutes: Float[np.ndarray, "queries terms dim"]) -> tuple[list[int], np.ndarray]:
    """Which of these queries mean something, and their vectors. Others are a picture less the same, as one item of a
    small index, or two copies, may come to stand for both."""

    kept: dict[int, np.ndarray] = {}
    for position, vectors in enumerate(substitutes):
        with suppress(QueryError):
            kept[position] = query.combined(vectors)
    return list(kept), np.array(list(kept.values()))


def top_k_for(size: int) -> int:
    """How many of the best hits speak for an index of `size` items."""
    return max(1, min(MAX_TOP_K, size // 20))


def _mean_top_k(
    nearest: VectorSearch, queries: np.ndarray, top_k: int, excluded: np.ndarray, allowed_ids: np.ndarray | None
) -> list[float]:
    """The mean of each query's `top_k` cosines, without its `excluded` items."""
    wanted = top_k + excluded.shape[1]
    ids = nearest.ids if allowed_ids is None else np.intersect1d(allowed_ids, nearest.ids)
    if len(ids) <= MAX_EXHAUSTIVE_ITEMS:  # then one product is faster than a search each
        found = _exhaustive_top_k(nearest, ids, queries, wanted)
    else:
        found = [nearest.search(vector, wanted, allowed_ids=allowed_ids) for vector in queries]
    means = []
    for (near, cosines), without in zip(found, excluded, strict=True):
        kept = cosines[~np.isin(near, without)][:top_k]
        means.append(float(kept.mean()) if len(kept) else 0.0)
    return means


def _exhaustive_top_k(
    nearest: VectorSearch, ids: np.ndarray, queries: np.ndarray, count: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each query's `count` best with their cosines, best first, block by block."""
    best_ids, best = np.full((len(queries), count), -1), np.full((len(queries), count), -np.inf, np.float32)
    for start in range(0, len(ids), _BLOCK):
        block = ids[start : start + _BLOCK]
        cosines = np.hstack([best, queries @ nearest.vectors(block).T])
        rows = np.hstack([best_ids, np.broadcast_to(block, (len(queries), len(block)))])
        order = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        best, best_ids = np.take_along_axis(cosines, order, 1), np.take_along_axis(rows, order, 1)
    order = np.argsort(-best, axis=1, kind="stable")
    best, best_ids = np.take_along_axis(best, order, 1), np.take_along_axis(best_ids, order, 1)
    return [(near[near >= 0], cosines[near >= 0]) for near, cosines in zip(best_ids, best, strict=True)]


def sentence_vectors(
    model: EmbeddingModel, folder: str | os.PathLike[str] | None, fingerprint: str
) -> Float[np.ndarray, "sentences dim"]:
    """The vectors of SENTENCES, kept in `folder` for the next time; a folder that cannot be written only costs time.

    `fingerprint` names the model, so that another one's vectors are never taken for this one's.
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
    """The array in a file, made and written where it is missing or damaged."""
    with suppress(OSError, ValueError, EOFError, MemoryError):  # the last is of a header that claims too much
        max_bytes = _HEADER_BYTES + 4 * shape[0] * shape[1]
        cached = np.load(BytesIO(directory.read(name, max_bytes)), allow_pickle=False)
        if cached.shape == shape and cached.dtype == np.float32 and np.isfinite(cached).all():
            return cached
    array, file = make(), BytesIO()
    np.save(file, array)
    with suppress(OSError, SearchIndexError):
        directory.write(name, file.getvalue(), durable=False)
    return array
