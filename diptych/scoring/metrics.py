"""Retrieval metrics: pure functions on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.errors import ArgumentError

if TYPE_CHECKING:
    from jaxtyping import Float, Int

TILE = 1024
TIE = 1e-6  # cosines that are nearer than this are equal: float32 sums of products differ by as much


class Recall(NamedTuple):
    """Shares in percent of the queries whose right answer is among the first 1, 5 and 10."""

    at_1: float
    at_5: float
    at_10: float


class Retrieval(NamedTuple):
    """Both directions of a set of pictures with their captions."""

    text_to_image: Recall
    image_to_text: Recall


class Ranking(NamedTuple):
    """How high right answers stand: recall of the first of them, its median rank (from 1), and the mean average
    precision of all of them in percent (Manning, Raghavan and Schütze 2008, section 8.4)."""

    recall: Recall
    median_rank: float
    mean_average_precision: float


class Rankings(NamedTuple):
    """Both directions of a set of pictures with their captions."""

    text_to_image: Ranking
    image_to_text: Ranking


def retrieval(
    images: Float[np.ndarray, "pictures dim"],
    texts: Float[np.ndarray, "texts dim"],
    owners: Int[np.ndarray, " texts"],
) -> Retrieval:
    """The recall of `rankings`."""
    return Retrieval(*(ranking.recall for ranking in rankings(images, texts, owners)))


def rankings(
    images: Float[np.ndarray, "pictures dim"],
    texts: Float[np.ndarray, "texts dim"],
    owners: Int[np.ndarray, " texts"],
) -> Rankings:
    """By cosine, where text j belongs to picture owners[j] and a picture may have several texts, or none (it is then no
    query).

    From text to picture a query has one right answer; from picture to text any of its own captions counts, as in
    Karpathy and Fei-Fei 2015, section 4.2. Ties count against the model. Memory does not grow with the product of the
    numbers: cosines are made a tile at a time. Raises ArgumentError for owners that do not fit.
    """
    owners = np.asarray(owners)
    if len(owners) != len(texts):
        raise ArgumentError(f"{len(owners)} owners for {len(texts)} texts; wanted one each.")
    if len(owners) and not 0 <= owners.min() <= owners.max() < len(images):
        raise ArgumentError(f"owners go from {owners.min()} to {owners.max()}; there are {len(images)} pictures.")
    numbers = np.arange(len(texts))
    to_image = ranking(numbers, above(texts, images, numbers, owners))
    order = np.argsort(owners, kind="stable")
    return Rankings(to_image, ranking(owners[order], above(images, texts, owners[order], order)))


def above(
    queries: Float[np.ndarray, "queries dim"],
    items: Float[np.ndarray, "items dim"],
    asking: Int[np.ndarray, " pairs"],
    right: Int[np.ndarray, " pairs"],
) -> Int[np.ndarray, " pairs"]:
    """For each pair of a query and one of its right items (sorted by query), how many wrong items score as high."""
    own = np.einsum("pd,pd->p", queries[asking], items[right])
    counts = np.zeros(len(asking), np.int64)
    for top in range(0, len(queries), TILE):
        start, end = np.searchsorted(asking, (top, top + TILE))
        rows = asking[start:end] - top
        for left in range(0, len(items), TILE):
            scores = queries[top : top + TILE] @ items[left : left + TILE].T
            inside = (right[start:end] >= left) & (right[start:end] < left + TILE)
            scores[rows[inside], right[start:end][inside] - left] = -np.inf
            for at in range(0, end - start, TILE):
                some = slice(at, at + TILE)
                bound = own[start:end][some, None] - TIE
                # written so that NaN, too, counts against the model
                counts[start:end][some] += (~(scores[rows[some]] < bound)).sum(axis=1)
    return counts


def ranking(asking: Int[np.ndarray, " pairs"], counts: Int[np.ndarray, " pairs"]) -> Ranking:
    """Of pairs of queries (sorted) and right items, each with how many wrong items stand above it."""
    if not len(asking):
        return Ranking(Recall(*[float("nan")] * 3), float("nan"), float("nan"))
    order = np.lexsort((counts, asking))
    asking, counts = asking[order], counts[order]
    firsts = np.flatnonzero(np.r_[True, asking[1:] != asking[:-1]])
    lengths = np.diff(np.r_[firsts, len(asking)])
    place = np.arange(len(asking)) - np.repeat(firsts, lengths) + 1  # among its query's right items
    precision = np.add.reduceat(place / (counts + place), firsts) / lengths
    ranks = counts[firsts]
    return Ranking(recall(ranks), float(np.median(ranks)) + 1, 100 * float(precision.mean()))


def recall(ranks: Int[np.ndarray, " queries"]) -> Recall:
    """Recall at 1, 5 and 10 in percent, of ranks that start at 0."""
    return Recall(*(100 * float(np.mean(ranks < k)) for k in (1, 5, 10)))


def is_right(
    scores: Float[np.ndarray, "n classes"], answers: Int[np.ndarray, " n"], k: int = 1
) -> Float[np.ndarray, " n"]:
    """1 for each sample whose right class is among the k highest scores, else 0. Ties, and what is no number, count
    against the model."""
    own = scores[np.arange(len(answers)), answers][:, None]
    return ((~(scores < own)).sum(axis=1) <= k).astype(np.float32)


def top_accuracy(
    scores: Float[np.ndarray, "n classes"], answers: Int[np.ndarray, " n"], ks: Sequence[int] = (1, 5)
) -> dict[int, float]:
    """The share in percent of samples that are right within k, for each k; see `is_right`."""
    return {k: 100 * float(is_right(scores, answers, k).mean(dtype=np.float64)) for k in ks}


def confusion(
    predicted: Int[np.ndarray, " n"], answers: Int[np.ndarray, " n"], classes: int
) -> Int[np.ndarray, "classes classes"]:
    """How often a sample of class i (row) was taken for class j (column)."""
    return np.bincount(answers * classes + predicted, minlength=classes**2).reshape(classes, classes)


def class_accuracy(confusion: Int[np.ndarray, "classes classes"]) -> Float[np.ndarray, " classes"]:
    """Of each class's samples the share in percent that was recognised; NaN for a class without any. Their mean is the
    mean per-class accuracy that some sets are judged by."""
    totals = confusion.sum(axis=1)
    return 100 * np.divide(np.diag(confusion), totals, out=np.full(len(totals), np.nan), where=totals > 0)
