"""What a search returns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from diptych.media.items import Modality


class Hit(NamedTuple):
    """Something found: its file, its cosine to the query, and `z`, how many deviations it stands above the query's own
    background, a sample of the index (None where the index holds under ten items of its kind).

    `kind` is the file's: picture, video or text. `at_s` is the time of a video's best frame, `line` and `text` are a
    paragraph's or caption's. `copies` are the other files of the same shot. The rest is what the file says of itself,
    None where it is silent.
    """

    path: Path
    score: float
    z: float | None
    kind: str = "picture"
    modality: Modality = "picture"
    at_s: float | None = None
    line: int | None = None
    text: str | None = None
    id: int = 0
    size: int = 0
    width: int | None = None
    height: int | None = None
    taken_at: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    camera: str | None = None
    caption: str | None = None
    copies: tuple[Path, ...] = ()


class Found(NamedTuple):
    """The `hits`, best first, and how many items were `searched`: those of the asked kind that passed the filters.

    Where relevance was asked for of ten items or more, `standing` is how far the best hits stand above what other
    queries reach on these items, in deviations, and `cut` is what it takes to stand out; no hits are left where it is
    below. Of several modalities it is the one that stands out most.

    `refused` names what was met in the indexes that is no file of their folders, and no hit.
    """

    hits: list[Hit]
    searched: int
    standing: float | None = None
    cut: float | None = None
    refused: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        """The hits with small pictures, where a notebook shows a result."""
        from diptych.index.search.notebook import Card, result_html

        return result_html((Card(hit.path, hit.score, hit.z, hit.kind, hit.text) for hit in self.hits), self.searched)
