"""Long lists, read page by page while the index may change: they are kept for readers that come back."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from diptych.serve.web.deadline import remaining_s, too_late

MOST_LISTS, MOST_ENTRIES = 64, 1_000_000
FIRST = 60  # hits of the first search; each further one finds twice as many, up to HEAD
HEAD = 960
T = TypeVar("T")


class Lists(Generic[T]):
    """The lists that were read last, by their cursor, until they are too many or too long together."""

    def __init__(self) -> None:
        self._lists: OrderedDict[str, T] = OrderedDict()
        self._making: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, cursor: str | None, wanted: object, state: str, make: Callable[[], T]) -> tuple[str, T]:
        """The list that a cursor names, if it is one of `wanted`; else that of the index's current `state`. With its
        cursor. Raises RequestProblem (504) where another request is still making it at the deadline."""
        name = _hashed(wanted)
        current = f"c_{name}_{state}"
        known = cursor if cursor is not None and cursor.startswith(f"c_{name}_") else current
        for each in (known, current):
            if (kept := self._known(each)) is not None:
                return each, kept
        with self._lock:
            making = self._making.setdefault(current, threading.Lock())
        with _before_the_deadline(making):  # who asks meanwhile waits for the same
            kept = self._known(current)
            return current, self._made(current, make) if kept is None else kept

    def _known(self, name: str) -> T | None:
        with self._lock:
            if name in self._lists:
                self._lists.move_to_end(name)
                self._prune()
            return self._lists.get(name)

    def _made(self, name: str, make: Callable[[], T]) -> T:
        try:
            made = make()
            with self._lock:
                self._lists[name] = made
                self._prune()
            return made
        finally:  # also where it cannot be made, or each failing request would leave a lock behind
            with self._lock:
                self._making.pop(name, None)

    def _prune(self) -> None:
        """Forget the lists that are too many; one may have grown since it came."""
        while len(self._lists) > 1 and (len(self._lists) > MOST_LISTS or self._entries() > MOST_ENTRIES):
            self._lists.popitem(last=False)

    def _entries(self) -> int:
        return sum(len(each) for each in self._lists.values())  # type: ignore[arg-type]


@contextmanager
def _before_the_deadline(lock: threading.Lock) -> Iterator[None]:
    """Hold a lock. Raises RequestProblem (504) where it is not free before the request's deadline."""
    left_s = remaining_s()
    if not lock.acquire(timeout=-1 if left_s is None else left_s):
        raise too_late()
    try:
        yield
    finally:
        lock.release()


def _hashed(wanted: object) -> str:
    return hashlib.blake2b(json.dumps(wanted, sort_keys=True).encode(), digest_size=8).hexdigest()


class RankedHit(NamedTuple):
    """A hit without what the catalog knows of it."""

    id: int
    score: float
    z: float | None
    copies: tuple[str, ...]


class FoundHits(NamedTuple):
    """The best hits of one search, whether there are no more, and what an answer says of the search."""

    hits: list[RankedHit]
    are_all: bool
    facts: dict[str, Any]


class IdList(NamedTuple):
    """A list of items."""

    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(eq=False)
class Ranking:
    """The hits of one search, as many as were asked for so far. `search` finds the best `limit`; beyond HEAD of them,
    where it would become slow, `rest` finds all that follow. Without `rest` there are HEAD at most."""

    search: Callable[[int], FoundHits]
    state: str
    rest: Callable[[list[RankedHit]], list[RankedHit]] | None = None
    hits: list[RankedHit] = field(default_factory=list)
    wanted: int = 0  # hits of the last search
    is_complete: bool = False
    is_looked_ahead: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __len__(self) -> int:
        return len(self.hits)

    def page(self, offset: int, limit: int) -> list[RankedHit]:
        """The hits from `offset`. What is known already does not wait for what another thread searches."""
        is_complete, known = self.is_complete, self.hits  # in this order: the hits are set first
        if is_complete or offset + limit <= len(known):
            return known[offset : offset + limit]
        with _before_the_deadline(self.lock):
            while not self.is_complete and offset + limit > len(self.hits):
                if self.wanted < HEAD:
                    self._extend(min(HEAD, max(FIRST, 2 * self.wanted, offset + limit)))
                else:
                    self.hits = self.hits + (self.rest(self.hits) if self.rest else [])
                    self.is_complete = True
            return self.hits[offset : offset + limit]

    def _extend(self, wanted: int) -> None:
        found = self.search(wanted)
        self.hits = _continued(self.hits, found.hits)
        self.wanted, self.is_complete, self.facts = wanted, found.are_all, found.facts

    @property
    def total(self) -> int:
        """The number of hits; an upper bound until all are known."""
        if self.is_complete:
            return len(self.hits)
        searched = self.facts.get("searched", 0)
        return max(len(self.hits), searched if self.rest else min(HEAD, searched))


def _continued(known: list[RankedHit], found: list[RankedHit]) -> list[RankedHit]:
    """The known hits, and what a search for more has found beside them: the index may have changed in between, and
    diverse hits have another order in each search. What was read stays where it is, and no file comes twice."""
    ids = {hit.id for hit in known}
    return known + [hit for hit in found if hit.id not in ids]
