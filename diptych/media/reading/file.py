"""Reads one file: its digest, its metadata, and the parts to embed."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import replace
from typing import IO, NamedTuple

from diptych.errors import ImageError
from diptych.media.content import xmp
from diptych.media.content.metadata import CAPTION_LENGTH, tidy_caption, with_sidecar
from diptych.media.content.photographs import LARGEST_PICTURE, read_photograph
from diptych.media.content.videos import read_video
from diptych.media.items import Details, FileKind, Part
from diptych.media.preprocessing import Preprocess
from diptych.media.scanning.file_kind import HEAD_LENGTH, kind_of
from diptych.media.scanning.scan import sidecars
from diptych.text.paragraphs import NotText, decode_text, paragraphs
from diptych.untrusted.links import LEADS_OUT, RootBoundary

DIGEST_SIZE = 16  # bytes
TEXT_LENGTH = 2**22  # bytes read of a text file, more than the allowed paragraphs fill
_CHUNK = 2**20


class ReadFile(NamedTuple):
    """The content of a file. `digest` is the BLAKE2b digest of all of its bytes. A picture is one part, a video one
    part per frame, and either has a further part for its caption, if any; a text has one part per paragraph. `partial`
    describes the missing part of a picture read in part; `kind` is the file's kind by its bytes."""

    digest: bytes
    details: Details
    parts: tuple[Part, ...]
    partial: str
    kind: FileKind


class UnreadableFileError(Exception):
    """A file that cannot be used. `reason` is one of a fixed set, `detail` explains it; `digest` is empty if not all
    bytes were read.

    Reasons besides those of ImageError: "not a regular file", "not a video", "no pictures", "not a text", "no text",
    "unreadable", "leads out of the folder".
    """

    def __init__(self, reason: str, detail: str, digest: bytes = b""):
        super().__init__(reason, detail, digest)
        self.reason, self.detail, self.digest = reason, detail, digest


def read_file(root: str, path: str, kind: FileKind, spec: Preprocess, *, follow_links: bool = False) -> ReadFile:
    """Read the file at `path` under `root`. `kind` is its kind by its name; its bytes take precedence. A picture's
    caption is read from a sidecar (`scan.sidecars`) or the picture's metadata. Links out of `root`, a sidecar's too,
    are read only with `follow_links`. Raises UnreadableFileError. A decoder may also crash or hang the process; see
    `readers`."""
    digest = hashlib.blake2b(digest_size=DIGEST_SIZE)
    try:
        where, inside = os.path.join(root, path), None if follow_links else RootBoundary(root)
        if inside and inside.is_outside(path):
            raise OutsideRootError
        with open_regular(where) as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise ImageError("empty file", path, "It has no bytes; copy or download it again.")
            kind = kind_of(file.read(HEAD_LENGTH), kind)
            file.seek(0)
            read = {"picture": _read_picture, "video": _read_video, "text": _read_text}[kind]
            near = [name for name in sidecars(path, kind) if not (inside and inside.is_outside(name))]
            beside = [os.path.join(root, name) for name in near]
            found = read(file, where, spec, digest, beside)
    except (ImageError, OSError, MemoryError, RecursionError) as error:
        reason, detail = reason_of(error)
        whole = digest.digest() if isinstance(error, ImageError) else b""
        raise UnreadableFileError(reason, detail, whole) from error
    return ReadFile(digest.digest(), *found, kind)


class NotRegularFileError(OSError):
    """The path is a folder, a pipe, a socket or a device."""


def open_regular(path: str) -> IO[bytes]:
    """Open a regular file for reading, unbuffered, without blocking on a pipe. Raises OSError; NotRegularFileError if
    the file is not regular."""
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if stat.S_ISREG(os.fstat(number).st_mode):
        return os.fdopen(number, "rb", 0)
    os.close(number)
    raise NotRegularFileError(f"{path} is no regular file")


class OutsideRootError(OSError):
    """Since the file was found, a link in its path has changed and now leads out of the folder."""


_REASONS = (  # the first match applies
    (OutsideRootError, LEADS_OUT, "A link in its path now leads out of the folder and is not followed."),
    (NotRegularFileError, "not a regular file", "It is a folder, a pipe, a socket or a device now, and is not read."),
    ((FileNotFoundError, NotADirectoryError), "missing", "It was removed after it was found."),
    (PermissionError, "no permission", "This user may not read it; change its permissions."),
    (MemoryError, "too large", "It needs more memory than a reading process may use."),
    (Exception, "unreadable", "{message}."),
)


def reason_of(error: BaseException) -> tuple[str, str]:
    """The reason and detail of an UnreadableFileError with this cause."""
    if isinstance(error, ImageError):
        return error.reason, error.detail
    _, reason, detail = next(known for known in _REASONS if isinstance(error, known[0]))
    return reason, detail.format(message=str(error) or type(error).__name__)


_Read = tuple[Details, tuple[Part, ...], str]


def _read_picture(
    file: IO[bytes], path: str, spec: Preprocess, digest: hashlib.blake2b, beside: Sequence[str]
) -> _Read:
    """The digest, metadata and pixels, with the bytes read once."""
    size = os.fstat(file.fileno()).st_size
    if size > LARGEST_PICTURE:
        raise MemoryError
    content = file.read()
    digest.update(content)
    pixels, details, partial = read_photograph(content, path, spec)
    details = _with_sidecars(beside, details)
    return details, (Part(pixels), *_caption_part(details)), partial


def _read_video(file: IO[bytes], path: str, spec: Preprocess, digest: hashlib.blake2b, beside: Sequence[str]) -> _Read:
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    file.seek(0)
    frames, details = read_video(file, path, spec)
    details = _with_sidecars(beside, details)
    return details, (*(Part(frame.pixels, at_s=frame.at_s) for frame in frames), *_caption_part(details)), ""


def _read_text(file: IO[bytes], path: str, spec: Preprocess, digest: hashlib.blake2b, beside: Sequence[str]) -> _Read:
    content = b""
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
        content += chunk[: TEXT_LENGTH - len(content)]
    try:
        text = decode_text(content)
    except NotText as error:
        raise ImageError("not a text", path, f"Its suffix is a text's, but {error}.") from error
    found = paragraphs(text, markdown=not path.lower().endswith(".txt"))
    if not found:
        raise ImageError("no text", path, "It contains no words.")
    return Details(), tuple(Part(text=paragraph.text, line=paragraph.line) for paragraph in found), ""


def _caption_part(details: Details) -> tuple[Part, ...]:
    return (Part(text=details.caption),) if details.caption else ()


def _with_sidecars(names: Sequence[str], details: Details) -> Details:
    """The details with the caption of the first text sidecar that has one, and the metadata of XMP sidecars."""
    caption = None
    for name in reversed(names):  # higher precedence last
        is_text = name[-3:].lower() == "txt"
        try:
            with open_regular(name) as file:
                content = file.read(4 * CAPTION_LENGTH if is_text else xmp.LENGTH)
            if not is_text:
                details = with_sidecar(details, xmp.read_xmp(content))
            else:
                caption = tidy_caption(decode_text(content)) or caption
        except (OSError, NotText):  # most files have no sidecar
            continue
    return replace(details, caption=caption or details.caption)
