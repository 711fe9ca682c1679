"""Groups of pictures that are nearly the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from diptych.index.local import LocalIndex
from diptych.index.search.near_duplicates import find_duplicates
from diptych.serve.web.problems import RequestProblem

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
    """The near-duplicates of an index."""
    if not index.exists:
        return DuplicateGroups(0, 0, [])
    if not isinstance(index, LocalIndex):
        raise RequestProblem(
            404, "NotOfferedError", "near-duplicates are found in the index of a folder; this one is kept by a server.",
            remedy="Copy it to a folder with `diptych index copy`, and serve that.",
        )  # fmt: skip
    result = find_duplicates(index.on_disk, threshold=threshold, progress=progress, on_read=progress)
    groups = [[(copy.id, round(float(copy.cosine), 5)) for copy in group] for group in result.groups]
    return DuplicateGroups(result.searched, result.unread, groups)
