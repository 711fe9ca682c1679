"""Albums of a folder: saved searches and selections, in the user's configuration folder."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from diptych.index.local import LocalIndex
from diptych.serve.library.items import ItemView, found
from diptych.serve.web.problems import RequestProblem, not_found, storing
from diptych.storage.atomic import atomic_write
from diptych.storage.user import configuration
from diptych.untrusted.json import parse_json

if TYPE_CHECKING:
    from diptych.serve.library.index_pool import AnyIndex

MOST_ALBUMS, MOST_ITEMS = 500, 20_000
_MOST_BYTES = 32 * 2**20


class Albums:
    """The albums of one index, by its name: its folder, or its address. A selection names files by their paths, so that
    it outlives a new index."""

    def __init__(self, index_name: str):
        name = hashlib.blake2b(os.fsencode(index_name), digest_size=8).hexdigest()
        self._name, self._lock = f"albums-{name}.json", threading.Lock()

    def all(self, index: AnyIndex, view: ItemView) -> list[dict[str, Any]]:
        """All albums, the newest first, without their items."""
        with self._lock:
            albums = self._read()
        return [shown_album(index, album, view) for album in reversed(albums)]

    def get(self, id: str) -> dict[str, Any]:
        """One album as it is stored. Raises RequestProblem (404)."""
        with self._lock:
            return self._one(self._read(), id)

    def add(self, index: AnyIndex, name: str, search: dict[str, Any] | None, items: list[int]) -> dict[str, Any]:
        """A new album."""
        created = datetime.now().isoformat(timespec="seconds")
        album: dict[str, Any] = {"id": f"a_{secrets.token_hex(8)}", "name": name, "created_at": created}
        album |= {"files": _files(index, items)} if search is None else {"search": search}
        with self._lock:
            albums = self._read()
            if len(albums) >= MOST_ALBUMS:
                raise RequestProblem(422, "RequestError", f"there are {MOST_ALBUMS} albums; delete one first.")
            self._write([*albums, album])
        return album

    def change(
        self, index: AnyIndex, id: str, *, name: str | None, search: dict[str, Any] | None, add: list[int],
        remove: list[int], remove_missing: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        """Change an album; `remove_missing` takes out the files that are gone. Raises RequestProblem: 422 where a
        search gets items, or a selection a search; 503 where there is no index that knows what is gone."""
        with self._lock:
            albums = self._read()
            album = self._one(albums, id)
            if (search is not None) != ("search" in album) and (search is not None or add or remove or remove_missing):
                raise RequestProblem(422, "RequestError", "an album is either a search or a selection.")
            if name is not None:
                album["name"] = name
            if search is not None:
                album["search"] = search
                album.pop("cover", None)
            if remove_missing:
                album["files"] = _without_missing(index, album["files"])
            if add or remove:
                gone = {tuple(file) for file in _files(index, remove)}
                files = [file for file in album["files"] if tuple(file) not in gone]
                known = {tuple(file) for file in files}
                album["files"] = files + [file for file in _files(index, add) if tuple(file) not in known]
                if len(album["files"]) > MOST_ITEMS:
                    raise RequestProblem(422, "RequestError", f"an album has at most {MOST_ITEMS:,} items.")
            self._write(albums)
            return album

    def uncovered(self, index: AnyIndex) -> list[dict[str, Any]]:
        """The saved searches without a cover, or whose cover is gone, that were not looked through as the index is."""
        with self._lock:
            searches = [album for album in self._read() if "search" in album]
        version = index.store.state()
        return [
            album for album in searches
            if not ids_of(index, _cover(album)) and album.get("cover", {}).get("version") != version
        ]  # fmt: skip

    def set_cover(self, index: AnyIndex, id: str, item: int | None) -> None:
        """The item that stands for a saved search, or none as the index is."""
        with self._lock:
            albums = self._read()
            for album in albums:
                if album["id"] == id and "search" in album:
                    album["cover"] = {"files": _files(index, [item] if item else []), "version": index.store.state()}
                    self._write(albums)

    def delete(self, id: str) -> None:
        """Delete an album; no picture is touched. Raises RequestProblem (404)."""
        with self._lock:
            albums = self._read()
            albums.remove(self._one(albums, id))
            self._write(albums)

    def _one(self, albums: list[dict[str, Any]], id: str) -> dict[str, Any]:
        for album in albums:
            if album["id"] == id:
                return album
        raise not_found(f"there is no album {id!r}.")

    def _read(self) -> list[dict[str, Any]]:
        with suppress(FileNotFoundError, NotADirectoryError):
            stored = parse_json((configuration.folder() / self._name).read_bytes(), max_bytes=_MOST_BYTES)
            return [album for album in stored if isinstance(album, dict) and {"id", "name"} <= album.keys()]
        return []

    def _write(self, albums: list[dict[str, Any]]) -> None:
        text = json.dumps(albums)
        if len(text) > _MOST_BYTES:  # more would not be read again
            raise RequestProblem(
                422, "RequestError", f"all albums together take more than {_MOST_BYTES:,} bytes.",
                remedy="Delete one, or save less in this one.",
            )  # fmt: skip
        path = configuration.folder() / self._name
        with storing("the album", "configuration"):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with atomic_write(path, mode=0o600) as part:
                part.write_text(text, encoding="ascii")


def shown_album(index: AnyIndex, album: dict[str, Any], view: ItemView) -> dict[str, Any]:
    """An album without its items."""
    files = album.get("files")
    first = found(index, ids_of(index, _cover(album) if files is None else files[:1]))
    return {
        "id": album["id"], "name": album["name"], "kind": "search" if files is None else "selection",
        "search": album.get("search"), "count": None if files is None else len(files),
        "created_at": album.get("created_at"), "cover": view.thumbnail(first[0]) if first else None,
    }  # fmt: skip


def _cover(album: dict[str, Any]) -> list[list[Any]]:
    return album.get("cover", {}).get("files", [])


def ids_of(index: AnyIndex, files: list[list[Any]]) -> list[int]:
    """The ids that the files of a selection have now, in their order, without those that are gone."""
    if not index.exists:
        return []
    found_ids = (index.store.find(os.fsdecode(path.encode("latin-1")), *part) for path, *part in files)
    return [id for id in found_ids if id is not None]


def _without_missing(index: AnyIndex, files: list[list[Any]]) -> list[list[Any]]:
    """The files of a selection that have items, or lie in the folder and are not indexed yet."""
    if not index.exists:
        raise RequestProblem(
            503, "NotReadyError", "there is no index, so nobody knows which files are gone.",
            remedy="Ask again once the folder is indexed.",
        )  # fmt: skip

    def is_to_come(path: bytes) -> bool:
        is_known = isinstance(index, LocalIndex) and index.catalog.files("path = CAST(? AS TEXT)", [path])
        root = index.pictures_root
        return root is not None and not is_known and os.path.lexists(os.path.join(os.fsencode(root), path))

    return [file for file in files if ids_of(index, [file]) or is_to_come(file[0].encode("latin-1"))]


def _files(index: AnyIndex, ids: list[int]) -> list[list[Any]]:
    """How a selection names items, each once: path (a character per byte), modality, time, line."""
    return [
        [os.fsencode(item.path).decode("latin-1"), item.modality, item.at_s, item.line]
        for item in found(index, list(dict.fromkeys(ids)))
    ]
