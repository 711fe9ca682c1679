"""What there is without a query: lists of items, and counts of the filters, each made once for a state of the index."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from diptych.index.catalog.browsing import Order, Sort
from diptych.serve.library.facets import facets
from diptych.serve.library.items import ids_in_order
from diptych.serve.library.pages import IdList, Lists
from diptych.serve.library.searching import filters_of

if TYPE_CHECKING:
    from diptych.serve.library.index_pool import AnyIndex, IndexPool


class Browsing:
    """Lists and counts of the index of `pool`. `first` are the filters, in a request's form, that the page begins with:
    their list and counts are made before anybody asks."""

    def __init__(self, pool: IndexPool, first: dict[str, Any]):
        self._pool, self._first = pool, first
        self._lists: Lists[IdList] = Lists()
        self._counts: Lists[dict[str, Any]] = Lists()
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="browsing")
        self._asked = ""  # the state whose first view was asked for last

    def listed(
        self, index: AnyIndex, wanted: dict[str, Any], sort: Sort, order: Order, cursor: str | None
    ) -> tuple[str, IdList]:
        """The items that pass the filters `wanted`, in order, with the list's cursor. Raises FilterError."""
        make = partial(ids_in_order, index, filters_of(wanted), sort, order)
        return self._lists.get(cursor, [wanted, sort, order], index.store.state(), lambda: IdList(make()))

    def counted(self, index: AnyIndex, wanted: dict[str, Any]) -> dict[str, Any]:
        """What filters can select among the files that pass those `wanted`. Raises FilterError."""
        _, counts = self._counts.get(None, wanted, index.store.state(), partial(facets, index, filters_of(wanted)))
        return counts

    def make_ahead(self, state: str | None = None) -> None:
        """Make the page's first view soon, once for each `state` of the index; by default for the present one."""
        if state is None or state != self._asked:
            self._asked = state or ""
            self._ahead.submit(self._make)

    def close(self) -> None:
        """Make no more ahead."""
        self._ahead.shutdown(wait=True, cancel_futures=True)

    def _make(self) -> None:
        try:
            with self._pool.reading() as index:
                self.listed(index, self._first, "taken_at", "desc", None)
                self.counted(index, self._first)
        except Exception as error:  # whoever asks is told
            logging.getLogger("diptych.serve").debug("the first view is not made ahead: %s", error)
