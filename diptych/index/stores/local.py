"""The index on disk as a store: the catalog's items, and exact cosines by the search structures beside it."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

import numpy as np

from diptych.index import caches
from diptych.index.cached_rows import CachedRows
from diptych.index.catalog import browsing
from diptych.index.catalog.moving import blocks_of, put_block, remove_items
from diptych.index.catalog.schema import MODALITIES
from diptych.index.catalog.validation import stamp_of
from diptych.index.filters.filters import Filters
from diptych.index.model import check_same_model
from diptych.index.stores.exhaustive import top_k
from diptych.index.trust.identity import Facts

if TYPE_CHECKING:
    from diptych.index.catalog.catalog import Catalog, Item
    from diptych.index.catalog.stored_items import Block
    from diptych.index.stores.store import Progress
    from diptych.media.items import IndexCounts, Modality

MAX_EXHAUSTIVE_ITEMS = 300_000  # up to these, one matrix product for many queries is faster than many searches
MAX_KEPT_IDS = 2_000_000  # of items that passed filters: 16 MB
_BLOCK = 8192
_BATCH = 100  # values per statement
_BETWEEN = "SELECT one.id FROM edges CROSS JOIN files AS one WHERE one.path > low AND one.path < high"

_samples: WeakKeyDictionary[VectorSearch, dict[int, tuple[int, np.ndarray, np.ndarray]]] = WeakKeyDictionary()


class VectorSearch(Protocol):
    """A searchable index of one modality, such as `diptych.vectors.nearest.VectorIndex`."""

    def __len__(self) -> int: ...

    def search(
        self, query: np.ndarray, k: int, *, allowed_ids: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]: ...

    @property
    def ids(self) -> np.ndarray: ...

    def vectors(self, ids: np.ndarray) -> np.ndarray: ...

    def sample(self, count: int) -> tuple[np.ndarray, np.ndarray]: ...


class SearchableFolder(Protocol):
    """The part of an index without a model that a search uses; `diptych.index.folder.IndexFolder` implements it."""

    @property
    def catalog(self) -> Catalog: ...

    @property
    def exists(self) -> bool: ...

    @property
    def index_dir(self) -> Path: ...

    @property
    def subfolder(self) -> str: ...

    def nearest(self, modality: Modality) -> VectorSearch: ...

    def path_of(self, path: str) -> Path: ...

    def create(self, facts: Facts) -> Catalog: ...

    def locked(self) -> AbstractContextManager[None]: ...

    def close(self) -> None: ...

    @property
    def root(self) -> Path: ...


class LocalSelection:
    """The items of a search structure with these ids, ascending; all if `allowed_ids` is None."""

    def __init__(self, nearest: VectorSearch, allowed_ids: np.ndarray | None = None):
        self._nearest, self._allowed_ids = nearest, allowed_ids

    def __len__(self) -> int:
        return len(self._nearest if self._allowed_ids is None else self._allowed_ids)

    def search(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """As `Selection.search`."""
        return self._nearest.search(query, k, allowed_ids=self._allowed_ids)

    def search_many(self, queries: np.ndarray, k: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """As `Selection.search_many`; exact up to MAX_EXHAUSTIVE_ITEMS."""
        known = self._nearest.ids
        ids = known if self._allowed_ids is None else np.intersect1d(self._allowed_ids, known)
        if len(ids) > MAX_EXHAUSTIVE_ITEMS:
            return [self.search(query, k) for query in queries]
        starts = range(0, len(ids), _BLOCK)
        return top_k(
            ((ids[at : at + _BLOCK], self._nearest.vectors(ids[at : at + _BLOCK])) for at in starts), queries, k
        )


class _Passed(NamedTuple):
    """The ids that passed filters, those used last at the end, while the facts, which count all changes, were these."""

    facts: dict[str, Any]
    ids: OrderedDict[tuple[Modality, Filters], np.ndarray]


class LocalStore:
    """An index on disk; see `diptych.index.stores.store.Store`."""

    def __init__(self, folder: SearchableFolder):
        self.folder = folder
        self._passed: _Passed | None = None
        self._cached_rows: dict[Modality, CachedRows] = {}

    @property
    def name(self) -> str:
        """The index directory."""
        return str(self.folder.index_dir)

    @property
    def subfolder(self) -> str:
        """The folder that is searched, relative to the root of the index."""
        return self.folder.subfolder

    @property
    def cache_dir(self) -> Path:
        """The index directory."""
        return self.folder.index_dir

    @property
    def refused(self) -> Mapping[int, str]:
        """As `Catalog.refused`."""
        return self.folder.catalog.refused

    @property
    def exists(self) -> bool:
        """Whether there is a catalog."""
        return self.folder.exists

    def close(self) -> None:
        """Close the files."""
        self.folder.close()

    # --- reading

    def facts(self) -> dict[str, Any]:
        """The facts of the catalog."""
        return self.folder.catalog.facts()

    def counts(self) -> IndexCounts:
        """The numbers of files and items in the subfolder."""
        return self.folder.catalog.counts(*self._condition(Filters()))

    def select(self, modality: Modality, filters: Filters) -> LocalSelection:
        """As `Store.select`."""
        nearest, within = self.folder.nearest(modality), filters.within(self.subfolder)
        return LocalSelection(nearest, self._passing(modality, within) if within else None)

    def _passing(self, modality: Modality, filters: Filters) -> np.ndarray:
        """The ids of the items that pass, ascending; those of the last filters are kept until anything changes."""
        facts = self.folder.catalog.facts()
        passed = self._passed
        if passed is None or passed.facts != facts:
            passed = self._passed = _Passed(facts, OrderedDict())
        ids = passed.ids.pop((modality, filters), None)
        if ids is None:
            condition, values = filters.condition()
            ids = self.folder.catalog.matching(f"items.modality = ? AND ({condition})", [modality, *values])
        passed.ids[modality, filters] = ids
        while sum(map(len, list(passed.ids.values()))) > MAX_KEPT_IDS:
            passed.ids.popitem(last=False)
        return ids

    def sample(self, modality: Modality, count: int) -> tuple[np.ndarray, np.ndarray]:
        """As `Store.sample`. It is drawn once for as long as the number of items stays."""
        nearest = self.folder.nearest(modality)
        known = _samples.setdefault(nearest, {})
        if count not in known or known[count][0] != len(nearest):
            known[count] = len(nearest), *nearest.sample(count)
        return known[count][1:]

    def items(self, ids: Iterable[int]) -> list[Item]:
        """As `Catalog.items`."""
        return self.folder.catalog.items(ids)

    def vectors_of(self, ids: Iterable[int]) -> np.ndarray:
        """As `Catalog.vectors_of`."""
        return self.folder.catalog.vectors_of(ids)

    def with_digests(self, modality: Modality, digests: Collection[bytes], filters: Filters) -> list[Item]:
        """As `Store.with_digests`."""
        listed, found = list(digests), list["Item"]()
        for start in range(0, len(listed), _BATCH):
            some = listed[start : start + _BATCH]
            found += self._items(f"files.digest IN ({', '.join('?' * len(some))})", some, modality, filters)
        return found

    def with_stems(self, modality: Modality, stems: Collection[str], filters: Filters) -> list[Item]:
        """As `Store.with_stems`."""
        listed, found = list(stems), list["Item"]()
        for start in range(0, len(listed), _BATCH):
            some = listed[start : start + _BATCH]
            edges = [os.fsencode(f"{stem}{edge}") for stem in some for edge in "./"]  # "/" follows "." in ASCII
            pairs = ", ".join(["(CAST(? AS TEXT), CAST(? AS TEXT))"] * len(some))
            where = f"files.id IN (WITH edges(low, high) AS (VALUES {pairs}) {_BETWEEN})"
            found += [
                item for item in self._items(where, edges, modality, filters) if os.path.splitext(item.path)[0] in stems
            ]
        return found

    def _items(self, where: str, values: list[Any], modality: Modality, filters: Filters) -> list[Item]:
        condition, more = self._condition(filters)
        # the plus keeps SQLite from using the index on modality
        sql = f"({where}) AND +items.modality = ? AND ({condition})"
        return self.items(self.folder.catalog.matching(sql, [*values, modality, *more]).tolist())

    def _condition(self, filters: Filters) -> tuple[str, list[Any]]:
        return filters.within(self.subfolder).condition()

    def alone(self, modality: Modality, filters: Filters) -> set[int]:
        """As `Store.alone`; those of both modalities are kept together."""
        return self.folder.catalog.alone(*self._condition(filters))

    def path_of(self, path: str) -> Path:
        """As `IndexFolder.path_of`."""
        return self.folder.path_of(path)

    # --- browsing

    def state(self) -> str:
        """As `Store.state`."""
        if not self.exists:
            return "none"
        facts = self.facts()  # the generation also counts new names, dates and captions, under which items stay
        stamps = f"{stamp_of(facts, 'picture')} {stamp_of(facts, 'text')} {facts['generation']}"
        return hashlib.blake2b(stamps.encode(), digest_size=6).hexdigest()

    def newest_id(self) -> int:
        """As `Store.newest_id`: what is added later has a higher one."""
        return (self.folder.catalog.rows("SELECT max(id) FROM items")[0][0] or 0) if self.exists else 0

    def listed(self, modality: Modality, filters: Filters, sort: browsing.Sort, order: browsing.Order) -> np.ndarray:
        """As `Store.listed`."""
        return browsing.listed(self.folder.catalog, modality, *self._condition(filters), sort, order)

    def of_file(self, path: str, most: int = 1000) -> list[Item]:
        """As `Store.of_file`."""
        return self.items(browsing.items_of_file(self.folder.catalog, path, most))

    def find(self, path: str, modality: Modality, at_s: float | None, line: int | None) -> int | None:
        """As `Store.find`."""
        return browsing.find(self.folder.catalog, path, modality, at_s, line)

    def keys(self, modality: Modality, filters: Filters) -> dict[int, browsing.ItemKey]:
        """As `Store.keys`, of all."""
        return browsing.keys(self.folder.catalog, modality, *self._condition(filters))

    def facets(self, filters: Filters) -> browsing.Facets:
        """As `Store.facets`."""
        return browsing.facets(self.folder.catalog, *self._condition(filters), self.subfolder)

    # --- copying

    def blocks(self, *, after: int = 0) -> Iterator[Block]:
        """As `Store.blocks`."""
        return blocks_of(self.folder.catalog, after=after)

    def ids(self) -> np.ndarray:
        """As `Store.ids`."""
        return np.sort(np.concatenate([self.folder.catalog.ids(modality) for modality in MODALITIES]))

    def put(self, block: Block) -> None:
        """As `Store.put`."""
        put_block(self.folder.catalog, block, outdated=self._outdated_by(block))

    def _outdated_by(self, block: Block) -> set[Modality]:
        """The modalities whose recorded cache has another vector under an id of this block. The refresh of a cache
        compares ids alone, so it would keep that vector: of an item that changed, or was removed and comes again."""
        facts, ids = self.folder.catalog.facts(), np.array([stored.item.id for stored in block.items], np.int64)
        if not len(ids) or block.vectors.shape != (len(ids), facts["dim"]):
            return set()  # a block of another shape is refused
        modalities = np.array([stored.item.modality for stored in block.items])
        found: set[Modality] = set()
        for modality in MODALITIES:
            is_one, stamp = modalities == modality, facts.get(f"cached.{modality}")
            if stamp and is_one.any():
                rows = self._cached_rows.setdefault(modality, CachedRows(self.folder.index_dir, modality))
                if rows.differ(stamp, ids[is_one], np.ascontiguousarray(block.vectors[is_one], "<f2")):
                    found.add(modality)
        return found

    def remove(self, ids: Iterable[int]) -> None:
        """As `Store.remove`; files without items are removed as well."""
        remove_items(self.folder.catalog, ids)

    @property
    def items_per_put(self) -> int:
        """In a million, the digests of 1,024 lie on as many pages of their index; those of 8,192 share them by four."""
        return 8192

    @property
    def keeps_others_out(self) -> bool:
        """As far as the file system's locks reach."""
        return True

    def writing(self) -> AbstractContextManager[None]:
        """The lock of the index. Creates the index directory if necessary."""
        return self.folder.locked()

    def prepare(self, progress: Progress = lambda done, total: None) -> None:
        """As `Store.prepare`: brings the search structures up to date."""
        catalog = self.folder.catalog
        self._cached_rows.clear()
        caches.refresh(catalog, self.folder.index_dir, catalog.facts(), catalog.counts(), on_build=progress)

    def set_facts(self, facts: Mapping[str, Any]) -> None:
        """As `Store.set_facts`; the root stays the folder. The index is trusted by whoever makes it, so the caller has
        checked the model's name."""
        if not self.exists:
            follows = facts.get("follow_links") == "yes"
            made = Facts(facts["model"], facts["fingerprint"], facts["dim"], str(self.folder.root), follows)
            self.folder.create(made)
        check_same_model(self.name, self.facts(), facts)
        self.folder.catalog.set_facts({name: value for name, value in facts.items() if name != "root"})
