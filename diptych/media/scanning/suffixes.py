"""File name suffixes, in lower case with the dot, and the kind of file of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diptych.media.formats.table import PICTURE_SUFFIXES

if TYPE_CHECKING:
    from diptych.media.items import FileKind

# LibRaw's
RAW_SUFFIXES = (
    ".3fr", ".arw", ".bay", ".cr2", ".cr3", ".crw", ".dcr", ".dcs", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".k25",
    ".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".ptx", ".raf", ".raw", ".rw2", ".rwl", ".sr2",
    ".srf", ".srw", ".x3f",
)  # fmt: skip
VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".mts", ".m2ts", ".3gp", ".3g2", ".wmv", ".flv",
    ".ogv",
)  # fmt: skip
TEXT_SUFFIXES = (".txt", ".md", ".markdown")

KIND_OF_SUFFIX: dict[str, FileKind] = {
    **dict.fromkeys((*PICTURE_SUFFIXES, *RAW_SUFFIXES), "picture"),
    **dict.fromkeys(VIDEO_SUFFIXES, "video"),
    **dict.fromkeys(TEXT_SUFFIXES, "text"),
}
