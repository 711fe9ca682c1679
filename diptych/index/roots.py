"""Which index serves a folder: its own, or that of a folder above, so that no second index is made inside the first."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

from diptych.errors import IndexUnsafeError, SearchIndexError
from diptych.index.catalog.catalog import Catalog
from diptych.index.catalog.facts import Rules, valid_facts
from diptych.index.catalog.recovery import facts_of
from diptych.media.path_patterns import composed, inside
from diptych.storage.directory import NAME, IndexDirectory
from diptych.untrusted.links import Inside

PLACE = NAME
CATALOG = "catalog.sqlite"


class Root(NamedTuple):
    """The folder that an index is of, and what of it is asked for: a folder relative to it, or "" for all."""

    path: Path
    under: str = ""


def root_of(folder: Path, place: Path | None) -> Root:
    """Whose index serves `folder`, both absolute: its own, or that of the nearest folder above whose index covers it.

    An index at another `place` serves what lies below the folder that it was made for. An index above counts where it
    belongs to whoever runs this, to the folder's owner or to root: in a folder that is open to all, such as /tmp,
    anyone may have left one.
    """
    if place is not None:
        made_for = Path(str(_facts(place).get("root", folder)))
        under = _under(made_for, place, folder) if made_for in folder.parents else None
        return Root(folder) if under is None else Root(made_for, under)
    if _is_index(folder / PLACE):
        return Root(folder)
    for above in folder.parents:
        if _is_ours(above / PLACE, folder) and _is_index(above / PLACE):
            under = _under(above, above / PLACE, folder)
            if under is not None:
                return Root(above, under)
    return Root(folder)


def _is_index(place: Path) -> bool:
    """Whether there is a catalog; or a link in its place or the index's, of which whoever opens it tells."""
    try:
        return bool(IndexDirectory(place).size(CATALOG))
    except OSError:
        return False
    except IndexUnsafeError:
        return True


def _is_ours(place: Path, folder: Path) -> bool:
    owner = IndexDirectory(place).owner
    return owner is not None and (not hasattr(os, "geteuid") or owner in (0, os.geteuid(), folder.stat().st_uid))


def _facts(place: Path) -> dict[str, Any]:
    return valid_facts(facts_of(IndexDirectory(place).path / CATALOG))


def _under(root: Path, place: Path, folder: Path) -> str | None:
    """A folder relative to the root of an index that knows a file in it, or would go into it; None where it would
    not."""
    from diptych.media.scan import scan

    under = folder.relative_to(root).as_posix()
    rules = Rules.of(_facts(place))
    if not rules.follow_links and Inside(root).leads_out(under):
        return None
    if _has_files(place, under):
        return under
    listed = as_listed(root, under)
    rules = scan(root, **rules._asdict())
    return listed if _has_files(place, listed) or rules.enters(listed) else None


def _has_files(place: Path, under: str) -> bool:
    condition, values = inside(under)
    try:
        with Catalog.open(IndexDirectory(place).path / CATALOG, readonly=True) as catalog:
            return bool(catalog.rows(f"SELECT 1 FROM files WHERE {condition} LIMIT 1", values))
    except (SearchIndexError, sqlite3.DatabaseError):  # which is told when it is asked
        return False


def as_listed(root: Path, under: str) -> str:
    """A folder below the root with its names as the disk lists them, and so a scan: some file systems open a folder by
    its name in any case, and with its accents in either form."""
    names: list[str] = []
    for name in under.split("/"):
        try:
            there = os.listdir(root.joinpath(*names))
        except OSError:
            there = []
        alike = [other for other in there if composed(other).casefold() == composed(name).casefold()]
        names.append(name if name in there or not alike else alike[0])
    return "/".join(names)
