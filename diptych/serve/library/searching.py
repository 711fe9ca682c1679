"""Searches of many requests in one index: terms to a query, and the ranking, page by page."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from diptych.errors import DiptychError, IndexBusyError, QueryError
from diptych.index.filters.filters import Filters
from diptych.index.filters.geography import GeoBox, GeoCircle
from diptych.index.search.query import Query, Term
from diptych.index.search.results import Hit, SearchResult
from diptych.serve.library.following import following
from diptych.serve.library.items import ItemView, found, one, shown, stored_vectors
from diptych.serve.library.pages import HEAD, FoundHits, Lists, RankedHit, Ranking
from diptych.serve.model.pictures import decoded_base64
from diptych.serve.web.problems import RequestProblem

if TYPE_CHECKING:
    from diptych.serve.library.files.uploads import Uploads
    from diptych.serve.library.index_pool import AnyIndex, IndexPool
    from diptych.serve.model.pictures import Pictures
    from diptych.serve.model.served_model import ServedModel

_NOTHING = SearchResult([], 0)


class SearchPage(NamedTuple):
    """Some hits of a ranking, with the fields of their items."""

    cursor: str
    ranking: Ranking
    hits: list[dict[str, Any]]
    next_offset: int | None


class Searching:
    """Searches the index of `pool`. What a request asks for is plain JSON, as in docs/serve.md."""

    def __init__(self, pool: IndexPool, model: ServedModel, pictures: Pictures, uploads: Uploads):
        self._pool, self._model, self._pictures, self._uploads = pool, model, pictures, uploads
        self._rankings: Lists[Ranking] = Lists()
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="ahead")

    def warm_up(self) -> None:
        """Search once, so that the vectors are in memory; where their files are missing they are built."""
        try:
            with self._pool.reading() as index:
                if index.exists:
                    index.search("a picture", limit=1)
        except (DiptychError, RequestProblem, OSError) as error:  # whoever asks is told
            logging.getLogger("diptych.serve").debug("nothing was searched ahead: %s", error)

    def close(self) -> None:
        """Look for no more hits ahead."""
        self._ahead.shutdown(wait=True, cancel_futures=True)

    def page(self, wanted: dict[str, Any], view: ItemView) -> SearchPage:
        """The page that a request asks for: `terms`, `filters`, the options of a search, `offset`, `limit` and
        `cursor`."""
        asked = dict(wanted)
        offset, limit, cursor = asked.pop("offset"), asked.pop("limit"), asked.pop("cursor")
        # Ahead of the search, which remembers them: while it waited for the model, nobody else could use its index.
        texts = [term["text"] for term in asked["terms"] if term.get("text") is not None]
        self._model.embed_texts(texts, truncate=asked["truncate"])
        with self._pool.reading() as index:  # and given back: pictures of a query may take long to come
            state, newest = index.store.state(), index.store.newest_id()
        cursor, ranking = self._rankings.get(cursor, asked, state, partial(self._ranking, state, newest, asked))
        ranked = ranking.page(offset, limit)
        if offset + limit > HEAD // 2 and not ranking.is_complete:  # the rest takes a while: it is looked for ahead
            self._look_ahead(ranking)
        with self._pool.reading() as index:
            items = {item.id: view.of(item) for item in found(index, [hit.id for hit in ranked])}
        hits = [
            items[hit.id] | {"score": round(hit.score, 5), "z": hit.z and round(hit.z, 3), "copies": list(hit.copies)}
            for hit in ranked
            if hit.id in items
        ]
        is_more = bool(ranked) and offset + len(ranked) < ranking.total
        return SearchPage(cursor, ranking, hits, offset + len(ranked) if is_more else None)

    def _look_ahead(self, ranking: Ranking) -> None:
        with suppress(RuntimeError):  # of a pool that is shut down
            if not ranking.is_looked_ahead:
                ranking.is_looked_ahead = True
                self._ahead.submit(ranking.page, HEAD, 1)

    def _ranking(self, state: str, newest: int, asked: dict[str, Any]) -> Ranking:
        """The ranking of a request, of which nothing has been searched yet. It keeps nothing of the pictures' bytes."""
        filters, modality = filters_of(asked["filters"]), asked["modality"]
        terms = tuple(self._term(term, number) for number, term in enumerate(asked["terms"]))
        options = {name: asked[name] for name in ("modality", "relevant", "threshold", "diverse", "truncate", "copies")}
        own = self._own([term["item"] for term in asked["terms"] if term.get("item") is not None])
        texts = [term.value for term in terms if term.kind == "text"]
        query = Query(terms) if terms else None
        if query is None:
            raise QueryError("the search has no terms.", remedy="Give a text or a picture.")

        def search(limit: int) -> FoundHits:
            with self._pool.reading() as index, _retrying(index):
                count = limit + len(own.ids)
                result = index.search(query, limit=count, filters=filters, **options) if index.exists else _NOTHING
                hits = [_ranked(index, hit) for hit in result.hits if hit.id <= newest and hit not in own]
                are_all = len(result.hits) < count
                return FoundHits(hits if are_all else hits[:limit], are_all, _facts(result, index, texts))

        def rest(head: list[RankedHit]) -> list[RankedHit]:
            with self._pool.reading() as index, _retrying(index):
                return following(index, query, filters, modality, head, own.ids, newest)

        is_plain = not asked["relevant"] and not asked["diverse"] and asked["threshold"] is None
        is_plain = is_plain and modality != "both" and not asked["copies"]
        return Ranking(search, state, rest if is_plain else None)

    def _own(self, ids: list[int]) -> _Own:
        if not ids:
            return _Own(frozenset(), frozenset())
        with self._pool.reading() as index:
            return _Own.of(index, ids)

    def _term(self, term: dict[str, Any], number: int) -> Term:
        """A term of a request. Raises RequestProblem, and ImageError for a picture that cannot be read."""
        weight, where = float(term.get("weight", 1.0)), f"terms.{number}"
        if term.get("text") is not None:
            return Term("text", term["text"], weight)
        if term.get("vector") is not None:
            return Term("vector", np.array(term["vector"], np.float64), weight)
        return Term("vector", self._picture_vector(term, where), weight)

    def _picture_vector(self, picture: dict[str, Any], where: str) -> np.ndarray:
        """The vector of a picture of a request: an item, an upload, bytes or an address."""
        if picture.get("item") is not None:
            with self._pool.reading() as index:
                return stored_vectors(index, [one(index, picture["item"]).id])[0]
        if picture.get("upload") is not None:
            return self._uploads.get(picture["upload"]).vector
        return self._pictures.vectors([self._content(picture, where)])[0]

    def _content(self, picture: dict[str, Any], where: str) -> bytes:
        """The bytes of a picture that a request holds, or names by an address."""
        if picture.get("data") is not None:
            return decoded_base64(picture["data"], f"{where}.data")
        return self._pictures.fetched(picture["url"], f"{where}.url")


