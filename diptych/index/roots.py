"""Finds the index that serves a folder: its own, or that of a folder above, so that no second index is made inside the
first."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

from diptych.errors import IndexUnsafeError, SearchIndexError
from diptych.index.catalog.catalog import Catalog
from diptych.index.catalog.facts import ScanRules, valid_facts
from diptych.index.catalog.recovery import facts_of
from diptych.media.scanning.path_patterns import composed, inside
from diptych.storage.directory import NAME, IndexDirectory
from diptych.untrusted.links import RootBoundary

INDEX_DIR_NAME = NAME
CATALOG = "catalog.sqlite"


class Root(NamedTuple):
    """The folder that an index covers, and the part of it that is asked for: a folder relative to it, or "" for all."""

    path: Path
    subfolder: str = ""


def find_root(folder: Path, index_dir: Path | None) -> Root:
    """The root whose index serves `folder`, both absolute: `folder` itself, or the nearest folder above whose index
    covers it.

    An index in another `index_dir` serves the folder that it was made for and everything below. An index above counts
    only if it belongs to the current user, to the folder's owner or to root: in a folder that is open to all, such as
    /tmp, anyone may have left one.
    """
    if index_dir is not None:
        made_for = Path(str(_facts(index_dir).get("root", folder)))
        subfolder = _subfolder(made_for, index_dir, folder) if made_for in folder.parents else None
        return Root(folder) if subfolder is None else Root(made_for, subfolder)
    if _is_index(folder / INDEX_DIR_NAME):
        return Root(folder)
    for above in folder.parents:
        if _is_ours(above / INDEX_DIR_NAME, folder) and _is_index(above / INDEX_DIR_NAME):
            subfolder = _subfolder(above, above / INDEX_DIR_NAME, folder)
            if subfolder is not None:
                return Root(above, subfolder)
    return Root(folder)


def _is_index(index_dir: Path) -> bool:
    """Whether there is a catalog, or a link instead of it, which is an error when the index is opened."""
    try:
        return bool(IndexDirectory(index_dir).size(CATALOG))
    except OSError:
        return False
    except IndexUnsafeError:
        return True


def _is_ours(index_dir: Path, folder: Path) -> bool:
    owner = IndexDirectory(index_dir).owner
    return owner is not None and (not hasattr(os, "geteuid") or owner in (0, os.geteuid(), folder.stat().st_uid))


def _facts(index_dir: Path) -> dict[str, Any]:
    return valid_facts(facts_of(IndexDirectory(index_dir).path / CATALOG))


def _subfolder(root: Path, index_dir: Path, folder: Path) -> str | None:
    """A folder relative to the root of an index that contains, or would contain, files of it; None otherwise."""
    from diptych.media.scanning.scan import scan

    subfolder = folder.relative_to(root).as_posix()
    rules = ScanRules.of(_facts(index_dir))
    if not rules.follow_links and RootBoundary(root).is_outside(subfolder):
        return None
    if _has_files(index_dir, subfolder):
        return subfolder
    as_on_disk = with_names_on_disk(root, subfolder)
    rules = scan(root, **rules._asdict())
    return as_on_disk if _has_files(index_dir, as_on_disk) or rules.enters(as_on_disk) else None


def _has_files(index_dir: Path, subfolder: str) -> bool:
    condition, values = inside(subfolder)
    try:
        with Catalog.open(IndexDirectory(index_dir).path / CATALOG, readonly=True) as catalog:
            return bool(catalog.rows(f"SELECT 1 FROM files WHERE {condition} LIMIT 1", values))
    except (SearchIndexError, sqlite3.DatabaseError):  # reported when the index is opened
        return False


def with_names_on_disk(root: Path, subfolder: str) -> str:
    """A folder below the root, spelled as the disk lists it, and so a scan: some file systems ignore case, or the form
    of accents."""
    names: list[str] = []
    for name in subfolder.split("/"):
        try:
            there = os.listdir(root.joinpath(*names))
        except OSError:
            there = []
        alike = [other for other in there if composed(other).casefold() == composed(name).casefold()]
        names.append(name if name in there or not alike else alike[0])
    return "/".join(names)
