"""The result of a search."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from diptych.deprecation import RenamedAttribute
from diptych.index.search.query import UnseenWords

if TYPE_CHECKING:
    from diptych.media.items import Modality


class Hit(NamedTuple):
    """A file that matches a query. `score` is its cosine similarity to the query; `z` is that score in standard
    deviations above the mean cosine over a sample of the index, None where the index holds fewer than ten items of its
    kind.

    `kind` is the file's: picture, video or text. `at_s` is the time of a video's best frame; `line` and `text` belong
    to a paragraph or caption. `copies` are the other files of the same shot. The other fields are the file's metadata,
    None where it records none.
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


class SearchResult(NamedTuple):
    """The `hits`, best first, and how many items were `searched`: those of the requested modality that passed the
    filters.

    Where relevance was requested and ten items or more were searched, `relevance_z` is how far the best hits score
    above what background queries reach on the same items, in standard deviations, and `threshold` is its least value
    that counts as relevant; below it there are no hits. With several modalities it is the highest one.

    `unseen` are the words of the query's texts that the model's training never saw; None where its files do not say, or
    without texts. Where these are all of its content words, nothing is relevant.

    `refused` names catalog entries that are not valid files of the folder; they are never hits.
    """

    hits: list[Hit]
    searched: int
    relevance_z: float | None = None
    threshold: float | None = None
    refused: tuple[str, ...] = ()
    unseen: UnseenWords | None = None

    standing = RenamedAttribute("standing", "relevance_z")
    cut = RenamedAttribute("cut", "threshold")

    def _repr_html_(self) -> str:
        """The hits with thumbnails, as a notebook displays them."""
        from diptych.index.search.notebook import Card, result_html

        cards = [Card(hit.path, hit.score, hit.z, hit.kind, hit.at_s, hit.text) for hit in self.hits]
        return result_html(cards, self.searched)
