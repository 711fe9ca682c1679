"""Searches indexes: finds the items nearest to a query and returns their files as hits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, Literal, NamedTuple, ParamSpec, Protocol

import numpy as np

from diptych.errors import ArgumentError, IndexModelError, Setting
from diptych.index.filters.filters import Filters
from diptych.index.model import display_name
from diptych.index.search.query import EmbeddingModel, Query, UnseenWords
from diptych.index.search.ranking import MIN_SAMPLE, SampleStatistics, diverse_order
from diptych.index.search.relevance import background_statistics, reference_statistics, sentence_vectors
from diptych.index.search.results import Hit, SearchResult
from diptych.index.search.sampling import SAMPLE_SIZE, standardised_in
from diptych.index.search.shots import copies_of, first_per_shot, same_bytes
from diptych.media.items import Modality
from diptych.scoring.zero_shot import unit

if TYPE_CHECKING:
    from diptych.index.catalog.validation import Item
    from diptych.index.stores.store import Selection, Store

Options = ParamSpec("Options")
SearchModality = Literal["picture", "text", "both"]
_CANDIDATES_PER_HIT = 4  # where several candidates may belong to one file, or where a part of them is dropped
_EXTRA_CANDIDATES = 8  # a copy that joins two shots may rank right behind both


class SearchableIndex(Protocol):
    """An index with its model; `diptych.open_index` returns one."""

    @property
    def store(self) -> Store: ...

    @property
    def model(self) -> EmbeddingModel: ...


class _SearchRequest(NamedTuple):
    """A search of one modality, the same in every index; `count` candidates of each are ranked."""

    query: Query
    vector: np.ndarray
    modality: Modality
    count: int
    filters: Filters
    relevant: bool
    threshold: float | None
    copies: bool


class _Candidates(NamedTuple):
    """The best items of one modality in one index, best first, each shot once. `relevance_z` and `threshold` are None
    where relevance was not requested, or where there are too few items for it."""

    store: Store
    items: list[Item]
    cosines: np.ndarray
    sample_statistics: SampleStatistics
    searched: int
    relevance_z: float | None = None
    threshold: float | None = None


def search_all(
    indexes: Sequence[SearchableIndex],
    query: object,
    *,
    limit: int = 10,
    modality: SearchModality = "picture",
    filters: Filters | None = None,
    relevant: bool = False,
    threshold: float | None = None,
    diverse: float = 0.0,
    truncate: bool = False,
    copies: bool = False,
) -> SearchResult:
    """The `limit` best hits of several indexes for a query: a `Query`, a sentence, a picture or a vector. A file that
    is in several indexes is one hit.

    `modality` "both" ranks pictures and texts by z, because a text is closer to any other text than to a picture of
    what it describes. A video is one hit, with its best frame; a text file has a hit for each paragraph. Copies of a
    file, links to it, and the RAW, HEIC and JPEG files of one shot are one hit, which lists the others; with `copies`
    each is a hit of its own. `relevant` drops hits that are not relevant, which may be all (see
    `diptych.index.search.relevance`); `threshold` replaces the default least `relevance_z`. `diverse`, 0 to 1, trades
    similarity to the query for dissimilarity among the hits.

    Raises ValueError for invalid options, QueryError, FilterError, IndexModelError where the indexes are of different
    models, and the model's own errors.
    """
    if not isinstance(limit, int | np.integer) or limit < 1:
        raise ArgumentError(f"limit is {limit!r}; wanted a whole number, 1 or more.", argument="limit")
    if not 0 <= diverse <= 1:
        raise ArgumentError(
            [Setting("diverse"), f" is {diverse:g}; wanted 0 (most similar to the query) to 1 (most diverse)."],
            argument="diverse",
        )
    check_one_model(indexes)
    modalities: tuple[Modality, ...] = ("picture", "text") if modality == "both" else (modality,)
    query = Query.of(query)
    count = max(limit * _CANDIDATES_PER_HIT, 50) if diverse else limit
    options = (count, filters or Filters(), relevant, threshold, copies)
    vectors = query.term_vectors(indexes[0].model, truncate=truncate)
    requests = [_SearchRequest(*_standardised(query, vectors, indexes, one), one, *options) for one in modalities]
    unseen = _unseen_words(query, indexes[0].model)
    sources = [_candidates(index, request) for request in requests for index in indexes]
    scores = [one.sample_statistics.standardise(one.cosines) if len(modalities) > 1 else one.cosines for one in sources]
    order = _rank_merged(scores)
    if len(indexes) > 1:
        order = _deduplicated(sources, order, copies)
    if diverse:
        order = _diversified(sources, scores, order, diverse, limit)
    hits = [] if relevant and unseen and unseen.all else _hits(sources, order[:limit], requests[0])
    judged = [one for one in sources if one.relevance_z is not None]
    best = max(judged, key=lambda one: one.relevance_z or 0, default=None)
    refused = {name: None for index in indexes for name in index.store.refused.values()}
    searched = sum(one.searched for one in sources)
    return SearchResult(hits, searched, best and best.relevance_z, best and best.threshold, tuple(refused), unseen)


def _unseen_words(query: Query, model: EmbeddingModel) -> UnseenWords | None:
    """The words of the query that the model's training never saw; a model of the caller's may not say."""
    known = getattr(model, "known_words", None) if any(term.kind == "text" for term in query.terms) else None
    return known and query.unseen_words(known)


def in_one(
    search_several: Callable[Concatenate[Sequence[SearchableIndex], Options], SearchResult],
) -> Callable[Concatenate[SearchableIndex, Options], SearchResult]:
    """The search of several indexes as a search of one, with the same options."""

    @wraps(search_several, assigned=("__annotations__",))
    def search(index: SearchableIndex, *query: Options.args, **options: Options.kwargs) -> SearchResult:
        """The `limit` best hits for a query, with the options of `diptych.search_all`."""
        return search_several([index], *query, **options)

    return search


def check_one_model(indexes: Sequence[SearchableIndex]) -> None:
    """Raises IndexModelError where the indexes are of different models, ArgumentError where there are none."""
    if not indexes:
        raise ArgumentError("indexes is empty; wanted one or more.", argument="indexes")
    if len(indexes) == 1:
        return
    stores = [index.store for index in indexes]
    all_facts = [store.facts() for store in stores]
    for facts, store in zip(all_facts, stores, strict=True):
        if facts["fingerprint"] != all_facts[0]["fingerprint"]:
            models = display_name(all_facts[0]["model"]), display_name(facts["model"])
            raise IndexModelError(
                f"{stores[0].name} was made with {models[0]} and {store.name} with {models[1]}; scores "
                "of two models cannot be compared. Search them one by one, or reindex one of them with the other's "
                "model."
            )


def _standardised(
    query: Query, vectors: np.ndarray, indexes: Sequence[SearchableIndex], modality: Modality
) -> tuple[Query, np.ndarray]:
    """The query as its terms count among the items of a modality, and its vector."""
    stores = [index.store for index in indexes] if query.is_mixed else []
    query = standardised_in(stores, modality, query, vectors, indexes[0].model)
    return query, query.combined(vectors)


def _candidates(index: SearchableIndex, request: _SearchRequest) -> _Candidates:
    """The best items of one modality in one index."""
    store, modality = index.store, request.modality
    selection = store.select(modality, request.filters)
    searched = len(selection)
    items, cosines = _best_items(store, selection, request) if searched else ([], np.empty(0, np.float32))
    if not items:  # none passes the filters, or those that do are not in the cache yet while another process updates it
        return _Candidates(store, items, cosines, SampleStatistics(0, 0, 0), searched)
    sample_statistics = SampleStatistics.of(store.sample(modality, SAMPLE_SIZE)[1] @ request.vector)
    if not request.relevant or searched < MIN_SAMPLE:
        return _Candidates(store, items, cosines, sample_statistics, searched)
    reference = getattr(index.model, "reference_pictures", None) if modality == "picture" else None
    sentences = sentence_vectors(index.model, store.cache_dir, str(store.facts().get("fingerprint", "")))
    if reference and request.query.is_text:
        others = reference_statistics(reference, request.vector, searched, sentences, request.threshold)
    else:
        drawn = store.sample(modality, len(sentences))
        others = background_statistics(request.query, drawn, selection, sentences, threshold=request.threshold)
    threshold = others.threshold
    relevance_z = others.relevance_z(selection.search(request.vector, others.top_k)[1])
    is_relevant = relevance_z >= threshold
    kept = int(sum(others.z_score(float(cosine)) >= threshold for cosine in cosines)) if is_relevant else 0
    return _Candidates(store, items[:kept], cosines[:kept], sample_statistics, searched, relevance_z, threshold)


def _best_items(store: Store, selection: Selection, request: _SearchRequest) -> tuple[list[Item], np.ndarray]:
    """The best items, at most one of a shot or a video; more candidates are fetched until they suffice or there are no
    more. Cosines are clipped to 1, because rounding may have made a vector a little longer than 1."""
    number, size = request.count + _EXTRA_CANDIDATES, len(selection)
    while True:
        ids, cosines = selection.search(request.vector, min(number, size))
        by_id = dict(zip(ids.tolist(), cosines.tolist(), strict=True))
        items = store.items(ids.tolist())
        first = _first_per_video(items) if request.copies else first_per_shot(store, items)
        if len(first) >= request.count or number >= size:
            items = first[: request.count]
            return items, np.clip(np.array([by_id[item.id] for item in items], np.float32), -1, 1)
        number *= _CANDIDATES_PER_HIT


def _first_per_video(items: Iterable[Item]) -> list[Item]:
    """The first frame of each video, and every other item."""
    first: dict[object, Item] = {}
    for item in items:
        first.setdefault(item.path if item.at_s is not None else item.id, item)
    return list(first.values())


def _rank_merged(scores: list[np.ndarray]) -> list[tuple[int, int]]:
    """(source, position in it), best first: by cosine within one modality, by z across several."""
    keys = [(source, position) for source, some in enumerate(scores) for position in range(len(some))]
    return sorted(keys, key=lambda key: -scores[key[0]][key[1]]) if len(scores) > 1 else keys


def _deduplicated(sources: list[_Candidates], order: list[tuple[int, int]], copies: bool) -> list[tuple[int, int]]:
    """The order with each file, or each content, once where several indexes hold it."""
    kept: dict[object, tuple[int, int]] = {}
    for source, position in order:
        store, item = sources[source].store, sources[source].items[position]
        same = _real_path(store.path_of(item.path)) if copies or not item.digest else item.digest
        kept.setdefault((same, item.modality, item.line), (source, position))
    return list(kept.values())


def _diversified(
    sources: list[_Candidates], scores: list[np.ndarray], order: list[tuple[int, int]], diversity: float, limit: int
) -> list[tuple[int, int]]:
    """The order in which similar hits are far from each other. Pictures and texts need no such distance: their vectors
    are apart anyway (the modality gap)."""
    if not order:
        return order
    vectors: dict[tuple[int, int], np.ndarray] = {}
    for source, candidates in enumerate(sources):
        chosen = [key for key in order if key[0] == source]
        stored = candidates.store.vectors_of([candidates.items[position].id for _, position in chosen])
        vectors |= dict(zip(chosen, unit(stored.astype(np.float32)), strict=True))
    relevance = [float(scores[source][position]) for source, position in order]
    diverse = diverse_order(np.stack([vectors[key] for key in order]), relevance, diversity=diversity, limit=limit)
    return [order[position] for position in diverse]


def _hits(sources: list[_Candidates], order: list[tuple[int, int]], request: _SearchRequest) -> list[Hit]:
    hits: dict[tuple[int, int], Hit] = {}
    for source, candidates in enumerate(sources):
        chosen = [position for one, position in order if one == source]
        items = [candidates.items[position] for position in chosen]
        if request.copies:
            shots = [_Shot(item, ()) for item in items]
        else:
            shots = _shots(sources, candidates, items, request.filters)
        z = candidates.sample_statistics.z_scores(candidates.cosines)
        hits |= {
            (source, position): _hit(candidates, position, shot, z[position])
            for position, shot in zip(chosen, shots, strict=True)
        }
    return [hits[key] for key in order]


class _Shot(NamedTuple):
    """The item that represents a shot, and the shot's other files."""

    item: Item
    copies: tuple[Path, ...]


