"""Looking things up in an index: a query's nearest items, as hits that a person can read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol
from weakref import WeakKeyDictionary

import numpy as np

from diptych.errors import ArgumentError, Setting
from diptych.index.model import called
from diptych.index.search.filters import Filters
from diptych.index.search.query import Encoder, Query
from diptych.index.search.ranking import LEAST_BACKGROUND, Background, diverse_order
from diptych.index.search.relevance import Neighbourly, Reach, reach, sentence_vectors
from diptych.index.search.shots import copies_of, first_of_shots, same_bytes
from diptych.media.items import Modality
from diptych.scoring.zero_shot import unit
from diptych.storage.faults import IndexModelError

if TYPE_CHECKING:
    from diptych.index.catalog.catalog import Item

Wanted = Literal["picture", "text", "both"]
BACKGROUND = 2048  # items that a query's own background is taken from; of a smaller index all
_MORE = 4  # candidates asked for each hit where several may be of one file, or where they are thinned out
_MARGIN = 8  # more than were asked for at first: a copy that ties two shots may rank right behind both


_samples: WeakKeyDictionary[Neighbourly, tuple[int, np.ndarray]] = WeakKeyDictionary()


class _Catalog(Protocol):
    def matching(self, condition: str, parameters: Any = ()) -> np.ndarray: ...

    def items(self, ids: Iterable[int]) -> list[Item]: ...

    def vectors_of(self, ids: Iterable[int]) -> np.ndarray: ...

    def facts(self) -> dict[str, Any]: ...

    @property
    def refused(self) -> Mapping[int, str]: ...


class Index(Protocol):
    """What a search needs; `diptych.open_index` gives one."""

    @property
    def catalog(self) -> _Catalog: ...

    @property
    def model(self) -> Encoder: ...

    @property
    def place(self) -> Path: ...

    @property
    def under(self) -> str: ...

    def nearest(self, modality: Modality) -> Neighbourly: ...

    def path_of(self, path: str) -> Path: ...


class Hit(NamedTuple):
    """Something found: its file, its cosine to the query, and `z`, how many deviations it stands above the query's own
    background, a sample of the index (None where the index holds under ten items of its kind).

    `kind` is the file's: picture, video or text. `at_s` is the time of a video's best frame, `line` and `text` are a
    paragraph's or caption's. `copies` are the other files of the same shot. The rest is what the file says of itself,
    None where it is silent.
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
    copies: tuple[Path, ...] = ()


class Found(NamedTuple):
    """The `hits`, best first, and how many items were `searched`: those of the asked kind that passed the filters.

    Where relevance was asked for of ten items or more, `standing` is how far the best hits stand above what other
    queries reach on these items, in deviations, and `cut` is what it takes to stand out; no hits are left where it is
    below. Of several modalities it is the one that stands out most.

    `refused` names what was met in the indexes that is no file of their folders, and no hit.
    """

    hits: list[Hit]
    searched: int
    standing: float | None = None
    cut: float | None = None
    refused: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        """The hits with small pictures, where a notebook shows a result."""
        from diptych.index.search.notebook import found_html

        return found_html(self)


class _Candidates(NamedTuple):
    """The best of one modality in one index, best first, a shot once."""

    index: Index
    items: list[Item]
    cosines: np.ndarray
    background: Background
    searched: int
    reach: Reach | None = None
    standing: float | None = None


class _Asked(NamedTuple):
    """What is looked for, in every index alike."""

    query: Query
    vector: np.ndarray
    count: int
    filters: Filters
    relevant: bool
    copies: bool


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
    copies: bool = False,
) -> Found:
    """The `limit` best hits for a query: a `Query`, a sentence, a picture or a vector.

    `modality` "both" ranks pictures and texts by z, for a text is nearer to any other text than to a picture of what it
    says. A video is one hit, with its best frame; a text file gives a hit a paragraph. Copies of a file, links to it,
    and the RAW, HEIC and JPEG files of one shot are one hit, which names the others; with `copies` each is its own.
    `relevant` keeps what stands out (see `diptych.index.search.relevance`), which may be nothing. `diverse`, 0 to 1,
    trades likeness to the query for unlikeness among the hits. Raises ValueError for these, QueryError, FilterError,
    and what the model raises.
    """
    return search_all(
        [index], query, limit=limit, modality=modality, filters=filters, relevant=relevant, diverse=diverse,
        truncate=truncate, copies=copies,
    )  # fmt: skip


