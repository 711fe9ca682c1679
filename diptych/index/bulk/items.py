"""Samples as items of an index: their paths, and ids that are the same whenever the sample is read again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.index.catalog.stored_items import Block, StoredItem
from diptych.index.catalog.validation import Item, is_valid_path
from diptych.media.items import FileContents
from diptych.versions import READING, TOKENIZING

if TYPE_CHECKING:
    from diptych.index.stores.store import Store

# Ids are below 2**53, which JavaScript represents; half of these are left for files that an index finds later. Their
# upper bits are those of the shard and of some thousand neighbours in it, so that what is stored together lies together
# in a store's tables: if all bits were of the sample alone, each would change pages of its own in a large index.
SHARD_BITS, NEIGHBOUR_BITS, SAMPLE_BITS = 14, 10, 28
ID_BITS = SHARD_BITS + NEIGHBOUR_BITS + SAMPLE_BITS
_NEIGHBOUR_CHARACTERS = 3  # at the end of a key, in which neighbours differ


class Embedded(NamedTuple):
    """A sample that was read, without its pixels, and the vectors of its parts, (parts, dim) float16. The picture is
    the first part, and its captions follow."""

    contents: FileContents
    vectors: np.ndarray


def sample_path(shard: str, key: str, position: int, suffix: str) -> str:
    """The path of a sample in an index: SHARD/KEY and the suffix of a picture. A key that is no path is replaced by the
    sample's position in the shard."""
    key = key.removeprefix("./")
    path = f"{shard}/{key}{suffix}"
    return path if key and is_valid_path(path, "picture") else f"{shard}/{position}{suffix}"


def item_id(root: str, path: str, position: int) -> int:
    """The id, from 1, of a sample's picture (position 0) or of one of its captions."""
    shard, _, name = path.rpartition("/")
    neighbours = name.rpartition(".")[0][:-_NEIGHBOUR_CHARACTERS]
    id = _hash(SHARD_BITS, root, shard)
    id = id << NEIGHBOUR_BITS | _hash(NEIGHBOUR_BITS, root, shard, neighbours)
    return (id << SAMPLE_BITS | _hash(SAMPLE_BITS, root, path, position)) or 1


def _hash(bits: int, *parts: object) -> int:
    text = "\0".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> (64 - bits)


def block_of(samples: Iterable[Embedded], root: str) -> Block:
    """The items of samples, each part with its vector."""
    items, vectors = list[StoredItem](), list[np.ndarray]()
    for contents, rows in samples:
        captions = 0
        for part, vector in zip(contents.parts, rows, strict=True):
            captions += part.text is not None
            id = item_id(root, contents.file.path, captions)
            items.append(StoredItem(_item(id, contents, part.text), None, READING, TOKENIZING))
            vectors.append(vector)
    order = sorted(range(len(items)), key=lambda at: items[at].item.id)
    return Block(
        [items[at] for at in order], np.stack([vectors[at] for at in order]) if order else np.empty((0, 0), np.float16)
    )


def _item(id: int, contents: FileContents, text: str | None) -> Item:
    file = contents.file
    modality = "picture" if text is None else "text"
    return Item(id, file.path, file.kind, modality, None, None, text, file.size, contents.digest, contents.details)


def with_own_ids(block: Block, store: Store) -> Block:
    """The block, in which no item has the id of another one in the store. Two of a billion samples may have the same
    hash; the later one gets that of its path and this id."""
    known = {item.id: _name(item) for item in store.items([stored.item.id for stored in block.items])}
    items = list[StoredItem]()
    for stored in block.items:
        item = stored.item
        while known.setdefault(item.id, _name(item)) != _name(item):
            item = item._replace(id=_hash(ID_BITS, item.path, item.id) or 1)
            known |= {other.id: _name(other) for other in store.items([item.id])}
        items.append(stored._replace(item=item))
    order = sorted(range(len(items)), key=lambda at: items[at].item.id)
    return Block([items[at] for at in order], block.vectors[order])


def _name(item: Item) -> tuple[str, str]:
    return item.path, item.modality
