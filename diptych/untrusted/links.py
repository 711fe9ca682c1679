"""Untrusted folders: links that lead out of them, and folders nested to any depth."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

LEADS_OUT = "leads out of the folder"  # the reason under which such links are counted
_REPOSITORIES = ("datasets--", "models--", "spaces--")


def own_folders(folder: str | os.PathLike[str]) -> list[str]:
    """The real folders that may contain a folder's own files: the folder itself; and, for a snapshot in the hub's cache
    (`datasets--OWNER--NAME/snapshots/REVISION`), which consists of links, its repository's `blobs`."""
    real = os.path.realpath(folder)
    for repository, snapshots in itertools.pairwise(reversed(Path(real).parents)):
        if snapshots.name == "snapshots" and repository.name.startswith(_REPOSITORIES):
            return [
                real,
                str(repository / "blobs"),
            ]  # not resolved: if `blobs` is a link, its target is not the folder's own
    return [real]


class RealPaths:
    """Resolves links in paths, which need not exist. Each directory is resolved once; to see later changes, make a new
    one."""

    def __init__(self) -> None:
        self._directories: dict[str, str] = {}

    def of(self, path: str) -> str:
        """The path without links. Raises ValueError for an invalid path."""
        directory, name = os.path.split(path)
        real = self._directories.get(directory)
        if real is None:
            real = self._directories[directory] = os.path.realpath(directory)
        real = os.path.join(real, name)
        is_plain = name not in ("", os.curdir, os.pardir) and not os.path.islink(real)
        # Windows has more kinds of links than islink knows
        return real if is_plain and sys.platform != "win32" else os.path.realpath(real)


class RootBoundary:
    """Decides whether a path is inside a folder after its links are resolved. The folder itself may be a link.

    Each directory is resolved once; to see later changes, make a new one.
    """

    def __init__(self, root: str | os.PathLike[str]):
        self._given, roots = os.fspath(root), own_folders(root)
        self._roots, self._prefixes = frozenset(roots), tuple(os.path.join(each, "") for each in roots)
        self._real = RealPaths()

    def is_outside(self, path: str) -> bool:
        """Whether a path, relative to the folder or absolute, leads outside; it need not exist."""
        real = self._real.of(os.path.join(self._given, path))
        return not real.startswith(self._prefixes) and real not in self._roots


def walk(folder: str | os.PathLike[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk`: yields (folder, its folders, its other entries); folders removed from the second are not entered.

    `os.walk` and `glob` of Python 3.11 are recursive, and fail at a depth of a thousand.
    """
    waiting = [os.fspath(folder)]
    while waiting:
        here, folders, others = waiting.pop(), list[str](), list[str]()
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    (folders if _is_folder(entry) else others).append(entry.name)
        except OSError:
            continue
        yield here, folders, others
        paths = (os.path.join(here, name) for name in reversed(folders))
        waiting += [path for path in paths if not os.path.islink(path)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
