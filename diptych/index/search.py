"""Looking things up in an index: a query's nearest items, as hits that a person can read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol
from weakref import WeakKeyDictionary

import numpy as np

from diptych.index.filters import Filters
from diptych.index.items import Modality
from diptych.index.query import Encoder, Query
from diptych.index.ranking import LEAST_BACKGROUND, Background, diverse_order
from diptych.index.relevance import Neighbourly, Reach, reach, sentence_vectors
from diptych.zero_shot import unit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from diptych.index.catalog import Item

Wanted = Literal["picture", "text", "both"]
BACKGROUND = 2048  # items that a query's own background is taken from; of a smaller index all
_MORE = 4  # candidates asked for each hit where several may be of one file, or where they are thinned out


_samples: WeakKeyDictionary[Neighbourly, tuple[int, np.ndarray]] = WeakKeyDictionary()


class _Catalog(Protocol):
    def matching(self, condition: str, parameters: Any = ()) -> np.ndarray: ...

    def items(self, ids: Iterable[int]) -> list[Item]: ...

    def vectors_of(self, ids: Iterable[int]) -> np.ndarray: ...

    def facts(self) -> dict[str, Any]: ...


class Index(Protocol):
    """What a search needs; `diptych.open_index` gives one."""

    @property
    def catalog(self) -> _Catalog: ...

    @property
    def model(self) -> Encoder: ...

    @property
    def place(self) -> Path: ...

    def nearest(self, modality: Modality) -> Neighbourly: ...

    def path_of(self, path: str) -> Path: ...


class Hit(NamedTuple):
    """Something found: its file, its cosine to the query, and `z`, how many deviations it stands above the query's own
    background, a sample of the index (None where the index holds under ten items of its kind).

    `kind` is the file's: picture, video or text. `at_s` is the time of a video's best frame, `line` and `text` are a
    paragraph's or caption's. The rest is what the file says of itself, None where it is silent.
    """

    path: Path
    score: float
    z: float | None
    kind: str = "picture"
    modality: Modality = "picture"
    at_s: float | None = None
    line: int | None = None
    text: str | None = None
    id: int = 0
    size: int = 0
    width: int | None = None
    height: int | None = None
    taken_at: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    camera: str | None = None
    caption: str | None = None


class Found(NamedTuple):
    """The `hits`, best first, and how many items were `searched`: those of the asked kind that passed the filters.

    Where relevance was asked for of ten items or more, `standing` is how far the best hits stand above what other
    queries reach on these items, in deviations, and `cut` is what it takes to stand out; no hits are left where it is
    below. Of several modalities it is the one that stands out most.
    """

    hits: list[Hit]
    searched: int
    standing: float | None = None
    cut: float | None = None


class _Candidates(NamedTuple):
    """The best of one modality, best first."""

    items: list[Item]
    cosines: np.ndarray
    background: Background
    searched: int
    reach: Reach | None
    standing: float | None


def search(
    index: Index,
    query: Any,
    *,
    limit: int = 10,
    modality: Wanted = "picture",
    filters: Filters | None = None,
    relevant: bool = False,
    diverse: float = 0.0,
    truncate: bool = False,
) -> Found:
    """The `limit` best hits for a query: a `Query`, a sentence, a picture or a vector.

    `modality` "both" ranks pictures and texts by z, for a text is nearer to any other text than to a picture of what it
    says. A video is one hit, with its best frame; a text file gives a hit a paragraph. `relevant` keeps what stands out
    (see `diptych.index.relevance`), which may be nothing. `diverse`, 0 to 1, trades likeness to the query for
    unlikeness among the hits. Raises ValueError for these, QueryError, FilterError, and what the model raises.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}; wanted 1 or more.")
    if not 0 <= diverse <= 1:
        raise ValueError(f"diverse is {diverse:g}; wanted 0 (the best alone) to 1 (as unlike each other as can be).")
    wanted: tuple[Modality, ...] = ("picture", "text") if modality == "both" else (modality,)
    query = Query.of(query)
    vector = query.embed(index.model, truncate=truncate)
    count = max(limit * _MORE, 50) if diverse else limit
    found = [_candidates(index, one, query, vector, count, filters or Filters(), relevant) for one in wanted]
    order = _merged(found)
    if diverse:
        order = _spread(index, found, order, diverse, limit)
    hits = [_hit(index, found[which], at) for which, at in order[:limit]]
    best = max((one for one in found if one.reach), key=lambda one: one.standing or 0, default=None)
    searched = sum(one.searched for one in found)
    return Found(hits, searched, best and best.standing, best and best.reach and best.reach.cut)


