"""The bodies of requests. Unknown fields are errors, and so are numbers that are not finite."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def _whole(value: object) -> object:
    """In JSON 17.0 is the integer 17."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)  # after what OpenAPI should say of the number
Id = Annotated[int, Field(ge=1, le=2**53), WHOLE]
MOST_CHARACTERS = 100_000  # of a text
Text = Annotated[str, Field(max_length=MOST_CHARACTERS)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
_NUMBER = r"-?\d{1,5}(\.\d{1,12})?"
TEMPLATE, UPLOAD_ID, ALBUM_ID = r"\{\}", r"^u_[0-9a-f]{24}$", r"^a_[0-9a-f]{16}$"
BOX, NEAR = (rf"^{_NUMBER}(,{_NUMBER}){{{more}}}$" for more in (3, 2))  # as they stand in a URL
PATTERNS = {  # in words
    TEMPLATE: "a text with {} in it", UPLOAD_ID: "an id that POST /v1/uploads gave",
    ALBUM_ID: "an id that POST /v1/albums gave", BOX: "south,west,north,east in degrees",
    NEAR: "latitude,longitude,km",
}  # fmt: skip
Template = Annotated[str, Field(pattern=TEMPLATE, max_length=500)]
Labels = Annotated[list[Name], Field(min_length=1, max_length=2000, json_schema_extra={"uniqueItems": True})]
Data = Annotated[str, Field(min_length=1)]
Upload = Annotated[str, Field(pattern=UPLOAD_ID)]
Cursor = Annotated[str, Field(max_length=80)]
LIMIT, MOST = 60, 500
Offset = Annotated[int, Field(ge=0, le=2**31), WHOLE]
Limit = Annotated[int, Field(ge=1, le=MOST), WHOLE]
_Degrees = Annotated[float, Field(ge=-360, le=360)]


class Body(BaseModel):
    """A JSON object of a request."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)


def _one_of(*names: str) -> ConfigDict:
    """The configuration of a body that has exactly one of these fields, which OpenAPI says as well. The others may be
    null."""

    def describe(schema: dict[str, Any]) -> None:
        given = {"not": {"type": "null"}}
        schema["oneOf"] = [{"required": [name], "properties": {name: given}} for name in names]

    return ConfigDict(json_schema_extra=describe)


class Picture(Body):
    """A picture, in one of four forms."""

    model_config = _one_of("data", "upload", "item", "url")

    data: Data | None = Field(None, description="A data URI, or the base64 of a picture file.")
    upload: Upload | None = Field(None, description="The id that POST /v1/uploads gave.")
    item: Id | None = Field(None, description="A picture of the index.")
    url: Annotated[str, Field(max_length=4000)] | None = Field(None, description="Fetched only with --allow-urls.")

    @model_validator(mode="after")
    def _one(self) -> Picture:
        if sum(value is not None for value in (self.data, self.upload, self.item, self.url)) != 1:
            raise ValueError("a picture is exactly one of data, upload, item and url")
        return self


class SearchTerm(Body):
    """A part of a query: a text, a picture or a vector, with its weight."""

    model_config = _one_of("text", "vector", "data", "upload", "item", "url")

    text: Text | None = None
    vector: Annotated[list[float], Field(max_length=65_536)] | None = None
    data: Data | None = None
    upload: Upload | None = None
    item: Id | None = None
    url: Annotated[str, Field(max_length=4000)] | None = None
    weight: Annotated[float, Field(ge=-1e6, le=1e6)] = 1.0

    @model_validator(mode="after")
    def _one(self) -> SearchTerm:
        given = (self.text, self.vector, self.data, self.upload, self.item, self.url)
        if sum(value is not None for value in given) != 1:
            raise ValueError("a term is exactly one of text, vector, data, upload, item and url")
        return self


class FilterBody(Body):
    """Conditions on the files, as of `diptych search`."""

    since: Annotated[str, Field(max_length=40)] | None = None
    until: Annotated[str, Field(max_length=40)] | None = None
    file_dates: bool = False
    box: Annotated[list[_Degrees], Field(min_length=4, max_length=4)] | None = None
    near: Annotated[list[float], Field(min_length=3, max_length=3)] | None = None
    camera: Annotated[str, Field(max_length=200)] | None = None
    path: Annotated[str, Field(max_length=1000)] | None = None
    min_width: Annotated[int, Field(ge=0, le=2**31), WHOLE] | None = None
    min_height: Annotated[int, Field(ge=0, le=2**31), WHOLE] | None = None
    min_megapixels: Annotated[float, Field(ge=0, le=1e6)] | None = None
    orientation: Literal["landscape", "portrait", "square"] | None = None
    kind: Literal["picture", "video", "text"] | None = None


class SearchOptions(Body):
    """A search, without the page of it that is wanted."""

    terms: Annotated[list[SearchTerm], Field(min_length=1, max_length=32)]
    filters: FilterBody = FilterBody()
    modality: Literal["picture", "text", "both"] = "picture"
    relevant: bool = False
    threshold: Annotated[float, Field(ge=-1000, le=1000)] | None = None
    diverse: Annotated[float, Field(ge=0, le=1)] = 0.0
    copies: bool = False
    truncate: bool = True


class SearchBody(SearchOptions):
    """A search, and the page of its hits."""

    offset: Offset = 0
    limit: Limit = LIMIT
    cursor: Cursor | None = None


class LookupBody(Body):
    """Items by their ids."""

    ids: Annotated[list[Id], Field(min_length=1, max_length=MOST)]


class EmbedBody(Body):
    """Texts or pictures."""

    model_config = _one_of("texts", "pictures")

    texts: Annotated[list[Text], Field(min_length=1)] | None = None
    pictures: Annotated[list[Picture], Field(min_length=1)] | None = None
    truncate: bool = False

    @model_validator(mode="after")
    def _one(self) -> EmbedBody:
        if (self.texts is None) == (self.pictures is None):
            raise ValueError("give either texts or pictures")
        return self


class ClassifyBody(Body):
    """Pictures, and the labels to choose from."""

    pictures: Annotated[list[Picture], Field(min_length=1, max_length=5000)]
    labels: Labels | Annotated[dict[Name, Name | Labels], Field(min_length=1, max_length=2000)]
    templates: Annotated[list[Template], Field(min_length=1, max_length=100)] = ["a photo of a {}"]
    multi_label: bool = False
    truncate: bool = False


class LocateBody(Body):
    """A picture, and the phrase to look for in it."""

    picture: Picture
    phrase: Annotated[str, Field(min_length=1, max_length=2000)]
    method: Literal["auto", "patches", "windows"] = "auto"
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None


class SessionBody(Body):
    """The token."""

    token: Annotated[str, Field(max_length=1000)]


class AlbumBody(Body):
    """A new album: a search, or a selection."""

    model_config = _one_of("search", "items")

    name: Name
    search: SearchOptions | None = None
    items: Annotated[list[Id], Field(max_length=20_000)] | None = None

    @model_validator(mode="after")
    def _one(self) -> AlbumBody:
        if (self.search is None) == (self.items is None):
            raise ValueError("an album is either a search or items")
        return self


class AlbumChange(Body):
    """What changes in an album."""

    name: Name | None = None
    search: SearchOptions | None = None
    add: Annotated[list[Id], Field(max_length=20_000)] = []
    remove: Annotated[list[Id], Field(max_length=20_000)] = []
    remove_missing: bool = False


class ExportBody(Body):
    """What is exported, and how."""

    model_config = _one_of("items", "album", "search")

    items: Annotated[list[Id], Field(min_length=1, max_length=20_000)] | None = None
    album: Annotated[str, Field(pattern=ALBUM_ID)] | None = None
    search: SearchOptions | None = None
    limit: Annotated[int, Field(ge=1, le=20_000), WHOLE] = MOST
    format: Literal["paths", "csv", "json", "sheet", "links"]
    absolute: bool = False
    columns: Annotated[int, Field(ge=1, le=20), WHOLE] = 5
    size_px: Annotated[int, Field(ge=32, le=640), WHOLE] = 160
    title: Annotated[str, Field(max_length=200)] = ""

    @model_validator(mode="after")
    def _one(self) -> ExportBody:
        if sum(value is not None for value in (self.items, self.album, self.search)) != 1:
            raise ValueError("give one of items, album and search")
        return self


class DrawingBody(Body):
    """What to draw."""

    prompt: Annotated[str, Field(min_length=1, max_length=500)]
    negative: Annotated[str, Field(max_length=500)] = ""
    guidance: Annotated[float, Field(ge=0, le=30)] = 4.0
    steps: Annotated[int, Field(ge=1, le=100), WHOLE] = 30
    seed: Annotated[int, Field(ge=0, le=2**32), WHOLE] = 0
    count: Annotated[int, Field(ge=1, le=4), WHOLE] = 1


class ContentPart(BaseModel):
    """A part of a chat message: text, or a picture by its address."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["text", "image_url"]
    text: Text | None = None
    image_url: dict[str, Any] | None = None


class Message(BaseModel):
    """A chat message, as vLLM takes pictures."""

    model_config = ConfigDict(extra="ignore")

    role: str
    content: Text | Annotated[list[ContentPart], Field(min_length=1, max_length=64)]


class EmbeddingsBody(BaseModel):
    """What OpenAI's clients send; further fields of theirs are ignored."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False) | _one_of("input", "messages")

    model: Annotated[str, Field(max_length=500)] = ""
    input: str | Annotated[list[str], Field(min_length=1)] | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=64)] | None = None
    modality: Literal["text", "image"] = "text"
    encoding_format: Literal["float", "base64"] | None = "float"
    dimensions: Annotated[int, Field(ge=1), WHOLE] | None = None
    user: str | None = None

    @model_validator(mode="after")
    def _one(self) -> EmbeddingsBody:
        if (self.input is None) == (self.messages is None):
            raise ValueError("give either input or messages")
        texts = [self.input] if isinstance(self.input, str) else self.input or ()
        if self.modality == "text" and max(map(len, texts), default=0) > MOST_CHARACTERS:
            raise ValueError(f"a text of the input has more than {MOST_CHARACTERS:,} characters")
        return self