def _shots(sources: list[_Candidates], candidates: _Candidates, items: list[Item], filters: Filters) -> list[_Shot]:
    """The shot of each item: its files in its own index, and files with the same bytes in the other indexes."""
    own = candidates.store
    copies = copies_of(own, items, filters)
    shots = [_shot(own, item, some) for item, some in zip(items, copies, strict=True)]
    for store in {id(one.store): one.store for one in sources if one.store is not own}.values():
        elsewhere = same_bytes(store, items, filters)
        shots = [_with_copies(own, shot, store, some) for shot, some in zip(shots, elsewhere, strict=True)]
    return shots


def _shot(store: Store, item: Item, copies: list[Item]) -> _Shot:
    """Among the files with the item's bytes, the shot is represented by one that is no link, the least deep one, and
    the one with the shortest name."""
    if not copies:
        return _Shot(item, ())
    files = [item, *copies]
    same = [copy for copy in files if (copy.digest, copy.at_s, copy.line) == (item.digest, item.at_s, item.line)]
    item = min(
        same, key=lambda copy: (store.path_of(copy.path).is_symlink(), copy.path.count("/"), len(copy.path), copy.path)
    )
    paths = {copy.path for copy in files} - {item.path}
    return _Shot(item, tuple(map(store.path_of, sorted(paths))))


def _with_copies(own: Store, shot: _Shot, other: Store, copies: list[Item]) -> _Shot:
    """With the files of another index, whose folder may contain this one's: each file once."""
    listed = {_real_path(path) for path in (own.path_of(shot.item.path), *shot.copies)}
    paths = (other.path_of(path) for path in sorted({copy.path for copy in copies}))
    return shot._replace(copies=(*shot.copies, *(path for path in paths if _real_path(path) not in listed)))


def _real_path(path: Path) -> str:
    """The path of a file, or of a link itself, in its folder's real path."""
    return os.path.join(os.path.realpath(path.parent), path.name)


def _hit(candidates: _Candidates, position: int, shot: _Shot, z: float | None) -> Hit:
    item, details = shot.item, shot.item.details
    return Hit(
        candidates.store.path_of(item.path), float(candidates.cosines[position]), z,
        item.kind, item.modality, item.at_s, item.line, item.text, item.id, item.size,
        details.width, details.height, details.taken_at, details.latitude, details.longitude, details.camera,
        details.caption, shot.copies,
    )  # fmt: skip
