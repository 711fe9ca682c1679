"""What a search needs of the vectors and items that it searches, wherever they are kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from diptych.media.items import IndexCounts, Modality

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float, Float16, Int64

    from diptych.index.catalog.browsing import Facets, ItemKey, Order, Sort
    from diptych.index.catalog.stored_items import Block
    from diptych.index.catalog.validation import Item
    from diptych.index.filters.filters import Filters

Progress = Callable[[int, int], None]


class Selection(Protocol):
    """The items of one modality that pass some filters."""

    def __len__(self) -> int:
        """How many items there are."""
        ...

    def search(
        self, query: Float[np.ndarray, " dim"], k: int
    ) -> tuple[Int64[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """The ids and cosines of the `k` nearest to a unit vector, best first, equal ones by id; all if there are
        fewer. Which they are may be approximate; each cosine is that of the stored float16 vector."""
        ...

    def search_many(
        self, queries: Float[np.ndarray, "queries dim"], k: int
    ) -> list[tuple[Int64[np.ndarray, " n"], Float[np.ndarray, " n"]]]:
        """The same for several queries."""
        ...


class Store(Protocol):
    """Vectors of pictures and texts by one model, each with its item: an index on disk, or a server's table.

    `name` is what messages call it; it never contains a password. `subfolder` limits searches to a folder of the store,
    "" for all of it. `cache_dir` may keep what can be computed again; None where there is no such folder. `refused`
    names rows that were read and are not valid, by id: they are in no result.

    Methods raise SearchIndexError and its kinds: IndexDirectoryError where there is nothing yet, StoreError where a
    server cannot be reached, refuses or fails.
    """

    @property
    def name(self) -> str: ...

    @property
    def subfolder(self) -> str: ...

    @property
    def cache_dir(self) -> Path | None: ...

    @property
    def refused(self) -> Mapping[int, str]: ...

    def close(self) -> None:
        """Close what is open. Whatever needs it opens it again."""
        ...

    # --- reading

    @property
    def exists(self) -> bool:
        """Whether there is anything: a store is made by its first `put`."""
        ...

    def facts(self) -> Mapping[str, Any]:
        """`fingerprint` and `model` of the model, `dim` of its vectors, `root`, `version` and others that are known."""
        ...

    def counts(self) -> IndexCounts:
        """The numbers of files and items."""
        ...

    def select(self, modality: Modality, filters: Filters) -> Selection:
        """The items that pass the filters, in the store's `subfolder`."""
        ...

    def sample(self, modality: Modality, count: int) -> tuple[Int64[np.ndarray, " n"], Float[np.ndarray, "n dim"]]:
        """The `count` items that `diptych.vectors.drawing` draws, as ids in ascending order, and their vectors: the
        same in every store that has the same ids."""
        ...

    def items(self, ids: Iterable[int]) -> list[Item]:
        """These items, in the order of the given ids, without those that are gone or not valid."""
        ...

    def vectors_of(self, ids: Iterable[int]) -> Float16[np.ndarray, "n dim"]:
        """The vectors of these items, in their order. Raises IndexBusyError if one is gone."""
        ...

    def with_digests(self, modality: Modality, digests: Collection[bytes], filters: Filters) -> list[Item]:
        """The items whose files have one of these digests, and that pass the filters."""
        ...

    def with_stems(self, modality: Modality, stems: Collection[str], filters: Filters) -> list[Item]:
        """The items whose files' paths are one of these, a dot, and anything without a slash; and that pass the
        filters."""
        ...

    def alone(self, modality: Modality, filters: Filters) -> set[int]:
        """Items that are known to be the only ones of their shot among those that pass the filters. A caller adds
        others; they hold until the store changes."""
        ...

    def path_of(self, path: str) -> Path:
        """The absolute path of a file, where the store's files are."""
        ...

    # --- browsing

    def state(self) -> str:
        """A short name of the state: it changes whenever what can be found changes."""
        ...

    def newest_id(self) -> int:
        """The highest id; 0 where there are no items."""
        ...

    def listed(self, modality: Modality, filters: Filters, sort: Sort, order: Order) -> Int64[np.ndarray, " n"]:
        """The first item of each file that passes the filters, in order; files without the value come last."""
        ...

    def of_file(self, path: str, most: int = 1000) -> list[Item]:
        """The items of a file, ascending by id."""
        ...

    def find(self, path: str, modality: Modality, at_s: float | None, line: int | None) -> int | None:
        """The id of this part of a file; None where there is none."""
        ...

    def keys(self, modality: Modality, filters: Filters) -> dict[int, ItemKey]:
        """The keys of the items that pass the filters, by id. A store of millions may leave out all but some."""
        ...

    def facets(self, filters: Filters) -> Facets:
        """The kinds, cameras, months and folders of the files that pass the filters, each with its number of files."""
        ...

    # --- copying

    @property
    def items_per_put(self) -> int:
        """How many items one `put` should have: more take memory, fewer cost more each."""
        ...

    @property
    def keeps_others_out(self) -> bool:
        """Whether `writing` does what it says, also between machines that reach the store."""
        ...

    def writing(self) -> AbstractContextManager[None]:
        """A block in which no one else who asks for it writes. Raises IndexBusyError where someone does."""
        ...

    def blocks(self, *, after: int = 0) -> Iterator[Block]:
        """All items with ids above `after`, of both modalities, ascending by id."""
        ...

    def ids(self) -> Int64[np.ndarray, " n"]:
        """The ids of all items, of both modalities, ascending."""
        ...

    def put(self, block: Block) -> None:
        """Store these items under their ids, replacing what was there. All of it is stored, or nothing."""
        ...

    def remove(self, ids: Iterable[int]) -> None:
        """Delete these items; unknown ids are ignored."""
        ...

    def prepare(self, progress: Progress = lambda done, total: None) -> None:
        """Build what makes searches fast, after many items were put, within `writing`. `progress` gets (done, total)
        of the store's own steps."""
        ...

    def set_facts(self, facts: Mapping[str, Any]) -> None:
        """Add or replace facts; None deletes one. The first call, with `fingerprint`, `model` and `dim`, makes the
        store. Raises IndexModelError where it has another model's vectors."""
        ...
