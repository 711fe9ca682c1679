"""Looking things up in an index: a query's nearest items, as hits that a person can read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Literal, NamedTuple, ParamSpec, Protocol
from weakref import WeakKeyDictionary

import numpy as np

from diptych.errors import ArgumentError, IndexModelError, Setting
from diptych.index.model import called
from diptych.index.search.filters import Filters
from diptych.index.search.query import EmbeddingModel, Query
from diptych.index.search.ranking import MIN_SAMPLE, SampleStatistics, diverse_order
from diptych.index.search.relevance import BackgroundStatistics, VectorSearch, background_statistics, sentence_vectors
from diptych.index.search.results import Found, Hit
from diptych.index.search.shots import copies_of, first_per_shot, same_bytes
from diptych.media.items import Modality
from diptych.scoring.zero_shot import unit

if TYPE_CHECKING:
    from diptych.index.catalog.catalog import Item

Options = ParamSpec("Options")
Wanted = Literal["picture", "text", "both"]
BACKGROUND = 2048  # items that a query's own background is taken from; of a smaller index all
_MORE = 4  # candidates asked for each hit where several may be of one file, or where they are thinned out
_MARGIN = 8  # more than were asked for at first: a copy that ties two shots may rank right behind both


_samples: WeakKeyDictionary[VectorSearch, tuple[int, np.ndarray]] = WeakKeyDictionary()


class _Catalog(Protocol):
    def matching(self, condition: str, parameters: Any = ()) -> np.ndarray: ...

    def items(self, ids: Iterable[int]) -> list[Item]: ...

    def vectors_of(self, ids: Iterable[int]) -> np.ndarray: ...

    def facts(self) -> dict[str, Any]: ...

    @property
    def refused(self) -> Mapping[int, str]: ...


class Folder(Protocol):
    """What a search needs of an index beside its model; `diptych.index.folder.IndexFolder` has it."""

    @property
    def catalog(self) -> _Catalog: ...

    @property
    def place(self) -> Path: ...

    @property
    def under(self) -> str: ...

    def nearest(self, modality: Modality) -> VectorSearch: ...

    def path_of(self, path: str) -> Path: ...


class Index(Protocol):
    """An index with its model; `diptych.open_index` returns one."""

    @property
    def on_disk(self) -> Folder: ...

    @property
    def model(self) -> EmbeddingModel: ...


class _Searched(NamedTuple):
    on_disk: Folder
    model: EmbeddingModel


class _Candidates(NamedTuple):
    """The best of one modality in one index, best first, a shot once."""

    folder: Folder
    items: list[Item]
    cosines: np.ndarray
    sample_statistics: SampleStatistics
    searched: int
    background_statistics: BackgroundStatistics | None = None
    standing: float | None = None


class _Asked(NamedTuple):
    """What is looked for, in every index alike."""

    query: Query
    vector: np.ndarray
    count: int
    filters: Filters
    relevant: bool
    copies: bool


def search_all(
    indexes: Sequence[Index],
    query: object,
    *,
    limit: int = 10,
    modality: Wanted = "picture",
    filters: Filters | None = None,
    relevant: bool = False,
    diverse: float = 0.0,
    truncate: bool = False,
    copies: bool = False,
) -> Found:
    """The `limit` best hits of several indexes for a query: a `Query`, a sentence, a picture or a vector. A file that
    several indexes hold counts once.

    `modality` "both" ranks pictures and texts by z, for a text is nearer to any other text than to a picture of what it
    says. A video is one hit, with its best frame; a text file gives a hit a paragraph. Copies of a file, links to it,
    and the RAW, HEIC and JPEG files of one shot are one hit, which names the others; with `copies` each is its own.
    `relevant` keeps what stands out (see `diptych.index.search.relevance`), which may be nothing. `diverse`, 0 to 1,
    trades likeness to the query for unlikeness among the hits. Raises ValueError for these, QueryError, FilterError,
    IndexModelError where the indexes are not all of one model, and what the model raises.
    """
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
    worth = [one.sample_statistics.standardise(one.cosines) if len(wanted) > 1 else one.cosines for one in found]
    order = _merged(worth)
    if len(indexes) > 1:
        order = _once(found, order, copies)
    if diverse:
        order = _spread(found, worth, order, diverse, limit)
    best = max((one for one in found if one.background_statistics), key=lambda one: one.standing or 0, default=None)
    searched = sum(one.searched for one in found)
    hits = _hits(found, order[:limit], asked)
    refused = {name: None for index in indexes for name in index.on_disk.catalog.refused.values()}
    return Found(
        hits,
        searched,
        best and best.standing,
        best and best.background_statistics and best.background_statistics.threshold,
        tuple(refused),
    )


def in_one(
    ask: Callable[Concatenate[Sequence[Index], Options], Found],
) -> Callable[Concatenate[Index, Options], Found]:
    """A search in several indexes as one in a single index, with the same options."""

    @wraps(ask, assigned=("__annotations__",))
    def search(index: Index, *query: Options.args, **options: Options.kwargs) -> Found:
        """The `limit` best hits for a query, with the options of `diptych.search_all`."""
        return ask([index], *query, **options)

    return search


def _in_folder(
    ask: Callable[Concatenate[Index, Options], Found],
) -> Callable[Concatenate[Folder, EmbeddingModel, Options], Found]:
    def search(folder: Folder, model: EmbeddingModel, *query: Options.args, **options: Options.kwargs) -> Found:
        """The best hits of an index for a query that this model embeds, with the options of `search_all`."""
        return ask(_Searched(folder, model), *query, **options)

    return search


search = _in_folder(in_one(search_all))


def check_one_model(indexes: Sequence[Index]) -> None:
    """Raises IndexModelError where the vectors of these indexes cannot be compared, ArgumentError where there are
    none."""
    if not indexes:
        raise ArgumentError("no index came to search in; wanted one or more.", argument="indexes")
    if len(indexes) == 1:
        return
    folders = [index.on_disk for index in indexes]
    made = [folder.catalog.facts() for folder in folders]
    for facts, folder in zip(made, folders, strict=True):
        if facts["fingerprint"] != made[0]["fingerprint"]:
            models = called(made[0]["model"]), called(facts["model"])
            raise IndexModelError(
                f"{folders[0].place} was made with {models[0]} and {folder.place} with {models[1]}; scores "
                "of two models cannot be compared. Search them one by one, or index one of them anew with the other's "
                "model."
            )


def _candidates(index: Index, modality: Modality, asked: _Asked) -> _Candidates:
    """The best hits of one modality in one index."""
    folder = index.on_disk
    nearest = folder.nearest(modality)
    allowed_ids = _allowed(folder, modality, asked.filters)
    searched = len(nearest) if allowed_ids is None else len(allowed_ids)
    items, cosines = _best_files(folder, nearest, asked, allowed_ids) if searched else ([], np.empty(0, np.float32))
    if not items:  # nothing passes, or what does is too new for a cache that another process is updating
        return _Candidates(folder, items, cosines, SampleStatistics(0, 0, 0), searched)
    sample_statistics = SampleStatistics.of(_sample(nearest) @ asked.vector)
    if not asked.relevant or searched < MIN_SAMPLE:  # the spread of fewer tells nothing
        return _Candidates(folder, items, cosines, sample_statistics, searched)
    sentences = sentence_vectors(index.model, folder.place, str(folder.catalog.facts().get("fingerprint", "")))
    other = background_statistics(asked.query, nearest, sentences, allowed_ids=allowed_ids)
    standing = other.relevance_z(nearest.search(asked.vector, other.top_k, allowed_ids=allowed_ids)[1])
    kept = (
        int(sum(other.z_score(float(cosine)) >= other.threshold for cosine in cosines))
        if standing >= other.threshold
        else 0
    )
    return _Candidates(folder, items[:kept], cosines[:kept], sample_statistics, searched, other, standing)


def _sample(nearest: VectorSearch) -> np.ndarray:
    """The vectors that backgrounds are taken from, drawn once for as long as nothing comes or goes."""
    count, vectors = _samples.get(nearest, (-1, None))
    if vectors is None or count != len(nearest):
        count, vectors = len(nearest), nearest.sample(BACKGROUND)[1]
        _samples[nearest] = count, vectors
    return vectors


def _allowed(folder: Folder, modality: Modality, filters: Filters) -> np.ndarray | None:
    """The ids that pass the filters and lie in the index's folder; None where all do."""
    filters = filters.within(folder.under)
    if not filters:
        return None
    condition, parameters = filters.condition()
    return folder.catalog.matching(f"items.modality = ? AND ({condition})", [modality, *parameters])


