"""A few open copies of one index, so that several threads may read it at once."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from diptych.index.catalog.known_items import KnownItems
from diptych.index.local import LocalIndex
from diptych.serve.web.deadline import remaining_s, too_late

if TYPE_CHECKING:
    from diptych.index.remote import StoreIndex

AnyIndex: TypeAlias = "LocalIndex | StoreIndex"

READERS = 3


class IndexPool:
    """`count` copies of the index that `make` opens. Each sees what another process commits, at its next use."""

    def __init__(self, make: Callable[[], AnyIndex], count: int = READERS):
        self._free: queue.LifoQueue[AnyIndex] = queue.LifoQueue()
        self._all = [make() for _ in range(count)]
        known = KnownItems()
        for index in self._all:
            if isinstance(index, LocalIndex):
                index.on_disk.known = known
        self.make = make
        first = self._all[0]
        self.pictures_root, self.subfolder = first.pictures_root, first.subfolder
        self.name = str(first.folder) if isinstance(first, LocalIndex) else first.store.name
        for index in self._all:
            self._free.put(index)

    @contextmanager
    def reading(self) -> Iterator[AnyIndex]:
        """One of them, for this thread alone and a short use, in which it does not see what another process commits.
        Raises RequestProblem (504) if none is free before the deadline."""
        try:
            index = self._free.get(timeout=remaining_s())
        except queue.Empty:
            raise too_late() from None
        try:
            with index.steady():
                yield index
        finally:
            self._free.put(index)

    @contextmanager
    def apart(self) -> Iterator[AnyIndex]:
        """Another copy, for work that takes long."""
        with self.make() as index:
            yield index

    def close(self) -> None:
        """Close the files."""
        for index in self._all:
            index.close()
