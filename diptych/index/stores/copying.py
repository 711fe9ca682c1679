"""Copies an index from one store to another, so that the second ends with the same items, vectors and ids."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.errors import StoreError
from diptych.index.catalog.stored_items import Block, StoredItem

if TYPE_CHECKING:
    from diptych.index.stores.store import Progress, Store

# Facts of the vectors and their files; the others belong to the store that has them
COPIED_FACTS = ("fingerprint", "model", "dim", "version", "root", "packages", "picture_bytes")
_MODULUS = 1 << 128


class CopyResult(NamedTuple):
    """How many items were `copied`, were there `already`, and were `removed` because the source has them no more; and
    the `checksum` of all `items`, the same of both stores."""

    copied: int
    already: int
    removed: int
    items: int
    checksum: str


class _Row(NamedTuple):
    id: int
    stored: StoredItem
    vector: np.ndarray

    @property
    def digest(self) -> bytes:
        """A hash of all that is kept of the item, and of its vector bit by bit."""
        item, *others = self.stored
        known = item._replace(digest=item.digest or None)
        hashed = hashlib.blake2b(repr((known, *others)).encode("utf-8", "surrogatepass"), digest_size=16)
        hashed.update(np.ascontiguousarray(self.vector, "<f2").tobytes())
        return hashed.digest()


def copy_store(
    source: Store,
    target: Store,
    *,
    model: str | None = None,
    progress: Progress = lambda done, total: None,
    on_build: Progress = lambda done, total: None,
) -> CopyResult:
    """Make `target` the same as `source`: items that are there already stay, so an interrupted copy goes on.

    `model` replaces the name of the model in the facts. `progress` gets (done, total) items: each is read once to copy
    and once more to verify. `on_build` gets that of `Store.prepare`.

    Raises IndexModelError where the target has another model's vectors, IndexBusyError where another process writes to
    it, and StoreError where both differ at the end, as they do where something else writes to one of them.
    """
    with target.writing():
        result = _copied(source, target, model, progress)
        target.prepare(on_build)
        return result


def _copied(source: Store, target: Store, model: str | None, progress: Progress) -> CopyResult:
    facts = {name: value for name, value in source.facts().items() if name in COPIED_FACTS}
    target.set_facts(facts | ({"model": model} if model else {}))
    counts = source.counts()
    total, done = 2 * (counts.pictures + counts.texts), 0

    def advance(items: int) -> None:
        nonlocal done
        done += items
        progress(min(done, total), total)

    result, wanted = _transferred(source, target, advance)
    found = _checksum(_rows(target), advance)
    if found != wanted:
        raise StoreError(
            f"after copying, {target.name} has {found[0]:,} items with the checksum {found[1]}, and {source.name} had "
            f"{wanted[0]:,} with {wanted[1]}. Did something else write to one of them? Copy again: what is there stays."
        )
    if "updated_at" in source.facts():
        target.set_facts({"updated_at": source.facts()["updated_at"]})
    return result._replace(items=wanted[0], checksum=wanted[1])


def _transferred(source: Store, target: Store, advance: Callable[[int], None]) -> tuple[CopyResult, tuple[int, str]]:
    """Both stores are read side by side, ascending by id: what differs is put, and what is only there is removed."""
    copied = already = removed = number = total = 0
    there = _rows(target) if len(target.ids()) else iter(())
    other = next(there, None)
    for block in source.blocks():
        missing, gone = [], []
        for position, row in enumerate(_rows_of(block)):
            while other and other.id < row.id:
                gone.append(other.id)
                other = next(there, None)
            digest = row.digest
            number, total = number + 1, (total + int.from_bytes(digest, "big")) % _MODULUS
            is_there = other is not None and other.id == row.id
            if not is_there or other.digest != digest:  # type: ignore[union-attr]
                missing.append(position)
            if is_there:
                other = next(there, None)
        _apply(target, Block([block.items[at] for at in missing], block.vectors[missing]), gone)
        copied, already = copied + len(missing), already + len(block.items) - len(missing)
        removed += len(gone)
        advance(len(block.items))
    gone = [row.id for row in ([other] if other else [])] + [row.id for row in there]
    _apply(target, Block([], np.empty((0, 0), np.float16)), gone)
    return CopyResult(copied, already, removed + len(gone), 0, ""), (number, f"{total:032x}")


def _apply(target: Store, block: Block, gone: list[int]) -> None:
    if gone:
        target.remove(gone)
    if block.items:
        target.put(block)


def _rows(store: Store) -> Iterator[_Row]:
    for block in store.blocks():
        yield from _rows_of(block)


def _rows_of(block: Block) -> Iterator[_Row]:
    for stored, vector in zip(block.items, block.vectors, strict=True):
        yield _Row(stored.item.id, stored, vector)


def _checksum(rows: Iterable[_Row], advance: Callable[[int], None]) -> tuple[int, str]:
    """The number of rows, and the sum of their hashes, which does not depend on the order."""
    number = total = 0
    for row in rows:
        number, total = number + 1, (total + int.from_bytes(row.digest, "big")) % _MODULUS
        if number % 1024 == 0:
            advance(1024)
    advance(number % 1024)
    return number, f"{total:032x}"
