"""Exact search over a folder: every picture is embedded and compared."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from diptych.embedder import Embedder, Failure
from diptych.images import find_images


class Hit(NamedTuple):
    """A picture and its cosine to the query."""

    path: Path
    score: float


class Found(NamedTuple):
    """The best `hits`, best first; how many pictures were `searched`; and those that could not be, with why."""

    hits: list[Hit]
    searched: int
    failures: dict[Path, Failure]


def search_folder(
    model: Embedder,
    folder: str | os.PathLike[str],
    text: str,
    *,
    limit: int = 10,
    truncate: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Found:
    """The `limit` pictures under `folder` that fit the sentence best, by cosine.

    Broken pictures are left out and named in `failures`. `progress` is told (done, total) after each picture. Raises
    OSError where `folder` is none, TextError and TokenizerError for a sentence that cannot be read.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}; wanted 1 or more.")
    query = model.embed_texts([text], truncate=truncate)[0]
    found = model.embed_readable(find_images(folder), progress=progress)
    scores = found.vectors @ query
    best = sorted(map(Hit, found.keys, scores.tolist()), key=lambda hit: (-hit.score, hit.path))[:limit]
    return Found(best, len(found.keys), found.failures)
