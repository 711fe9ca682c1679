"""Items of the index as answers show them, and lists of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from diptych.index.filters.filters import Filters
from diptych.index.model import check_fingerprint
from diptych.index.search.shots import copies_of
from diptych.serve.web.problems import not_found

if TYPE_CHECKING:
    from diptych.index.catalog.browsing import Order, Sort
    from diptych.index.catalog.validation import Item
    from diptych.serve.library.index_pool import AnyIndex


class ItemView(NamedTuple):
    """How items are shown: `prefix` is before every path of a URL, `originals` says whether files are served, and paths
    are relative to `subfolder`, the folder that is served, itself relative to the root of its index. `pictures` says
    whether there are thumbnails: not where an index at an address is served and nobody said where its pictures are."""

    prefix: str = ""
    originals: bool = False
    subfolder: str = ""
    pictures: bool = True

    def path(self, path: str) -> str:
        """A path of the index, as it is shown."""
        return shown(below(self.subfolder, path))

    def of(self, item: Item) -> dict[str, Any]:
        """The fields of an item."""
        details, path, version = item.details, self.path(item.path), version_of(item)
        folder, _, name = path.rpartition("/")
        return {
            "id": item.id, "kind": item.kind, "modality": item.modality, "version": version,
            "path": path, "name": name, "folder": folder,
            "width": details.width, "height": details.height, "size": item.size, "duration_s": details.duration_s,
            "at_s": item.at_s, "line": item.line, "text": item.text, "taken_at": details.taken_at,
            "latitude": details.latitude, "longitude": details.longitude, "camera": details.camera,
            "caption": details.caption, "thumbnail": self.thumbnail(item, version), "original": self.original(item),
        }  # fmt: skip

    def thumbnail(self, item: Item, version: str = "") -> str | None:
        """The path of its thumbnail; None for a text, and where none are shown. `version` is the item's, if known."""
        if item.kind == "text" or not self.pictures:
            return None
        return f"{self.prefix}/v1/thumbnails/{item.id}?v={version or version_of(item)}"

    def original(self, item: Item) -> str | None:
        """The path of its file, where files are served."""
        return f"{self.prefix}/v1/items/{item.id}/original" if self.originals and self.pictures else None


def version_of(item: Item) -> str:
    """What changes with the bytes of the item's file."""
    if item.digest:
        return item.digest[:4].hex()
    return hashlib.blake2b(f"{item.path}:{item.size}".encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()


def shown(path: str) -> str:
    """A path in Unicode; bytes that are not UTF-8 become replacement characters."""
    return path if path.isascii() else path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def below(subfolder: str, path: str) -> str:
    """A path of the index, relative to a folder of it; "" is the root."""
    return path.removeprefix(f"{subfolder}/") if subfolder else path


def found(index: AnyIndex, ids: Sequence[int]) -> list[Item]:
    """These items, as far as they are there and in the folder that is served."""
    if not index.exists:
        return []
    start = f"{index.subfolder}/" if index.subfolder else ""
    return [item for item in index.store.items(ids) if item.path.startswith(start)]


def one(index: AnyIndex, id: int) -> Item:
    """This item. Raises RequestProblem (404)."""
    for item in found(index, [id]):
        return item
    raise not_found(f"there is no item {id}; its file may have changed or gone.")


def ids_in_order(index: AnyIndex, filters: Filters, sort: Sort, order: Order) -> np.ndarray:
    """The first item of each file that passes the filters, (n,) int64."""
    if not index.exists:
        return np.empty(0, np.int64)
    return index.store.listed("text" if filters.kind == "text" else "picture", filters, sort, order)


def siblings(index: AnyIndex, item: Item) -> list[Item]:
    """All items of the item's file, in their order."""
    return found(index, [one.id for one in index.store.of_file(item.path)])


def copies(index: AnyIndex, item: Item) -> list[str]:
    """The paths of the other files of the item's shot."""
    (same,) = copies_of(index.store, [item], Filters())
    return sorted({copy.path for copy in same} - {item.path})


def details_of(index: AnyIndex, id: int, view: ItemView) -> dict[str, Any]:
    """An item with its file's picture, its film's frames, its copies and its texts."""
    item = one(index, id)
    others = siblings(index, item)
    pictures = [other for other in others if other.modality == "picture"]
    frames = [picture for picture in pictures if picture.at_s is not None]
    texts = [other for other in others if other.modality == "text"]
    return view.of(item) | {
        "picture": pictures[0].id if pictures else None,
        "frames": [{"id": one.id, "at_s": one.at_s, "thumbnail": view.thumbnail(one)} for one in frames],
        "copies": [view.path(path) for path in copies(index, item)],
        "texts": [{"id": one.id, "text": one.text, "line": one.line} for one in texts],
    }


def stored_vectors(index: AnyIndex, ids: Iterable[int], dtype: type[np.floating] = np.float32) -> np.ndarray:
    """The vectors of these items, which exist, (n, dim). Raises IndexModelError where another process has embedded
    everything with another model since the server began."""
    vectors = index.store.vectors_of(ids)
    check_fingerprint(index.store.name, index.store.facts(), index.model_for_reindex)
    return vectors.astype(dtype, copy=False)
