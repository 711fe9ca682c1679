"""Removes pairs from an index: of a folder on this machine, or at an address."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.collect.output.forgotten import Forgotten
from diptych.collect.output.removed import RemovedPairs
from diptych.errors import IndexDirectoryError
from diptych.index.folder import IndexFolder
from diptych.index.stores.local import LocalStore
from diptych.index.stores.opening import open_store
from diptych.index.stores.uri import is_store_uri

if TYPE_CHECKING:
    from diptych.index.stores.store import Store


def remove_from_index(
    store: Store, out: Path, removed: Mapping[str, RemovedPairs], forgotten: Forgotten
) -> tuple[str, int]:
    """Remove the pictures of these pairs, and their captions, from an index (`opened_index`); returns the index's name,
    without a password, and how many items that were.

    The items of a picture are found by its path, SHARD/KEY, below whatever root the index has, and removed if the
    picture's digest is that of the pair: an index of another collection has the same paths. Raises SearchIndexError and
    its kinds.
    """
    with store.writing():
        prefixes = _prefixes(store, out)
        ids = [id for shard in removed.values() for id in _ids(store, prefixes, shard, forgotten)]
        if ids:
            store.remove(ids)
            store.prepare()
        return store.name, len(ids)


def _ids(store: Store, prefixes: Iterable[str], removed: RemovedPairs, forgotten: Forgotten) -> Iterator[int]:
    for name, digest in removed.pictures.items():
        for prefix in prefixes:
            items = store.of_file(f"{prefix}{removed.shard}/{name}")
            if any(item.digest and forgotten.blinded(item.digest) == digest for item in items):
                yield from (item.id for item in items)


def _prefixes(store: Store, out: Path) -> list[str]:
    """The folders in which shards of the collection may be in the index: none, where their folder was indexed, or the
    path from a folder above."""
    root, prefixes = str(store.facts().get("source") or store.facts().get("root") or ""), [""]
    if root and "://" not in root and Path(os.path.abspath(out)).is_relative_to(root):
        below = Path(os.path.abspath(out)).relative_to(root).as_posix()
        prefixes += [f"{below}/"] * (below != ".")
    return prefixes


@contextmanager
def opened_index(index: str) -> Iterator[Store]:
    """The index in a folder or at an address, until the block ends. Raises SearchIndexError and its kinds."""
    store: Store = open_store(index) if is_store_uri(index) else LocalStore(IndexFolder(index))
    try:
        if not store.exists:
            raise IndexDirectoryError(f"{store.name} has no index; wanted that of a folder, or an address.")
        yield store
    finally:
        store.close()
