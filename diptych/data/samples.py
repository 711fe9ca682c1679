"""What data is made of: samples, sources that hold them, streams that bring them a shard at a time."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Protocol

from PIL import Image

from diptych.errors import DataError, JSONError
from diptych.media.formats.table import PICTURE_SUFFIXES
from diptych.text.encoding import decoded
from diptych.untrusted.json import parse_json

IMAGE_SUFFIXES = frozenset(PICTURE_SUFFIXES)
MAX_SIDECAR_BYTES, MAX_CAPTION, MAX_CAPTIONS = 16 << 20, 1 << 20, 10_000  # of a file; characters; of a picture
_FIELDS = ("captions", "caption", "texts", "text", "txt")  # of a sample's JSON, by rank


class Region(NamedTuple):
    """What a part of a picture shows: a phrase, and the part's left, top, right and bottom edges as shares of the
    picture's width and height; None where it is not known which part that is."""

    phrase: str
    box: tuple[float, float, float, float] | None


class Sample(NamedTuple):
    """One picture, as a file's bytes or already open, with all of its captions, and what is where, as far as that is
    known."""

    image: bytes | Image.Image
    captions: tuple[str, ...]
    key: str
    regions: tuple[Region, ...] = ()


@dataclass(frozen=True)
class Layout:
    """What a source was recognised as. `columns` are a table's, of pictures and of captions, `separator` and `encoding`
    how it is written, in words, `unusual` which of both are not as its name promises; `pictures` is where these lie, if
    not beside the table; `left_out` names what lies there, too, and is not read."""

    kind: str
    columns: tuple[str, list[str]] | None = None
    separator: str = ""
    encoding: str = ""
    unusual: tuple[str, ...] = ()
    pictures: str = ""
    left_out: tuple[str, ...] = ()

    def __str__(self) -> str:
        from diptych.data.tables.columns import spell_columns

        said = [f"{self.kind} with columns {spell_columns(self.columns)}" if self.columns else self.kind]
        said += [*self.unusual, *[f"pictures in {self.pictures}"] * bool(self.pictures)]
        said += [f"without {', '.join(self.left_out[:3])}{', ...' * (len(self.left_out) > 3)}"] * bool(self.left_out)
        return ", ".join(said)

    def with_pictures(self, folders: str) -> "Layout":
        """The same, with the folders of its pictures named."""
        return replace(self, pictures=folders)


class Source(Protocol):
    """A sequence of samples, safe to read from several threads and, pickled, from other processes. `form` says what it
    is, in words; `skipped` counts, by reason, what is in the source and is no pair. Reading a sample raises DataError
    or OSError where that one cannot be used."""

    skipped: dict[str, int]

    @property
    def form(self) -> str: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def captions(self, index: int) -> tuple[str, ...]:
        """Those of one sample, without reading its picture."""
        ...

    def key(self, index: int) -> str:
        """What names the sample to a person."""
        ...


@dataclass
class Stream:
    """A source too large or too far away to be indexed: shards by name, each fetched when its turn comes.

    `fetch(shard, folder)` brings one shard into an empty folder and returns it as a Source; it raises DataError or
    OSError where that shard cannot be had. `samples` is the number of samples in all shards where it is known.
    """

    shards: list[str]
    fetch: Callable[[str, Path], Source]
    form: str
    samples: int | None = None
    skipped: dict[str, int] = field(default_factory=dict)


def layout_of(source: Source | Stream) -> Layout:
    """What a source was recognised as."""
    return getattr(source, "layout", None) or Layout(source.form)


def captions_of(sidecar: bytes, is_json: bool, key: str) -> tuple[str, ...]:
    """The captions in a sidecar: JSON with `captions`, `caption`, `texts`, `text` or `txt`, or plain text, one a line.

    Raises DataError, which names the sample, where there is none or the file holds something else.
    """
    if len(sidecar) > MAX_SIDECAR_BYTES:
        raise DataError(f"the captions of {key} take {len(sidecar):,} bytes; wanted fewer.", "too large")
    text = decoded(sidecar)
    if not is_json and text.count("\n") > 2 * MAX_CAPTIONS:  # before they are made
        raise _too_many(key, text.count("\n"))
    return caption_lines(_json_captions(text, key) if is_json else text.splitlines(), key)


def caption_lines(found: object, key: str) -> tuple[str, ...]:
    """A caption or a list of them, without the empty ones. DataError, which names the sample, where none is left."""
    lines = [found] if isinstance(found, str) else list(found) if isinstance(found, list | tuple) else []
    if len(lines) > 2 * MAX_CAPTIONS:  # with blank ones between
        raise _too_many(key, len(lines))
    if not all(isinstance(line, str) for line in lines):
        odd = next(line for line in lines if not isinstance(line, str))
        raise DataError(f"{key} has a caption that is no text: a {type(odd).__name__}.", "damaged captions")
    if not (kept := tuple(_whole(line.strip()) for line in lines if line.strip())):
        raise DataError(f"{key} has no caption.", "no caption")
    if len(kept) > MAX_CAPTIONS:
        raise _too_many(key, len(kept))
    if (longest := max(map(len, kept))) > MAX_CAPTION:
        raise DataError(f"{key} has a caption of {longest:,} characters; wanted a sentence.", "damaged captions")
    return kept


def _too_many(key: str, number: int) -> DataError:
    return DataError(f"{key} has {number:,} captions; wanted at most {MAX_CAPTIONS:,}.", "damaged captions")


def _whole(text: str) -> str:
    """The text, with a mark in the place of half a character: JSON can hold such halves, and no tokenizer takes one."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _json_captions(text: str, key: str) -> list[str]:
    try:
        fields = parse_json(text, max_bytes=MAX_SIDECAR_BYTES)
        found = next((found for name in _FIELDS if (found := fields.get(name))), [])
        lines = [found] if isinstance(found, str) else list(found)
        if not all(isinstance(line, str) for line in lines):
            raise TypeError("a caption that is no text")
    except (JSONError, AttributeError, TypeError) as error:
        wanted = 'wanted {"captions": ["...", ...]} or {"caption": "..."}'
        raise DataError(f"the JSON beside {key} is {text[:40]!r} ({error}); {wanted}.", "damaged captions") from error
    return lines


def count(counts: dict[str, int], reason: str, number: int = 1) -> None:
    """So many more of `reason`."""
    counts[reason] = counts.get(reason, 0) + number


def captions_in(source: Source) -> Iterator[str]:
    """Every caption of an indexed source. Samples that cannot be read are passed over: the loader counts them."""
    for index in range(len(source)):
        try:
            yield from source.captions(index)
        except (DataError, OSError):
            continue


def spell_counts(counts: Mapping[str, int]) -> str:
    """{"no caption": 3} in words."""
    return ", ".join(f"{count:,} with {reason}" for reason, count in counts.items())
