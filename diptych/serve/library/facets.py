"""What the filters can select, counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diptych.index.filters.filters import Filters
    from diptych.index.local import LocalIndex

MOST_CAMERAS, MOST_FOLDERS, MOST_MONTHS = 200, 2000, 2400
_LONGEST = 500  # characters
_FOLDER = "rtrim(rtrim({path}, replace({path}, '/', '')), '/')"
_BELOW = "substr(files.path, {start})"  # the path relative to the folder that is served


def facets(index: LocalIndex, filters: Filters) -> dict[str, Any]:
    """The kinds, cameras, months and folders of the files that pass the filters, each with its number of files."""
    counted = {"total": 0, "kinds": {}, "cameras": [], "months": [], "undated": 0, "located": 0, "folders": []}
    if not index.exists:
        return counted
    condition, values = filters.within(index.subfolder).condition()
    folder = _FOLDER.format(path=_BELOW.format(start=len(index.subfolder) + 2 if index.subfolder else 1))
    where = f"FROM files WHERE files.reason IS NULL AND ({condition})"

    def groups(column: str, most: int) -> list[tuple[str, int]]:
        sql = f"SELECT {column}, count(*) {where} GROUP BY 1 ORDER BY 2 DESC LIMIT {most}"
        rows = index.catalog.rows(sql, values)
        return [(name, count) for name, count in rows if isinstance(name, str) and len(name) <= _LONGEST]

    sums = f"SELECT count(*), count(*) - count(taken_at), count(latitude) {where}"
    total, undated, located = index.catalog.rows(sums, values)[0]
    return {
        "total": total, "kinds": dict(groups("kind", 3)), "undated": undated, "located": located,
        "cameras": [{"name": name, "count": count} for name, count in groups("camera", MOST_CAMERAS)],
        "months": [
            {"month": name, "count": count} for name, count in sorted(groups("substr(taken_at, 1, 7)", MOST_MONTHS))
        ],
        "folders": [{"path": name, "count": count} for name, count in sorted(groups(folder, MOST_FOLDERS))],
    }  # fmt: skip