def filters_of(wanted: dict[str, Any]) -> Filters:
    """The filters of a request. Raises FilterError."""
    given = {name: value for name, value in wanted.items() if value is not None}
    if "box" in given:
        given["box"] = GeoBox(*given["box"])
    if "near" in given:
        given["near"] = GeoCircle(*given["near"])
    return Filters(**given)


@contextmanager
def _retrying(index: AnyIndex) -> Iterator[None]:
    """Another process may change the index between two reads of one search."""
    try:
        yield
    except IndexBusyError as error:
        raise RequestProblem(
            503, "NotReadyError", "the index changed while it was read.", remedy="Try again.",
            headers={"Retry-After": "1"},
        ) from error  # fmt: skip


class _Own(NamedTuple):
    """The items that a query names, which are no hits of it; nor are other frames of their films, and copies that stand
    for them."""

    ids: frozenset[int]
    paths: frozenset[Path]

    @classmethod
    def of(cls, index: AnyIndex, ids: list[int]) -> _Own:
        paths = (index.store.path_of(item.path) for item in found(index, ids) if item.modality == "picture")
        return cls(frozenset(ids), frozenset(paths))

    def __contains__(self, hit: object) -> bool:
        if not isinstance(hit, Hit) or hit.id in self.ids or not self.paths:
            return isinstance(hit, Hit) and hit.id in self.ids
        return hit.modality == "picture" and not self.paths.isdisjoint((hit.path, *hit.copies))


def _ranked(index: AnyIndex, hit: Hit) -> RankedHit:
    """A hit without what the catalog knows of it."""
    if not hit.copies:
        return RankedHit(hit.id, hit.score, hit.z, ())
    start = os.path.join(index.folder, "")
    copies = tuple(shown(os.fspath(path).removeprefix(start)) for path in hit.copies)
    return RankedHit(hit.id, hit.score, hit.z, copies)


def _facts(result: SearchResult, index: AnyIndex, texts: list[Any]) -> dict[str, Any]:
    """What an answer says of a search."""
    unseen, is_any = result.unseen, bool(texts) and index.exists
    return {
        "searched": result.searched, "relevance_z": result.relevance_z, "threshold": result.threshold,
        "truncated": index.model.tokenize(texts, truncate=True).truncated if is_any else 0,
        "unseen_words": list(unseen.words) if unseen else [], "all_unseen": bool(unseen and unseen.all),
    }  # fmt: skip