def _best_files(
    folder: Folder, nearest: VectorSearch, asked: _Asked, allowed_ids: np.ndarray | None
) -> tuple[list[Item], np.ndarray]:
    """The best items, at most one of a shot or a video; more are asked for until there are enough, or no more to be
    had. Their cosines are of vectors that rounding may have made a little longer than 1."""
    number, size = asked.count + _MARGIN, len(nearest) if allowed_ids is None else len(allowed_ids)
    while True:
        ids, cosines = nearest.search(asked.vector, min(number, size), allowed_ids=allowed_ids)
        by_id = dict(zip(ids.tolist(), cosines.tolist(), strict=True))
        items = folder.catalog.items(ids.tolist())
        first = _first_of_each(items) if asked.copies else first_per_shot(folder.catalog, items)
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
        folder, item = found[which].folder, found[which].items[at]
        same = _named(folder.path_of(item.path)) if copies or not item.digest else item.digest
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
        stored = candidates.folder.catalog.vectors_of([candidates.items[at].id for _, at in chosen])
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
    own = candidates.folder
    copies = copies_of(own.catalog, items, *filters.within(own.under).condition())
    shots = [_shot(own, item, some) for item, some in zip(items, copies, strict=True)]
    for folder in {id(one.folder): one.folder for one in found if one.folder is not own}.values():
        elsewhere = same_bytes(folder.catalog, items, *filters.within(folder.under).condition())
        shots = [_with_more(own, shot, folder, some) for shot, some in zip(shots, elsewhere, strict=True)]
    return shots


