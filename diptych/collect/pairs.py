"""What is found on a page or in a list, and the pair that becomes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from diptych.text.cleaning import cleaned

Origin = Literal[
    "alt", "figcaption", "title", "schema.org", "opengraph", "heading", "paragraph", "link", "list"
]  # where words stood: an attribute or element of the page, its metadata, or the column of a list


class Words(NamedTuple):
    """A text that may describe a picture, and where it stood."""

    text: str
    origin: Origin

    @classmethod
    def of(cls, text: str, origin: Origin) -> Words:
        """Of a raw text: broken encodings and HTML entities are repaired, white space becomes single spaces."""
        return cls(cleaned(text, ("whitespace",)), origin)


@dataclass(frozen=True)
class Found:
    """A picture's address with the texts that stood near it, the best first. `language` is what the page itself names
    (`lang`, BCP 47), `licence` what the page or list states, `time_s` when it was found (seconds since 1970), `columns`
    what else a list says of it. Unknown texts are empty."""

    picture_url: str
    words: tuple[Words, ...]
    page_url: str = ""
    language: str = ""
    licence: str = ""
    time_s: float = 0.0
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """A picture as it is written into a shard: upright, 8 bits a channel, without transparency. `suffix` is `.jpg`,
    `.png` or `.webp`. The digest is of the bytes that came (SHA-256, hexadecimal), so that a request to remove them can
    name them; `perceptual_hash` is of the pixels (64 bits); `original_*` are the sizes that came, in px and upright."""

    content: bytes
    suffix: str
    width: int
    height: int
    original_width: int
    original_height: int
    sha256: str
    perceptual_hash: int


@dataclass(frozen=True)
class Pair:
    """A picture with its captions, the best first, as it goes into a shard. `scores` are what models said of it by
    name, such as `agreement` (a cosine) or `opennsfw` (0 to 1); `flags` name the rules that flag it without dropping
    it."""

    picture: Picture
    captions: tuple[Words, ...]
    found: Found
    scores: Mapping[str, float] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
