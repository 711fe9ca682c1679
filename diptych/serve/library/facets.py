"""What the filters can select, counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diptych.index.catalog.browsing import Facets

if TYPE_CHECKING:
    from diptych.index.filters.filters import Filters
    from diptych.serve.library.index_pool import AnyIndex


def facets(index: AnyIndex, filters: Filters) -> dict[str, Any]:
    """The kinds, cameras, months and folders of the files that pass the filters, each with its number of files."""
    found = index.store.facets(filters) if index.exists else Facets()
    return {
        "total": found.total, "kinds": dict(found.kinds), "undated": found.undated, "located": found.located,
        "cameras": [{"name": name, "count": count} for name, count in found.cameras],
        "months": [{"month": name, "count": count} for name, count in sorted(found.months)],
        "folders": [{"path": name, "count": count} for name, count in sorted(found.folders)],
    }  # fmt: skip
