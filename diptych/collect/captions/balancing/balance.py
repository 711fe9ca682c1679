"""How many pairs of a kind to keep: the balancing of CLIP and of MetaCLIP, over streams, in bounded memory.

Captions of the web are mostly of few things. Both methods match each caption with a list of queries, keep all pairs of
rare queries, and only some of those whose queries are all frequent."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import numpy as np

from diptych.collect.captions.balancing.queries import QueryMatcher, queries_of
from diptych.errors import ArgumentError

Method = Literal["clip", "metaclip"]
MOST = 20_000  # pairs a query: the number of both papers, for 400 million pairs and 500,000 queries


def balance(
    captions: Callable[[], Iterable[str]],
    *,
    queries: Iterable[str] | None = None,
    method: Method = "metaclip",
    most: int = MOST,
    seed: int = 0,
) -> Iterator[bool]:
    """Whether to keep each caption of a set, in the order of the set, so that frequent queries do not outweigh others.

    `captions` is called for each pass over the set: two, and two more where `queries` are made of the set itself
    (`queries_of`). It must give the same captions each time; a pair with several captions is one text with a line for
    each. `method` is `clip` (`kept_by_clip`) or `metaclip` (`kept_by_metaclip`), `most` its number of pairs a query.
    Captions with none of the given queries are dropped, as in the papers. Where the queries are the set's own words,
    those captions have rare words alone, and are kept. Raises ArgumentError for a number of less than 1.
    """
    if most < 1:
        raise ArgumentError(f"Balancing keeps at least 1 pair a query, not {most}.")
    if method not in ("clip", "metaclip"):
        raise ArgumentError(f"There is no balancing {method!r}. Choose clip or metaclip.")
    matcher = QueryMatcher(queries_of(captions) if queries is None else queries)
    counts = matcher.count(captions())
    keep = kept_by_clip if method == "clip" else kept_by_metaclip
    return keep(captions(), matcher, counts, most=most, seed=seed, unmatched=queries is None)


def kept_by_clip(
    captions: Iterable[str],
    matcher: QueryMatcher,
    counts: np.ndarray,
    *,
    most: int = MOST,
    seed: int = 0,
    unmatched: bool = False,
) -> Iterator[bool]:
    """CLIP's balancing (Radford et al. 2021, section 2.2): each query chooses up to `most` of its pairs by chance, and
    a pair stays if one of its queries chose it. A query of `counts[q]` pairs chooses exactly min(most, counts[q]), by
    selection sampling in one pass (Knuth, The Art of Computer Programming 2, 3.4.2, algorithm S). The choice depends on
    the order of the captions. Memory: 16 bytes a query."""
    chance = random.Random(seed).random
    wanted = np.minimum(counts, most).tolist()
    remaining = counts.tolist()
    for caption in captions:
        found = matcher.find(caption)
        keep = unmatched and not found
        for number in sorted(found):  # a set promises no order
            if remaining[number] and chance() * remaining[number] < wanted[number]:
                wanted[number] -= 1
                keep = True
            remaining[number] -= 1
        yield keep


def kept_by_metaclip(
    captions: Iterable[str],
    matcher: QueryMatcher,
    counts: np.ndarray,
    *,
    most: int = MOST,
    seed: int = 0,
    unmatched: bool = False,
) -> Iterator[bool]:
    """MetaCLIP's balancing (Xu et al. 2023, arXiv 2309.16671, algorithm 1): a query of `counts[q]` pairs chooses each
    with the probability min(1, t / counts[q]), where t is `most`, and a pair stays if one of its queries chose it. One
    draw stands for those of all its queries: the pair stays with the probability 1 - prod(1 - p). The choice depends
    on the order of the captions."""
    dropped = 1.0 - np.minimum(1.0, most / np.maximum(counts, 1))
    misses: list[float] = dropped.tolist()
    chance = random.Random(seed).random
    for caption in captions:
        drawn = chance()
        found = matcher.find(caption)
        miss = 1.0
        for number in sorted(found):  # the order of factors, so that sums are the same everywhere
            miss *= misses[number]
        yield drawn >= miss if found else unmatched
