"""Folders that may come from anyone: links that lead out, behind which nothing is the folder's own, and folders in
folders, however deep."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

LEADS_OUT = "leads out of the folder"  # the reason by which such links are counted
_REPOSITORIES = ("datasets--", "models--", "spaces--")


def own_folders(folder: str | os.PathLike[str]) -> list[str]:
    """The folders, without links, in which a folder's own files may lie: itself, and of a state in a cache of the hub's
    client (`datasets--OWNER--NAME/snapshots/REVISION`), which is made of links, its repository's `blobs`."""
    real = os.path.realpath(folder)
    for repository, snapshots in itertools.pairwise(reversed(Path(real).parents)):
        if snapshots.name == "snapshots" and repository.name.startswith(_REPOSITORIES):
            return [real, str(repository / "blobs")]  # as it stands: a link in its place leads to no file of this
    return [real]


class RealPaths:
    """Tells where paths lead, which need not be there. What directories are is asked once; whoever looks later makes
    another."""

    def __init__(self) -> None:
        self._directories: dict[str, str] = {}

    def of(self, path: str) -> str:
        """The path without links. Raises ValueError for what is no path."""
        directory, name = os.path.split(path)
        real = self._directories.get(directory)
        if real is None:
            real = self._directories[directory] = os.path.realpath(directory)
        real = os.path.join(real, name)
        is_plain = name not in ("", os.curdir, os.pardir) and not os.path.islink(real)
        # Windows has more kinds of links than islink knows
        return real if is_plain and sys.platform != "win32" else os.path.realpath(real)


class RootBoundary:
    """Tells what lies in a folder, by where its links lead. The folder itself may be called by a link.

    What directories are is asked once; whoever looks later makes another.
    """

    def __init__(self, root: str | os.PathLike[str]):
        self._given, roots = os.fspath(root), own_folders(root)
        self._roots, self._prefixes = frozenset(roots), tuple(os.path.join(each, "") for each in roots)
        self._real = RealPaths()

    def is_outside(self, path: str) -> bool:
        """Whether a path, relative to the folder or absolute, ends outside of it; it need not be there."""
        real = self._real.of(os.path.join(self._given, path))
        return not real.startswith(self._prefixes) and real not in self._roots


def walk(folder: str | os.PathLike[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk`: (a folder, the folders in it, all else in it), and what is taken out of the second is not entered.

    That of Python 3.11, and its globs, call themselves for each folder in a folder, and end at a thousand.
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