def search_all(
    indexes: Sequence[Index],
    query: Any,
    *,
    limit: int = 10,
    modality: Wanted = "picture",
    filters: Filters | None = None,
    relevant: bool = False,
    diverse: float = 0.0,
    truncate: bool = False,
    copies: bool = False,
) -> Found:
    """`search` in several indexes at once: the best hits of all, by their scores. A file that several of them hold
    counts once. Raises IndexModelError where they are not all of one model."""
    if not isinstance(limit, int | np.integer) or limit < 1:
        raise ArgumentError(f"limit is {limit!r}; wanted a whole number, 1 or more.", argument="limit")
    if not 0 <= diverse <= 1:
        raise ArgumentError(
            [Setting("diverse"), f" is {diverse:g}; wanted 0 (the best alone) to 1 (as unlike each other as can be)."],
            argument="diverse",
        )
    check_one_model(indexes)
    wanted: tuple[Modality, ...] = ("picture", "text") if modality == "both" else (modality,)
    query = Query.of(query)
    vector = query.embed(indexes[0].model, truncate=truncate)
    count = max(limit * _MORE, 50) if diverse else limit
    asked = _Asked(query, vector, count, filters or Filters(), relevant, copies)
    found = [_candidates(index, one, asked) for one in wanted for index in indexes]
    worth = [one.background.height(one.cosines) if len(wanted) > 1 else one.cosines for one in found]
    order = _merged(worth)
    if len(indexes) > 1:
        order = _once(found, order, copies)
    if diverse:
        order = _spread(found, worth, order, diverse, limit)
    best = max((one for one in found if one.reach), key=lambda one: one.standing or 0, default=None)
    searched = sum(one.searched for one in found)
    hits = _hits(found, order[:limit], asked)
    refused = {name: None for index in indexes for name in index.catalog.refused.values()}
    return Found(hits, searched, best and best.standing, best and best.reach and best.reach.cut, tuple(refused))


def check_one_model(indexes: Sequence[Index]) -> None:
    """Raises IndexModelError where the vectors of these indexes cannot be compared, ArgumentError where there are
    none."""
    if not indexes:
        raise ArgumentError("no index came to search in; wanted one or more.", argument="indexes")
    if len(indexes) == 1:
        return
    made = [index.catalog.facts() for index in indexes]
    for facts, index in zip(made, indexes, strict=True):
        if facts["fingerprint"] != made[0]["fingerprint"]:
            models = called(made[0]["model"]), called(facts["model"])
            raise IndexModelError(
                f"{indexes[0].place} was made with {models[0]} and {index.place} with {models[1]}; scores "
                "of two models cannot be compared. Search them one by one, or index one of them anew with the other's "
                "model."
            )


def _candidates(index: Index, modality: Modality, asked: _Asked) -> _Candidates:
    """The best hits of one modality in one index."""
    nearest = index.nearest(modality)
    among = _allowed(index, modality, asked.filters)
    searched = len(nearest) if among is None else len(among)
    items, cosines = _best_files(index, nearest, asked, among) if searched else ([], np.empty(0, np.float32))
    if not items:  # nothing passes, or what does is too new for a cache that another process is updating
        return _Candidates(index, items, cosines, Background(0, 0, 0), searched)
    background = Background.of(_sample(nearest) @ asked.vector)
    if not asked.relevant or searched < LEAST_BACKGROUND:  # the spread of fewer tells nothing
        return _Candidates(index, items, cosines, background, searched)
    sentences = sentence_vectors(index.model, index.place, str(index.catalog.facts().get("fingerprint", "")))
    other = reach(asked.query, nearest, sentences, among=among)
    standing = other.standing(nearest.search(asked.vector, other.best, among=among)[1])
    kept = int(sum(other.height(float(cosine)) >= other.cut for cosine in cosines)) if standing >= other.cut else 0
    return _Candidates(index, items[:kept], cosines[:kept], background, searched, other, standing)


def _sample(nearest: Neighbourly) -> np.ndarray:
    """The vectors that backgrounds are taken from, drawn once for as long as nothing comes or goes."""
    count, vectors = _samples.get(nearest, (-1, None))
    if vectors is None or count != len(nearest):
        count, vectors = len(nearest), nearest.sample(BACKGROUND)[1]
        _samples[nearest] = count, vectors
    return vectors


def _allowed(index: Index, modality: Modality, filters: Filters) -> np.ndarray | None:
    """The ids that pass the filters and lie in the index's folder; None where all do."""
    filters = filters.within(index.under)
    if not filters:
        return None
    condition, parameters = filters.condition()
    return index.catalog.matching(f"items.modality = ? AND ({condition})", [modality, *parameters])


def _best_files(
    index: Index, nearest: Neighbourly, asked: _Asked, among: np.ndarray | None
) -> tuple[list[Item], np.ndarray]:
    """The best items, at most one of a shot or a video; more are asked for until there are enough, or no more to be
    had. Their cosines are of vectors that rounding may have made a little longer than 1."""
    number, size = asked.count + _MARGIN, len(nearest) if among is None else len(among)
    while True:
        ids, cosines = nearest.search(asked.vector, min(number, size), among=among)
        by_id = dict(zip(ids.tolist(), cosines.tolist(), strict=True))
        items = index.catalog.items(ids.tolist())
        first = _first_of_each(items) if asked.copies else first_of_shots(index.catalog, items)
        if len(first) >= asked.count or number >= size:
            items = first[: asked.count]
            return items, np.clip(np.array([by_id[item.id] for item in items], np.float32), -1, 1)
        number *= _MORE


