"""Groups of pictures that are nearly the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from diptych.index.local import LocalIndex
from diptych.index.search.near_duplicates import find_duplicates
from diptych.serve.library.overview.sizes import check_size

if TYPE_CHECKING:
    from diptych.serve.library.index_pool import AnyIndex
    from diptych.serve.library.jobs import Progress


class DuplicateGroups(NamedTuple):
    """The pictures that were compared, those among them of which vectors alone decide, and groups of (id, cosine to the
    first), the largest group first."""

    searched: int
    unread: int
    groups: list[list[tuple[int, float]]]


def duplicate_groups(index: AnyIndex, threshold: float, progress: Progress) -> DuplicateGroups:
    """The near-duplicates of an index. Raises as `check_size` does."""
    if not index.exists:
        return DuplicateGroups(0, 0, [])
    check_size(index, "near-duplicates are found")
    source = index.on_disk if isinstance(index, LocalIndex) else index
    result = find_duplicates(source, threshold=threshold, progress=progress, on_read=progress)
    groups = [[(copy.id, round(float(copy.cosine), 5)) for copy in group] for group in result.groups]
    return DuplicateGroups(result.searched, result.unread, groups)