def _shot(folder: Folder, item: Item, copies: list[Item]) -> _Shot:
    """What stands for the shot is, of those that show the same bytes at the same place, no link, the least deep, and
    of the shortest name."""
    if not copies:
        return _Shot(item, ())
    files = [item, *copies]
    same = [copy for copy in files if (copy.digest, copy.at_s, copy.line) == (item.digest, item.at_s, item.line)]
    item = min(
        same, key=lambda copy: (folder.path_of(copy.path).is_symlink(), copy.path.count("/"), len(copy.path), copy.path)
    )
    paths = {copy.path for copy in files} - {item.path}
    return _Shot(item, tuple(map(folder.path_of, sorted(paths))))


def _with_more(own: Folder, shot: _Shot, folder: Folder, copies: list[Item]) -> _Shot:
    """With the files of another index, which may lie in the folder of this one and be known."""
    known = {_named(path) for path in (own.path_of(shot.item.path), *shot.copies)}
    paths = (folder.path_of(path) for path in sorted({copy.path for copy in copies}))
    return shot._replace(copies=(*shot.copies, *(path for path in paths if _named(path) not in known)))


def _named(path: Path) -> str:
    """A name that a file, or a link, has whichever way one came to its folder."""
    return os.path.join(os.path.realpath(path.parent), path.name)


def _hit(candidates: _Candidates, at: int, shot: _Shot) -> Hit:
    item, cosine = shot.item, candidates.cosines[at]
    details, (z,) = item.details, candidates.sample_statistics.z_scores(np.array([cosine]))
    return Hit(
        candidates.folder.path_of(item.path), float(cosine), z,
        item.kind, item.modality, item.at_s, item.line, item.text, item.id, item.size,
        details.width, details.height, details.taken_at, details.latitude, details.longitude, details.camera,
        details.caption, shot.copies,
    )  # fmt: skip
