"""The bodies of answers, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    message: str
    problem: str
    remedy: str
    argument: str | None
    reason: str | None


class ItemAnswer(BaseModel):
    """A picture, a frame of a film, or a text."""

    id: int
    kind: Literal["picture", "video", "text"]
    modality: Literal["picture", "text"]
    version: str
    path: str
    name: str
    folder: str
    width: int | None
    height: int | None
    size: int
    duration_s: float | None
    at_s: float | None
    line: int | None
    text: str | None
    taken_at: str | None
    latitude: float | None
    longitude: float | None
    camera: str | None
    caption: str | None
    thumbnail: str | None
    original: str | None


class HitAnswer(ItemAnswer):
    """An item that was found: its cosine to the query, and that in standard deviations above the index's mean."""

    score: float
    z: float | None
    copies: list[str]


class Found(BaseModel):
    """A page of hits, the best first."""

    hits: list[HitAnswer]
    total: int
    next_offset: int | None
    cursor: str
    searched: int
    relevance_z: float | None
    threshold: float | None
    truncated: int
    unseen_words: list[str]
    all_unseen: bool
    version: str
    took_ms: float


class UploadAnswer(BaseModel):
    """A picture that is kept."""

    id: str
    width: int
    height: int
    thumbnail: str


class ItemsAnswer(BaseModel):
    """A page of a list."""

    items: list[ItemAnswer]
    total: int
    next_offset: int | None
    cursor: str


class LookupAnswer(BaseModel):
    """Items."""

    items: list[ItemAnswer]


class FrameAnswer(BaseModel):
    """A frame of a film."""

    id: int
    at_s: float
    thumbnail: str | None


class TextAnswer(BaseModel):
    """A text of a file."""

    id: int
    text: str | None
    line: int | None


class ItemDetails(ItemAnswer):
    """An item with what belongs to its file."""

    picture: int | None
    frames: list[FrameAnswer]
    copies: list[str]
    texts: list[TextAnswer]


class FailureAnswer(BaseModel):
    """An input that was left out."""

    index: int
    item: int | None = None
    reason: str
    detail: str


class Vectors(BaseModel):
    """Unit vectors; null for an input that was left out."""

    model: str
    dim: int
    vectors: list[list[float] | None]
    truncated: int
    failures: list[FailureAnswer]


class Classified(BaseModel):
    """The label of a picture, with the probability and cosine of each."""

    index: int
    item: int | None
    label: str | None
    probability: float
    probabilities: list[float]
    scores: list[float]


class ClassifyAnswer(BaseModel):
    """The labels of pictures."""

    labels: list[str]
    multi_label: bool
    results: list[Classified]
    failures: list[FailureAnswer]


class BoxAnswer(BaseModel):
    """A box in pixels of the picture."""

    x: int
    y: int
    width: int
    height: int
    score: float


class LocateAnswer(BaseModel):
    """Where a phrase fits in a picture."""

    phrase: str
    method: str
    width: int
    height: int
    rows: int
    columns: int
    likelihood: str
    best_score: float
    boxes: list[BoxAnswer]


class IndexAnswer(BaseModel):
    """The state of the index."""

    name: str
    version: str
    files: int
    pictures: int
    texts: int
    failed: int
    model: str
    dim: int
    state: Literal["absent", "idle", "warming", "scanning", "indexing", "building", "waiting", "failed"]
    done: int
    total: int
    error: str | None
    updated_at: str | None


class AlbumAnswer(BaseModel):
    """An album, without its items."""

    id: str
    name: str
    kind: Literal["search", "selection"]
    search: dict[str, Any] | None
    count: int | None
    created_at: str | None
    cover: str | None


class AlbumDetails(AlbumAnswer):
    """An album; a selection has its items, and the number of those that are gone."""

    items: list[ItemAnswer] | None
    missing: int


class AlbumsAnswer(BaseModel):
    """All albums."""

    albums: list[AlbumAnswer]


class JobAnswer(BaseModel):
    """How far a job is."""

    state: Literal["running"]
    done: int
    total: int


class MapAnswer(BaseModel):
    """Every picture as a point."""

    state: Literal["done"]
    method: str
    version: str
    total: int
    ids: list[int]
    x: list[float]
    y: list[float]
    versions: list[str]
    aspects: list[float]


class RegionAnswer(BaseModel):
    """A part of the map: the word for it, its middle, its number of pictures, and whether it is seen from afar."""

    name: str
    x: float
    y: float
    count: int
    is_coarse: bool


class RegionsAnswer(BaseModel):
    """The parts of the map that have a name."""

    state: Literal["done"]
    method: str
    version: str
    regions: list[RegionAnswer]


class DuplicateFile(ItemAnswer):
    """A file of a group, with its cosine to the first."""

    cosine: float


class DuplicateGroup(BaseModel):
    """Files that show the same picture, the one to keep first."""

    keep: int
    files: list[DuplicateFile]


class DuplicatesAnswer(BaseModel):
    """A page of groups."""

    state: Literal["done"]
    threshold: float
    searched: int
    unread: int
    total: int
    next_offset: int | None
    version: str
    groups: list[DuplicateGroup]
