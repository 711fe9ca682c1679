"""Items of a catalog that were read already, kept until the catalog changes: most searches of one index find items that
others found before."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from diptych.index.catalog import validation
from diptych.index.catalog.validation import Item
from diptych.media.items import Modality
from diptych.untrusted.links import RootBoundary

MOST_ITEMS = 40_000  # kept; each takes half a kilobyte or so
FRESH_S = 30.0  # after which it is looked at again where the links in their paths lead
_MODALITIES: tuple[Modality, ...] = ("picture", "text")


class State(NamedTuple):
    """What is known of one state of a catalog: its valid `items`, by id, which lie `inside` the folder; and the
    pictures that are the only file of their shot, among the files that satisfy an SQL condition with its parameters."""

    stamp: str
    until: float  # of time.monotonic
    inside: RootBoundary | None
    items: dict[int, Item]
    alone: dict[tuple[str, tuple[Any, ...]], set[int]]


class KnownItems:
    """What is known of a catalog. Several threads may share it, each with a catalog of its own that reads the same
    file."""

    def __init__(self) -> None:
        self._state = State("", 0.0, None, {}, {})

    def state(self, facts: Mapping[str, Any], inside: Callable[[], RootBoundary | None]) -> State:
        """What is known of the catalog that has these facts now. The caller adds what it reads."""
        stamp = f"{facts['generation']} {' '.join(validation.stamp_of(facts, modality) for modality in _MODALITIES)}"
        state, now = self._state, time.monotonic()
        if state.stamp != stamp or state.until < now or len(state.items) > MOST_ITEMS:
            state = self._state = State(stamp, now + FRESH_S, inside(), {}, {})
        return state


class _Catalog(Protocol):
    """The part of a catalog that is used here."""

    known: KnownItems | None
    refused: dict[int, str]
    inside: Callable[[], RootBoundary | None]

    def facts(self) -> dict[str, Any]: ...

    def rows_by_id(self, sql: str, ids: Sequence[int]) -> list[Any]: ...


def items_of(catalog: _Catalog, ids: Sequence[int]) -> list[Item]:
    """`Catalog.items`."""
    if not ids:
        return []
    facts = catalog.facts()
    state = (catalog.known or KnownItems()).state(facts, catalog.inside)
    found, vector_bytes = dict[int, Item](), 2 * facts["dim"]
    for row in catalog.rows_by_id(validation.ITEMS, [id for id in ids if id not in state.items]):
        item = validation.item_of(row, vector_bytes)
        if item is None or (state.inside and state.inside.is_outside(item.path)):
            catalog.refused[row[0]] = validation.display_path(row[1], row[0])
        else:
            found[item.id] = item
    state.items.update(found)
    return [item for id in ids if (item := found.get(id) or state.items.get(id))]


def alone_in(catalog: _Catalog, condition: str, parameters: Sequence[Any]) -> set[int]:
    """The pictures that are known to be the only file of their shot, among the files that satisfy an SQL condition. The
    caller adds others."""
    if catalog.known is None:
        return set()
    return catalog.known.state(catalog.facts(), catalog.inside).alone.setdefault((condition, tuple(parameters)), set())
