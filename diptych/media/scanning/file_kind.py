"""What kind of file it is by its first bytes, where these say so: names are often wrong."""

from __future__ import annotations

import os
import re

from diptych.media.formats.signatures import FILM_HEAD_LENGTH, is_film
from diptych.media.items import Kind
from diptych.media.scan import TEXT_ENDINGS
from diptych.untrusted.regular_files import open_file

HEAD_LENGTH = FILM_HEAD_LENGTH
# What is not here is told by its name; pictures in ISO's container are all that is there but films.
_PICTURES = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|II[*+]\0|MM\0[*+]|BM....\0\0\0\0|qoif|....ftyp|"
    rb"\0\0\0\x0cjP  \r\n|\xff\x4f\xff\x51|\xff\x0a|\0\0\0\x0cJXL ",
    re.S,
)


# Those that are told by name alone where they are read: netpbm's, icons, and RAW files that are no TIFF
_NAMED_PICTURES = re.compile(
    rb"P[1-7]\s|\0\0\x01\0|FUJIFILMCCD-RAW|FOVb|\0MRM|II(R[OS]\x08|U\0|\x1a\0\0\0HEAPCCDR)|MMOR|IIII|MMMM", re.S
)
# Texts that do something where they are opened: scripts, starters of programs, pages
_PROGRAMS = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:#!|\[Desktop |\[InternetShortcut|<!doctype|<html|<script|<svg|<\?)", re.I
)


def opened_as(path: str | os.PathLike[str]) -> Kind | None:
    """What kind of file that an index takes in this is, by its own bytes; None where it is none. A picture or a film is
    one under the name of either, a text under that of a text. Raises OSError, also for what is no regular file."""
    with open_file(path) as file:
        head = file.read(HEAD_LENGTH)
    if is_film(head):
        return "video"
    if _PICTURES.match(head) or _NAMED_PICTURES.match(head):
        return "picture"
    name = os.path.basename(os.fsdecode(path)).lower()
    is_text = "." in name and name.rpartition(".")[2] in TEXT_ENDINGS.split("|")
    return "text" if is_text and b"\0" not in head and not _PROGRAMS.match(head) else None


def kind_of(head: bytes, named: Kind) -> Kind:
    """The kind of a file whose bytes begin so, up to HEAD_LENGTH of them; `named`, the one of its name, where they do
    not tell. No text becomes anything else: it holds no zeros."""
    if named == "text" and b"\0" not in head:
        return named
    if is_film(head):
        return "video"
    return "picture" if _PICTURES.match(head) else named
