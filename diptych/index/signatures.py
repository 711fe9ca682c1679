"""What kind of file it is by its first bytes, where these say so: names are often wrong."""

from __future__ import annotations

import re

from diptych.formats import FILM_HEAD_LENGTH, is_film
from diptych.index.items import Kind

HEAD_LENGTH = FILM_HEAD_LENGTH
# What is not here is told by its name; pictures in ISO's container are all that is there but films.
_PICTURES = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|II[*+]\0|MM\0[*+]|BM....\0\0\0\0|qoif|....ftyp|"
    rb"\0\0\0\x0cjP  \r\n|\xff\x4f\xff\x51|\xff\x0a|\0\0\0\x0cJXL ",
    re.S,
)


def kind_of(head: bytes, named: Kind) -> Kind:
    """The kind of a file whose bytes begin so, up to HEAD_LENGTH of them; `named`, the one of its name, where they do
    not tell. No text becomes anything else: it holds no zeros."""
    if named == "text" and b"\0" not in head:
        return named
    if is_film(head):
        return "video"
    return "picture" if _PICTURES.match(head) else named
