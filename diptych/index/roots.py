"""Which index serves a folder: its own, or that of a folder above, so that no second index is made inside the first."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

from diptych.index.catalog import Catalog
from diptych.index.faults import IndexFault
from diptych.index.mending import facts_of
from diptych.index.patterns import inside

PLACE = ".diptych"


def root_of(folder: Path, place: Path | None) -> Path:
    """The folder whose index serves `folder`, both absolute: itself, or the nearest above whose index covers it.

    An index at another `place` serves what lies below the folder that it was made for. An index above counts where it
    belongs to whoever runs this, to the folder's owner or to root: in a folder that is open to all, such as /tmp,
    anyone may have left one.
    """
    if place is not None:
        made_for = Path(str(_facts(place).get("root", folder)))
        return made_for if made_for in folder.parents and _covers(made_for, place, folder) else folder
    if _is_index(folder / PLACE):
        return folder
    for above in folder.parents:
        if _is_index(above / PLACE) and _is_ours(above / PLACE, folder) and _covers(above, above / PLACE, folder):
            return above
    return folder


def _is_index(place: Path) -> bool:
    try:
        return os.path.getsize(place / "catalog.sqlite") > 0
    except OSError:
        return False


def _is_ours(place: Path, folder: Path) -> bool:
    owner = place.stat().st_uid
    return not hasattr(os, "geteuid") or owner in (0, os.geteuid(), folder.stat().st_uid)


def _facts(place: Path) -> dict[str, Any]:
    return facts_of(place / "catalog.sqlite") if _is_index(place) else {}


def _covers(root: Path, place: Path, folder: Path) -> bool:
    """Whether an index knows a file of a folder below its root, or would go into it."""
    from diptych.index.scan import scan

    under = folder.relative_to(root).as_posix()
    condition, values = inside(under)
    try:
        with Catalog.open(place / "catalog.sqlite") as catalog:
            if catalog.rows(f"SELECT 1 FROM files WHERE {condition} LIMIT 1", values):
                return True
    except (IndexFault, sqlite3.DatabaseError):  # which is told when it is asked
        pass
    facts = _facts(place)
    return scan(root, exclude=json.loads(facts.get("exclude", "[]")), hidden=facts.get("hidden") == "yes").enters(under)
