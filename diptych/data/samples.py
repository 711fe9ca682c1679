"""Samples, sources (indexed sequences of samples) and streams (which fetch one shard at a time)."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Protocol

from PIL import Image

from diptych.data.column_names import describe_columns
from diptych.errors import DataError, JSONError
from diptych.media.formats.table import PICTURE_SUFFIXES
from diptych.text.encoding import decoded
from diptych.untrusted.json import parse_json

IMAGE_SUFFIXES = frozenset(PICTURE_SUFFIXES)
# Bytes of a file, characters of a caption, captions of a picture
MAX_SIDECAR_BYTES, MAX_CAPTION, MAX_CAPTIONS = 16 << 20, 1 << 20, 10_000
_FIELDS = ("captions", "caption", "texts", "text", "txt")  # of a sample's JSON; the first existing one is used


class Region(NamedTuple):
    """A phrase that describes a region of a picture, and the region's left, top, right and bottom edges as shares of
    the picture's width and height; None if the region is unknown."""

    phrase: str
    box: tuple[float, float, float, float] | None


class Sample(NamedTuple):
    """One picture, as a file's bytes or already open, with all its captions and, if known, its regions."""

    image: bytes | Image.Image
    captions: tuple[str, ...]
    key: str
    regions: tuple[Region, ...] = ()


@dataclass(frozen=True)
class Layout:
    """The recognised layout of a source. `columns` are a table's picture column and caption columns. `separator` and
    `encoding` describe the table, and `unusual` lists facts that its name does not imply. `pictures` names the folders
    of the pictures if they are not the table's folder; `left_out` names files there that are not read."""

    kind: str
    columns: tuple[str, list[str]] | None = None
    separator: str = ""
    encoding: str = ""
    unusual: tuple[str, ...] = ()
    pictures: str = ""
    left_out: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"{self.kind} with columns {describe_columns(self.columns)}" if self.columns else self.kind]
        parts += [*self.unusual, *[f"pictures in {self.pictures}"] * bool(self.pictures)]
        parts += [f"without {', '.join(self.left_out[:3])}{', ...' * (len(self.left_out) > 3)}"] * bool(self.left_out)
        return ", ".join(parts)

    def with_pictures(self, folders: str) -> "Layout":
        """A copy that names the folders of the pictures."""
        return replace(self, pictures=folders)


class Source(Protocol):
    """A sequence of samples that can be read from several threads and, pickled, from other processes. `form` describes
    it; `skipped` counts contents that are not pairs, by reason. Reading an unusable sample raises DataError or OSError.
    """

    skipped: dict[str, int]

    @property
    def form(self) -> str: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def captions(self, index: int) -> tuple[str, ...]:
        """The captions of one sample, without reading its picture."""
        ...

    def key(self, index: int) -> str:
        """The sample's name for messages."""
        ...


@dataclass
class Stream:
    """A source that is too large or too far away to be indexed: named shards that are fetched one at a time.

    `fetch(shard, folder)` fetches a shard into an empty folder and returns it as a Source, or raises DataError or
    OSError. `samples` is the number of samples in all shards, if known.
    """

    shards: list[str]
    fetch: Callable[[str, Path], Source]
    form: str
    samples: int | None = None
    skipped: dict[str, int] = field(default_factory=dict)


def layout_of(source: Source | Stream) -> Layout:
    """The recognised layout of a source."""
    return getattr(source, "layout", None) or Layout(source.form)


def captions_of(sidecar: bytes, is_json: bool, key: str) -> tuple[str, ...]:
    """The captions in a sidecar file: JSON with `captions`, `caption`, `texts`, `text` or `txt`, or a plain text with
    one caption on each line. Raises DataError, which names the sample, for a file without captions."""
    if len(sidecar) > MAX_SIDECAR_BYTES:
        raise DataError(f"the captions of {key} have {len(sidecar):,} bytes; wanted fewer.", "too large")
    text = decoded(sidecar)
    if not is_json and text.count("\n") > 2 * MAX_CAPTIONS:  # before the lines are split
        raise _too_many(key, text.count("\n"))
    return caption_lines(_json_captions(text, key) if is_json else text.splitlines(), key)


def caption_lines(found: object, key: str) -> tuple[str, ...]:
    """One caption or a list of them, without empty ones. Raises DataError, which names the sample, if none is left."""
    lines = [found] if isinstance(found, str) else list(found) if isinstance(found, list | tuple) else []
    if len(lines) > 2 * MAX_CAPTIONS:  # blank lines do not count
        raise _too_many(key, len(lines))
    if not all(isinstance(line, str) for line in lines):
        odd = next(line for line in lines if not isinstance(line, str))
        raise DataError(f"{key} has a caption that is not text: a {type(odd).__name__}.", "damaged captions")
    if not (kept := tuple(_valid_unicode(line.strip()) for line in lines if line.strip())):
        raise DataError(f"{key} has no caption.", "no caption")
    if len(kept) > MAX_CAPTIONS:
        raise _too_many(key, len(kept))
    if (longest := max(map(len, kept))) > MAX_CAPTION:
        raise DataError(f"{key} has a caption of {longest:,} characters; wanted a sentence.", "damaged captions")
    return kept


def _too_many(key: str, number: int) -> DataError:
    return DataError(f"{key} has {number:,} captions; wanted at most {MAX_CAPTIONS:,}.", "damaged captions")


def _valid_unicode(text: str) -> str:
    """The text with unpaired surrogates replaced: JSON may contain them, and tokenizers refuse them."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _json_captions(text: str, key: str) -> list[str]:
    try:
        fields = parse_json(text, max_bytes=MAX_SIDECAR_BYTES)
        found = next((found for name in _FIELDS if (found := fields.get(name))), [])
        lines = [found] if isinstance(found, str) else list(found)
        if not all(isinstance(line, str) for line in lines):
            raise TypeError("a caption that is not text")
    except (JSONError, AttributeError, TypeError) as error:
        wanted = 'wanted {"captions": ["...", ...]} or {"caption": "..."}'
        raise DataError(f"the JSON beside {key} is {text[:40]!r} ({error}); {wanted}.", "damaged captions") from error
    return lines


def count(counts: dict[str, int], reason: str, number: int = 1) -> None:
    """Adds to the count of `reason`."""
    counts[reason] = counts.get(reason, 0) + number


def captions_in(source: Source) -> Iterator[str]:
    """Every caption of an indexed source. Unreadable samples are skipped here; the loader counts them."""
    for index in range(len(source)):
        try:
            yield from source.captions(index)
        except (DataError, OSError):
            continue


def spell_counts(counts: Mapping[str, int]) -> str:
    """{"no caption": 3} in words."""
    return ", ".join(f"{count:,} with {reason}" for reason, count in counts.items())
