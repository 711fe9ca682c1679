"""How many pictures the overviews are made of: they hold the vectors of all in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diptych.index.filters.filters import Filters
from diptych.index.local import LocalIndex
from diptych.serve.web.problems import RequestProblem

if TYPE_CHECKING:
    from diptych.serve.library.index_pool import AnyIndex

MOST = 200_000  # pictures of an index that a server keeps, which has as many as it likes


def check_size(index: AnyIndex, what: str) -> None:
    """Raises RequestProblem (422) where a server's index has more than MOST pictures. `what` begins a sentence."""
    if isinstance(index, LocalIndex) or not index.exists:
        return
    count = len(index.store.select("picture", Filters()))
    if count > MOST:
        raise RequestProblem(
            422, "NotOfferedError", f"{what} of at most {MOST:,} pictures of an index on a server; this has {count:,}.",
            remedy="Copy some of them to an index of their own, or search.",
        )  # fmt: skip
