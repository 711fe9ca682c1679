"""Items of the index as answers show them, and lists of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from diptych.index.catalog.validation import stamp_of
from diptych.index.filters.filters import Filters
from diptych.index.model import check_fits
from diptych.index.search.shots import copies_of
from diptych.serve.web.problems import not_found

if TYPE_CHECKING:
    from diptych.index.catalog.catalog import Item
    from diptych.index.local import LocalIndex

Sort = Literal["taken_at", "path", "added", "size"]
Order = Literal["asc", "desc"]
_COLUMNS: dict[Sort, str] = {"taken_at": "files.taken_at", "path": "files.path", "added": "first", "size": "files.size"}


class ItemView(NamedTuple):
    """How items are shown: `prefix` is before every path of a URL, `originals` says whether files are served, and paths
    are relative to `subfolder`, the folder that is served, itself relative to the root of its index."""

    prefix: str = ""
    originals: bool = False
    subfolder: str = ""

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
        """The path of its thumbnail; None for a text. `version` is that of the item, if it is known."""
        if item.kind == "text":
            return None
        return f"{self.prefix}/v1/thumbnails/{item.id}?v={version or version_of(item)}"

    def original(self, item: Item) -> str | None:
        """The path of its file, where files are served."""
        return f"{self.prefix}/v1/items/{item.id}/original" if self.originals else None


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


def found(index: LocalIndex, ids: Sequence[int]) -> list[Item]:
    """These items, as far as they are there and in the folder that is served."""
    if not index.exists:
        return []
    start = f"{index.subfolder}/" if index.subfolder else ""
    return [item for item in index.catalog.items(ids) if item.path.startswith(start)]


def one(index: LocalIndex, id: int) -> Item:
    """This item. Raises RequestProblem (404)."""
    for item in found(index, [id]):
        return item
    raise not_found(f"there is no item {id}; its file may have changed or gone.")


def ids_in_order(index: LocalIndex, filters: Filters, sort: Sort, order: Order) -> np.ndarray:
    """The first item of each file that passes the filters, (n,) int64."""
    if not index.exists:
        return np.empty(0, np.int64)
    condition, values = filters.within(index.subfolder).condition()
    modality = "text" if filters.kind == "text" else "picture"
    sql = (
        "SELECT min(items.id) AS first FROM files JOIN items ON items.file = files.id "
        f"WHERE items.modality = ? AND files.reason IS NULL AND ({condition}) GROUP BY files.id "
        f"ORDER BY {_COLUMNS[sort]} IS NULL, {_COLUMNS[sort]} {order.upper()}, files.path"
    )
    rows = index.catalog.rows(sql, [modality, *values])
    return np.fromiter((id for (id,) in rows), np.int64, len(rows))


def siblings(index: LocalIndex, item: Item) -> list[Item]:
    """All items of the item's file, in their order."""
    sql = "SELECT id FROM items WHERE file = (SELECT file FROM items WHERE id = ?) ORDER BY id LIMIT 1000"
    return found(index, [id for (id,) in index.catalog.rows(sql, [item.id])])


def copies(index: LocalIndex, item: Item) -> list[str]:
    """The paths of the other files of the item's shot."""
    (same,) = copies_of(index.store, [item], Filters())
    return sorted({copy.path for copy in same} - {item.path})


def details_of(index: LocalIndex, id: int, view: ItemView) -> dict[str, Any]:
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


def stored_vectors(index: LocalIndex, ids: Iterable[int], dtype: type[np.floating] = np.float32) -> np.ndarray:
    """The vectors of these items, which exist, (n, dim). Raises IndexModelError where another process has embedded
    everything with another model since the server began."""
    vectors = index.catalog.vectors_of(ids)
    check_fits(index.on_disk.index_dir, index.catalog.facts(), index.model_for_reindex)
    return vectors.astype(dtype, copy=False)


def newest_id(index: LocalIndex) -> int:
    """The id of the newest item: what is added later has a higher one."""
    return (index.catalog.rows("SELECT max(id) FROM items")[0][0] or 0) if index.exists else 0


def state_of(index: LocalIndex) -> str:
    """A short name of the index's state: it changes whenever what can be found changes."""
    if not index.exists:
        return "none"
    facts = index.catalog.facts()  # the generation also counts new names, dates and captions, under which items stay
    stamps = f"{stamp_of(facts, 'picture')} {stamp_of(facts, 'text')} {facts['generation']}"
    return hashlib.blake2b(stamps.encode(), digest_size=6).hexdigest()