def _first_of_each(items: Iterable[Item]) -> list[Item]:
    """One item of a video, every other."""
    first: dict[object, Item] = {}
    for item in items:
        first.setdefault(item.path if item.at_s is not None else item.id, item)
    return list(first.values())


def _merged(worth: list[np.ndarray]) -> list[tuple[int, int]]:
    """(which candidates, which of their items), best first: by cosine within one modality, by z across several."""
    keys = [(which, at) for which, some in enumerate(worth) for at in range(len(some))]
    return sorted(keys, key=lambda key: -worth[key[0]][key[1]]) if len(worth) > 1 else keys


def _once(found: list[_Candidates], order: list[tuple[int, int]], copies: bool) -> list[tuple[int, int]]:
    """The order with each file once, or each content, where several indexes hold it."""
    kept: dict[object, tuple[int, int]] = {}
    for which, at in order:
        index, item = found[which].index, found[which].items[at]
        same = _named(index.path_of(item.path)) if copies or not item.digest else item.digest
        kept.setdefault((same, item.modality, item.line), (which, at))
    return list(kept.values())


def _spread(
    found: list[_Candidates], worth: list[np.ndarray], order: list[tuple[int, int]], diversity: float, limit: int
) -> list[tuple[int, int]]:
    """The order that keeps hits apart. The gap between pictures' and texts' vectors keeps those two apart by itself."""
    if not order:
        return order
    vectors: dict[tuple[int, int], np.ndarray] = {}
    for which, candidates in enumerate(found):
        chosen = [key for key in order if key[0] == which]
        stored = candidates.index.catalog.vectors_of([candidates.items[at].id for _, at in chosen])
        vectors |= dict(zip(chosen, unit(stored.astype(np.float32)), strict=True))
    worths = [float(worth[which][at]) for which, at in order]
    apart = diverse_order(np.stack([vectors[key] for key in order]), worths, diversity=diversity, limit=limit)
    return [order[at] for at in apart]


def _hits(found: list[_Candidates], order: list[tuple[int, int]], asked: _Asked) -> list[Hit]:
    hits: dict[tuple[int, int], Hit] = {}
    for which, candidates in enumerate(found):
        chosen = [at for one, at in order if one == which]
        items = [candidates.items[at] for at in chosen]
        shots = [_Shot(item, ()) for item in items] if asked.copies else _shots(found, candidates, items, asked.filters)
        hits |= {(which, at): _hit(candidates, at, shot) for at, shot in zip(chosen, shots, strict=True)}
    return [hits[key] for key in order]


class _Shot(NamedTuple):
    """The item that stands for a shot, and its other files."""

    item: Item
    copies: tuple[Path, ...]


def _shots(found: list[_Candidates], candidates: _Candidates, items: list[Item], filters: Filters) -> list[_Shot]:
    """For each of these items its shot, from its own index, and from others what has its bytes."""
    own = candidates.index
    copies = copies_of(own.catalog, items, *filters.within(own.under).condition())
    shots = [_shot(own, item, some) for item, some in zip(items, copies, strict=True)]
    for index in {id(one.index): one.index for one in found if one.index is not own}.values():
        elsewhere = same_bytes(index.catalog, items, *filters.within(index.under).condition())
        shots = [_with_more(own, shot, index, some) for shot, some in zip(shots, elsewhere, strict=True)]
    return shots


def _shot(index: Index, item: Item, copies: list[Item]) -> _Shot:
    """What stands for the shot is, of those that show the same bytes at the same place, no link, the least deep, and
    of the shortest name."""
    if not copies:
        return _Shot(item, ())
    files = [item, *copies]
    same = [copy for copy in files if (copy.digest, copy.at_s, copy.line) == (item.digest, item.at_s, item.line)]
    item = min(
        same, key=lambda copy: (index.path_of(copy.path).is_symlink(), copy.path.count("/"), len(copy.path), copy.path)
    )
    paths = {copy.path for copy in files} - {item.path}
    return _Shot(item, tuple(map(index.path_of, sorted(paths))))


def _with_more(own: Index, shot: _Shot, index: Index, copies: list[Item]) -> _Shot:
    """With the files of another index, which may lie in the folder of this one and be known."""
    known = {_named(path) for path in (own.path_of(shot.item.path), *shot.copies)}
    paths = (index.path_of(path) for path in sorted({copy.path for copy in copies}))
    return shot._replace(copies=(*shot.copies, *(path for path in paths if _named(path) not in known)))


def _named(path: Path) -> str:
    """A name that a file, or a link, has whichever way one came to its folder."""
    return os.path.join(os.path.realpath(path.parent), path.name)


def _hit(candidates: _Candidates, at: int, shot: _Shot) -> Hit:
    item, cosine = shot.item, candidates.cosines[at]
    details = item.details
    return Hit(
        candidates.index.path_of(item.path), float(cosine), candidates.background.z(np.array([cosine]))[0],
        item.kind, item.modality, item.at_s, item.line, item.text, item.id, item.size,
        details.width, details.height, details.taken_at, details.latitude, details.longitude, details.camera,
        details.caption, shot.copies,
    )  # fmt: skip
