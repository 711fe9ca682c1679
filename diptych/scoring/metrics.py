"""Metrics of retrieval and classification: pure functions on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.errors import ArgumentError

if TYPE_CHECKING:
    from jaxtyping import Float, Int

TILE = 1024
TIE = 1e-6  # cosines that differ by less are equal: rounding of float32 sums is of this size


class Recall(NamedTuple):
    """Percentages of the queries whose correct item is among the first 1, 5 and 10."""

    at_1: float
    at_5: float
    at_10: float


class Retrieval(NamedTuple):
    """Both directions of a set of pictures with their captions."""

    text_to_image: Recall
    image_to_text: Recall


class Ranking(NamedTuple):
    """The ranks of the correct items: recall of the first, its median rank (from 1), and the mean average precision of
    all in percent (Manning, Raghavan and Schütze 2008, section 8.4)."""

    recall: Recall
    median_rank: float
    mean_average_precision: float


class Rankings(NamedTuple):
    """Both directions of a set of pictures with their captions."""

    text_to_image: Ranking
    image_to_text: Ranking


class Confused(NamedTuple):
    """Pictures of class `label` that were taken for class `taken_for`: `count` of them."""

    label: str
    taken_for: str
    count: int


class Accuracy(NamedTuple):
    """How often a classifier is right, in percent.

    `top[k]` is the share of samples whose class is among the k highest scores, `by_class` the share of each class that
    was recognized (None for a class without samples), and `mean_class` its mean. `confusion[i, j]` counts the samples
    of class i that were taken for class j; `count` is the number of samples.
    """

    top: dict[int, float]
    mean_class: float
    by_class: dict[str, float | None]
    confusion: Int[np.ndarray, "classes classes"]
    count: int

    @property
    def pairs(self) -> list[Confused]:
        """The entries of `confusion` that are not zero, also those on its diagonal, row by row."""
        names = list(self.by_class)
        return [Confused(names[i], names[j], int(self.confusion[i, j])) for i, j in np.argwhere(self.confusion)]

    def most_confused(self, count: int = 3) -> list[Confused]:
        """The pairs of different classes that were confused most often."""
        wrong = [pair for pair in self.pairs if pair.label != pair.taken_for]
        return sorted(wrong, key=lambda pair: -pair.count)[:count]


def accuracy(scores: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"], classes: Sequence[str]) -> Accuracy:
    """The accuracy of `scores`, where sample i is of class `labels[i]`. Ties count against the model in `top`.

    Raises ArgumentError where `labels` are not numbers of `classes`, one for each row, or there are none."""
    labels = np.asarray(labels)
    if len(labels) != len(scores) or not len(labels):
        raise ArgumentError(f"{len(labels)} answers for {len(scores)} rows of scores; wanted one each, and some.")
    if not 0 <= labels.min() <= labels.max() < len(classes):
        raise ArgumentError(f"answers are {labels.min()} to {labels.max()}; there are {len(classes)} classes.")
    taken = confusion(scores.argmax(axis=1), labels, len(classes))
    shares = class_accuracy(taken)
    by_class = [None if np.isnan(share) else share for share in shares.tolist()]
    ks = [k for k in (1, 5) if k < len(classes)] or [1]
    top = top_accuracy(scores, labels, ks)
    return Accuracy(top, float(np.nanmean(shares)), dict(zip(classes, by_class, strict=True)), taken, len(labels))


def retrieval(
    images: Float[np.ndarray, "pictures dim"],
    texts: Float[np.ndarray, "texts dim"],
    image_index: Int[np.ndarray, " texts"],
) -> Retrieval:
    """The recall of `rankings`."""
    return Retrieval(*(ranking.recall for ranking in rankings(images, texts, image_index)))


def rankings(
    images: Float[np.ndarray, "pictures dim"],
    texts: Float[np.ndarray, "texts dim"],
    image_index: Int[np.ndarray, " texts"],
) -> Rankings:
    """The rankings by cosine, where text j belongs to picture `image_index[j]`. A picture may have several texts, or
    none; it is then no query.

    A text has one correct picture; any of a picture's own captions is correct for it, as in Karpathy and Fei-Fei 2015,
    section 4.2. Ties count against the model. Cosines are computed in tiles, so memory grows linearly. Raises
    ArgumentError for an `image_index` of another length or range.
    """
    image_index = np.asarray(image_index)
    if len(image_index) != len(texts):
        raise ArgumentError(f"{len(image_index)} image indices for {len(texts)} texts; expected one each.")
    if len(image_index) and not 0 <= image_index.min() <= image_index.max() < len(images):
        low, high = image_index.min(), image_index.max()
        raise ArgumentError(f"image indices are from {low} to {high}; there are {len(images)} pictures.")
    numbers = np.arange(len(texts))
    to_image = ranking(numbers, above(texts, images, numbers, image_index))
    order = np.argsort(image_index, kind="stable")
    return Rankings(to_image, ranking(image_index[order], above(images, texts, image_index[order], order)))


def above(
    queries: Float[np.ndarray, "queries dim"],
    items: Float[np.ndarray, "items dim"],
    asking: Int[np.ndarray, " pairs"],
    right: Int[np.ndarray, " pairs"],
) -> Int[np.ndarray, " pairs"]:
    """For each pair of a query and a correct item (sorted by query), the number of wrong items that score as high."""
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
                # in this form NaN counts against the model as well
                counts[start:end][some] += (~(scores[rows[some]] < bound)).sum(axis=1)
    return counts


def ranking(asking: Int[np.ndarray, " pairs"], counts: Int[np.ndarray, " pairs"]) -> Ranking:
    """The ranking from pairs of queries (sorted) and correct items, with the number of wrong items above each."""
    if not len(asking):
        return Ranking(Recall(*[float("nan")] * 3), float("nan"), float("nan"))
    order = np.lexsort((counts, asking))
    asking, counts = asking[order], counts[order]
    firsts = np.flatnonzero(np.r_[True, asking[1:] != asking[:-1]])
    lengths = np.diff(np.r_[firsts, len(asking)])
    position = np.arange(len(asking)) - np.repeat(firsts, lengths) + 1  # among the correct items of its query
    precision = np.add.reduceat(position / (counts + position), firsts) / lengths
    ranks = counts[firsts]
    return Ranking(recall(ranks), float(np.median(ranks)) + 1, 100 * float(precision.mean()))


def recall(ranks: Int[np.ndarray, " queries"]) -> Recall:
    """Recall at 1, 5 and 10 in percent, from ranks that start at 0."""
    return Recall(*(100 * float(np.mean(ranks < k)) for k in (1, 5, 10)))


def is_right(
    scores: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"], k: int = 1
) -> Float[np.ndarray, " n"]:
    """1 for each sample whose class is among the k highest scores, else 0. Ties and NaN count against the model."""
    own = scores[np.arange(len(labels)), labels][:, None]
    return ((~(scores < own)).sum(axis=1) <= k).astype(np.float32)


def top_accuracy(
    scores: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"], ks: Sequence[int] = (1, 5)
) -> dict[int, float]:
    """The percentage of samples that are right within k, for each k; see `is_right`."""
    return {k: 100 * float(is_right(scores, labels, k).mean(dtype=np.float64)) for k in ks}


def confusion(
    predicted: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"], classes: int
) -> Int[np.ndarray, "classes classes"]:
    """The number of samples of class i (row) that were classified as j (column)."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def class_accuracy(confusion: Int[np.ndarray, "classes classes"]) -> Float[np.ndarray, " classes"]:
    """The percentage of each class's samples that were recognised; NaN for a class without samples. Their mean is the
    mean per-class accuracy that some benchmarks report."""
    totals = confusion.sum(axis=1)
    return 100 * np.divide(np.diag(confusion), totals, out=np.full(len(totals), np.nan), where=totals > 0)
