"""The pictures among which near-duplicates are looked for: those of an index on disk, or of one that a server keeps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from diptych.index.catalog.validation import VALID_FILE, valid_vector
from diptych.index.filters.filters import Filters
from diptych.index.search.small_greys import Progress, small_greys
from diptych.media.scanning.path_patterns import inside

if TYPE_CHECKING:
    from diptych.index.catalog.validation import Item
    from diptych.index.stores.store import Store


class FolderIndex(Protocol):
    """An index on disk; the methods that are needed of it."""

    @property
    def catalog(self) -> Any: ...

    @property
    def subfolder(self) -> str: ...

    @property
    def root(self) -> Path: ...

    @property
    def rules(self) -> Any: ...

    def path_of(self, path: str) -> Path: ...


class ServersIndex(Protocol):
    """An index that a server keeps; `pictures_root` is None where its pictures may not be read."""

    @property
    def store(self) -> Store: ...

    @property
    def pictures_root(self) -> Path | None: ...

    @property
    def rules(self) -> Any: ...


class ComparedPictures(Protocol):
    """The pictures of an index, and the videos with equal bytes."""

    def ids(self) -> np.ndarray:
        """The ids of the pictures, (n,) int64."""
        ...

    def equal_videos(self) -> list[list[int]]:
        """The ids of one frame of each video that has the same bytes as another."""
        ...

    def items(self, ids: Iterable[int]) -> list[Item]:
        """As `Store.items`."""
        ...

    def vectors_of(self, ids: Iterable[int]) -> np.ndarray:
        """As `Store.vectors_of`."""
        ...

    def path_of(self, path: str) -> Path:
        """The absolute path of a file."""
        ...

    def files(self, items: Iterable[Item]) -> list[Item]:
        """One item for each file that is there, the one to keep first."""
        ...

    def greys(self, items: Sequence[Item], progress: Progress | None) -> dict[int, np.ndarray]:
        """As `small_greys`."""
        ...


def pictures_of(index: FolderIndex | ServersIndex) -> ComparedPictures:
    """The pictures of an index."""
    return _FolderPictures(index) if hasattr(index, "catalog") else _ServersPictures(index)  # type: ignore[arg-type]


class _FolderPictures:
    def __init__(self, index: FolderIndex):
        self._index = index
        self.items, self.vectors_of = index.catalog.items, index.catalog.vectors_of
        self.path_of = index.path_of

    def ids(self) -> np.ndarray:
        catalog = self._index.catalog
        here, folder = inside(self._index.subfolder)
        pictures = f"files.kind = 'picture' AND items.modality = 'picture' AND {valid_vector(catalog.dim)}"
        return catalog.matching(f"{pictures} AND {VALID_FILE} AND {here}", folder)

    def equal_videos(self) -> list[list[int]]:
        here, folder = inside(self._index.subfolder)
        same = (
            "files.kind = 'video' AND items.modality = 'picture' AND files.digest IN "
            f"(SELECT digest FROM files WHERE kind = 'video' AND {here} GROUP BY digest HAVING count(*) > 1) AND {here}"
        )
        groups: dict[bytes, dict[str, int]] = {}
        for item in self.items(self._index.catalog.matching(same, [*folder, *folder])):
            groups.setdefault(item.digest, {}).setdefault(item.path, item.id)
        return [list(group.values()) for group in groups.values()]

    def files(self, items: Iterable[Item]) -> list[Item]:
        return existing(items, self.path_of)

    def greys(self, items: Sequence[Item], progress: Progress | None) -> dict[int, np.ndarray]:
        return small_greys(self._index, items, progress=progress)


class _ServersPictures:
    """Without a root no file is looked for: all that the server has counts, and vectors alone decide."""

    def __init__(self, index: ServersIndex):
        self._store, self._root, self.rules = index.store, index.pictures_root, index.rules
        self.items, self.vectors_of = index.store.items, index.store.vectors_of

    @property
    def root(self) -> Path:
        """The folder of the pictures; asked for only where there is one."""
        if self._root is None:
            raise ValueError("there is no folder of pictures")
        return self._root

    def path_of(self, path: str) -> Path:
        return self._store.path_of(path) if self._root is None else self._root / path

    def ids(self) -> np.ndarray:
        return self._store.listed("picture", Filters(kind="picture"), "added", "asc")

    def equal_videos(self) -> list[list[int]]:
        groups: dict[object, dict[str, int]] = {}
        for id, key in self._store.keys("picture", Filters(kind="video")).items():
            groups.setdefault(key.content, {}).setdefault(key.path, id)
        return [list(group.values()) for group in groups.values() if len(group) > 1]

    def files(self, items: Iterable[Item]) -> list[Item]:
        return sorted(items, key=rank) if self._root is None else existing(items, self.path_of)

    def greys(self, items: Sequence[Item], progress: Progress | None) -> dict[int, np.ndarray]:
        return {} if self._root is None else small_greys(self, items, progress=progress)


def existing(items: Iterable[Item], path_of: Any) -> list[Item]:
    """One item for each existing file. A file with several names gets the first that is not a link, whose deletion
    would leave links dangling."""
    named: dict[tuple[int, int], Item] = {}
    for item in sorted(items, key=rank):
        path = path_of(item.path)
        with contextlib.suppress(OSError):
            status = path.stat()
            file = status.st_dev, status.st_ino
            if file not in named or (path_of(named[file].path).is_symlink() and not path.is_symlink()):
                named[file] = item
    return sorted(named.values(), key=rank)


def rank(item: Item) -> tuple[int, int, str]:
    """The sort key of the file to keep: most pixels, then most bytes, then by name."""
    return -(item.details.width or 0) * (item.details.height or 0), -item.size, item.path
