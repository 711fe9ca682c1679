"""Retrieval metrics: pure functions on arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Int

TILE = 1024


class Recall(NamedTuple):
    """Shares in percent of the queries whose right answer is among the first 1, 5 and 10."""

    at_1: float
    at_5: float
    at_10: float


class Retrieval(NamedTuple):
    """Both directions of a set of pictures with their captions."""

    text_to_image: Recall
    image_to_text: Recall


def retrieval(
    images: Float[np.ndarray, "pictures dim"],
    texts: Float[np.ndarray, "texts dim"],
    owners: Int[np.ndarray, " texts"],
) -> Retrieval:
    """Recall by cosine, where text j belongs to picture owners[j] and a picture may have several texts.

    From text to picture a query has one right answer; from picture to text any of its own captions counts, as in
    Karpathy and Fei-Fei 2015, section 4.2. Ties count against the model.
    """
    owners = np.asarray(owners)
    if len(owners) != len(texts):
        raise ValueError(f"{len(owners)} owners for {len(texts)} texts; wanted one each.")
    to_image = np.concatenate([_ranks_of_one(scores, owners[rows]) for rows, scores in _tiles(texts, images)])
    to_text = np.concatenate(
        [_best_rank(scores, owners == np.arange(len(images))[rows, None]) for rows, scores in _tiles(images, texts)]
    )
    return Retrieval(recall(to_image), recall(to_text))


def recall(ranks: Int[np.ndarray, " queries"]) -> Recall:
    """Recall at 1, 5 and 10 in percent, of ranks that start at 0."""
    return Recall(*(100 * float(np.mean(ranks < k)) for k in (1, 5, 10)))


def _tiles(queries: np.ndarray, items: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    for start in range(0, len(queries), TILE):
        rows = slice(start, start + TILE)
        yield rows, queries[rows] @ items.T


def _ranks_of_one(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    mine = scores[np.arange(len(scores)), right][:, None]
    return (~(scores < mine)).sum(axis=1) - 1  # written so that NaN, too, counts against the model


def _best_rank(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
    return (~(scores < best) & ~right).sum(axis=1)
