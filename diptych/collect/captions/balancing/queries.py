"""Lists of queries for balancing: the words and pairs of words that occur often in a set, or the lines of a file."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from diptych.collect.captions.letters import is_word, joined, tokens_of
from diptych.errors import DataError

LEAST_COUNT = 100  # occurrences of a word; CLIP's paper counts in Wikipedia
LEAST_PMI = 4.0  # bits: the words of a pair stand together 16 times as often as by chance
MOST_COUNTED = 2_000_000  # different words, and as many pairs, in memory (about 250 MB each)
T = TypeVar("T")
_MOST_LINE_BYTES = 1000
_MOST_LINES = 5_000_000


def queries_of(
    captions: Callable[[], Iterable[str]],
    *,
    least_count: int = LEAST_COUNT,
    least_pmi: float = LEAST_PMI,
    most_counted: int = MOST_COUNTED,
) -> list[str]:
    """The query list of a set, after section 2.2 of CLIP's paper (Radford et al. 2021): each word that occurs at least
    `least_count` times, and each pair of neighbouring words as often whose pointwise mutual information, log2 p(a, b) /
    (p(a) p(b)), is at least `least_pmi` bits. `captions` is called for each of two passes. The paper takes its words
    from Wikipedia, and adds titles of its articles and WordNet's synsets: give such a list as a file.

    Memory is bounded: of more than `most_counted` different words (or pairs) the rarest are forgotten on the way (Manku
    and Motwani 2002, lossy counting), so that counts are too low by at most the number of words read / `most_counted`.
    """
    words = LossyCounter(most_counted)
    for caption in captions():
        words.add(token for token in tokens_of(caption) if is_word(token))
    often = {word: count for word, count in words.counts.items() if count >= least_count}
    pairs = LossyCounter(most_counted)
    for caption in captions():
        pairs.add(_pairs_of(tokens_of(caption), often))
    total = max(words.total, 1)
    found = [
        pair
        for pair, count in pairs.counts.items()
        if count >= least_count and _pmi(count, often[pair[0]], often[pair[1]], total) >= least_pmi
    ]
    return sorted(often) + sorted({joined(pair) for pair in found})


def _pairs_of(tokens: Sequence[str], often: dict[str, int]) -> Iterator[tuple[str, str]]:
    return ((a, b) for a, b in pairwise(tokens) if a in often and b in often)


def _pmi(together: int, first: int, second: int, total: int) -> float:
    return math.log2(together * total / (first * second))


class LossyCounter(Generic[T]):
    """Counts with bounded memory (Manku and Motwani 2002, "Approximate frequency counts over data streams", 4.2)."""

    def __init__(self, width: int):
        """Counts are too low by at most `total / width`; about `width` of them are in memory."""
        self.counts: Counter[T] = Counter()
        self.total = 0
        self._width = width
        self._since = 0

    def add(self, items: Iterable[T]) -> None:
        """Count each item once."""
        items = list(items)
        self.counts.update(items)
        self.total += len(items)
        self._since += len(items)
        if self._since >= self._width:
            self._since -= self._width
            for item in [item for item, count in self.counts.items() if count <= 1]:
                del self.counts[item]
            self.counts.subtract(self.counts.keys())


def read_queries(path: str | os.PathLike[str]) -> list[str]:
    """The queries of a UTF-8 file, one a line; empty lines and those that begin with "#" are left out, and each is read
    once. Raises DataError for a file without one, with lines of over 1,000 bytes or with over five million."""
    queries: dict[str, None] = {}
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, 1):
            if len(line) > _MOST_LINE_BYTES or number > _MOST_LINES:
                raise DataError(
                    f"{os.fspath(path)}, line {number}: a list of queries has lines of up to {_MOST_LINE_BYTES} bytes,"
                    f" and at most {_MOST_LINES:,} of them. Give a text file with one query a line."
                )
            text = line.decode("utf-8", "replace").lstrip("\ufeff").strip()
            if text and not text.startswith("#"):
                queries.setdefault(text)
    if not queries:
        raise DataError(f"{os.fspath(path)} has no query. Give a text file with one query a line.")
    return list(queries)


class QueryMatcher:
    """Finds which of many queries a caption has. A query matches whole words in their order, whatever their case and
    the punctuation between them ("t-shirt" matches "T shirt"), as the released code of MetaCLIP does by spaces around
    them; in scripts without spaces it matches anywhere. Time: a look-up a word, however many the queries."""

    def __init__(self, queries: Iterable[str]):
        """Queries without a word or number are left out; `queries` are those that stay, each once."""
        self.queries: list[str] = []
        self._numbers: dict[str, int] = {}
        self._lengths: dict[str, tuple[int, ...]] = {}
        for query in queries:
            tokens = tokens_of(query)
            key = joined(tokens) if tokens else ""
            if not key or key in self._numbers:
                continue
            self._numbers[key] = len(self.queries)
            self.queries.append(query)
            lengths = self._lengths.get(tokens[0], ())
            if len(tokens) not in lengths:
                self._lengths[tokens[0]] = tuple(sorted((*lengths, len(tokens))))

    def __len__(self) -> int:
        return len(self.queries)

    def find(self, caption: str) -> set[int]:
        """The numbers of the queries that a caption has (positions in `queries`). Lines are matched one by one."""
        found: set[int] = set()
        numbers, lengths = self._numbers, self._lengths
        for line in caption.splitlines() if "\n" in caption else (caption,):
            tokens = tokens_of(line)
            for at, token in enumerate(tokens):
                for length in lengths.get(token, ()):
                    key = token if length == 1 else joined(tokens[at : at + length])
                    number = numbers.get(key) if at + length <= len(tokens) else None
                    if number is not None:
                        found.add(number)
        return found

    def count(self, captions: Iterable[str]) -> np.ndarray:
        """How many captions have each query: (queries,) int64."""
        counts = np.zeros(len(self), np.int64)
        for caption in captions:
            for number in self.find(caption):
                counts[number] += 1
        return counts