def _candidates(
    index: Index, modality: Modality, query: Query, vector: np.ndarray, count: int, filters: Filters, relevant: bool
) -> _Candidates:
    """The best `count` hits of one modality."""
    nearest = index.nearest(modality)
    among = _allowed(index, modality, filters)
    searched = len(nearest) if among is None else len(among)
    items, cosines = _best_files(index, nearest, vector, count, among) if searched else ([], np.empty(0, np.float32))
    if not items:  # nothing passes, or what does is too new for a cache that another process is updating
        return _Candidates(items, cosines, Background(0, 0, 0), searched, None, None)
    background = Background.of(_sample(nearest) @ vector)
    if not relevant or searched < LEAST_BACKGROUND:  # the spread of fewer tells nothing
        return _Candidates(items, cosines, background, searched, None, None)
    sentences = sentence_vectors(index.model, index.place, str(index.catalog.facts().get("fingerprint", "")))
    other = reach(query, nearest, sentences, among=among)
    standing = other.standing(nearest.search(vector, other.best, among=among)[1])
    if standing < other.cut:
        return _Candidates([], cosines[:0], background, searched, other, standing)
    kept = int(sum(other.height(float(cosine)) >= other.cut for cosine in cosines))
    return _Candidates(items[:kept], cosines[:kept], background, searched, other, standing)


def _sample(nearest: Neighbourly) -> np.ndarray:
    """The vectors that backgrounds are taken from, drawn once for as long as nothing comes or goes."""
    count, vectors = _samples.get(nearest, (-1, None))
    if vectors is None or count != len(nearest):
        count, vectors = len(nearest), nearest.sample(BACKGROUND)[1]
        _samples[nearest] = count, vectors
    return vectors


def _allowed(index: Index, modality: Modality, filters: Filters) -> np.ndarray | None:
    """The ids that pass the filters; None where all do."""
    if not filters:
        return None
    condition, parameters = filters.condition()
    return index.catalog.matching(f"items.modality = ? AND ({condition})", [modality, *parameters])


def _best_files(
    index: Index, nearest: Neighbourly, vector: np.ndarray, count: int, among: np.ndarray | None
) -> tuple[list[Item], np.ndarray]:
    """The best items, at most one of a video; more are asked for until there are `count`, or no more to be had."""
    asked, size = count, len(nearest) if among is None else len(among)
    while True:
        ids, cosines = nearest.search(vector, min(asked, size), among=among)
        by_id = dict(zip(ids.tolist(), cosines.tolist(), strict=True))
        first: dict[object, Item] = {}
        for item in index.catalog.items(ids.tolist()):
            first.setdefault(item.path if item.at_s is not None else item.id, item)
        if len(first) >= count or asked >= size:
            items = list(first.values())[:count]
            return items, np.array([by_id[item.id] for item in items], np.float32)
        asked *= _MORE


def _merged(found: list[_Candidates]) -> list[tuple[int, int]]:
    """(which modality, which of its items), best first: by cosine within one modality, by z across several."""
    heights = [one.background.height(one.cosines) for one in found]
    keys = [(which, at) for which, one in enumerate(found) for at in range(len(one.items))]
    return sorted(keys, key=lambda key: -heights[key[0]][key[1]]) if len(found) > 1 else keys


def _spread(
    index: Index, found: list[_Candidates], order: list[tuple[int, int]], diversity: float, limit: int
) -> list[tuple[int, int]]:
    """The order that keeps hits apart. The gap between pictures' and texts' vectors keeps those two apart by itself."""
    if not order:
        return order
    stored = index.catalog.vectors_of([found[which].items[at].id for which, at in order]).astype(np.float32)
    vectors = unit(stored)
    heights = [found[which].background.height(found[which].cosines)[at] for which, at in order]
    return [order[at] for at in diverse_order(vectors, heights, diversity=diversity, limit=limit)]


def _hit(index: Index, candidates: _Candidates, at: int) -> Hit:
    item, cosine = candidates.items[at], candidates.cosines[at]
    details = item.details
    return Hit(
        index.path_of(item.path), float(cosine), candidates.background.z(np.array([cosine]))[0],
        item.kind, item.modality, item.at_s, item.line, item.text, item.id, item.size,
        details.width, details.height, details.taken_at, details.latitude, details.longitude, details.camera,
        details.caption,
    )  # fmt: skip
