"""Texts of any origin: in UTF-8, with a mark of its own or without, in UTF-16, or in Windows-1252 and Latin-1."""

import codecs
import io
import os
from collections.abc import Iterator
from typing import TextIO

from diptych.regular_files import FileError, open_file

MAX_BYTES, MAX_LINE = 16 << 30, 16 << 20  # of a file; characters

_FALLBACK = "diptych-windows-1252"
_CHUNK = 1 << 20
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_WORDS = {"utf-8-sig": "UTF-8", "utf-8": "UTF-8", "utf-16": "UTF-16", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16"}


def decoded(data: bytes) -> str:
    """The text of a file's bytes, without its byte order mark. Bytes that are no UTF-8 are taken for Windows-1252, of
    which Latin-1's letters are a part; no bytes are refused."""
    _register()
    return data.decode(_marked(data) or "utf-8", errors=_FALLBACK)


class Lines:
    """The lines of a text, their ends as they are. Of one that is longer than MAX_LINE a blank one is left; `too_long`
    are the numbers of such, from 1. Use as a context, or close it."""

    def __init__(self, file: TextIO):
        self._file, self._number = file, 0
        self.too_long: list[int] = []

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        line = self._file.readline(MAX_LINE)
        self._number += 1
        if not line:
            raise StopIteration
        if len(line) < MAX_LINE or line[-1] in "\r\n":
            return line
        while (line := self._file.readline(MAX_LINE)) and line[-1] not in "\r\n":
            pass
        self.too_long.append(self._number)
        return "\n"

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def tell_of(self, bad: dict[str, list[int]]) -> None:
        """Add those that were too long to what is bad, by reason."""
        if self.too_long:
            bad.setdefault(f"a line of over {MAX_LINE:,} characters", []).extend(self.too_long)


def open_text(path: str | os.PathLike[str]) -> tuple[Lines, str]:
    """A file as text, and its encoding in words; the encoding as in `decoded`. FileError where it is no plain file, or
    has more than MAX_BYTES."""
    _register()
    with open_file(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > MAX_BYTES:
            raise FileError(f"{os.fspath(path)} has {size:,} bytes; at most {MAX_BYTES:,} are read.", "too large")
        encoding = _marked(file.read(4096))
        file.seek(0)
        plain = encoding is not None or _is_utf8(iter(lambda: file.read(_CHUNK), b""))
    said = _WORDS[encoding or "utf-8"] if plain else "Windows-1252"
    text = io.TextIOWrapper(open_file(path), encoding=encoding or "utf-8", errors=_FALLBACK, newline="")
    return Lines(text), said


def _marked(head: bytes) -> str | None:
    """The encoding that a byte order mark names, or zeros in every other place betray; None where there is no sign."""
    if (found := next((name for mark, name in _MARKS if head.startswith(mark)), None)) is not None:
        return found
    even, odd = head[:4096:2], head[1:4096:2]
    zeros = even.count(0), odd.count(0)
    if len(even) < 2 or max(zeros) < 0.4 * len(even) or min(zeros) > 0.05 * len(even):
        return None
    return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"


def _is_utf8(chunks: Iterator[bytes]) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for chunk in chunks:
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _register() -> None:
    codecs.register_error(_FALLBACK, _windows_1252)


def _windows_1252(error: UnicodeError) -> tuple[str, int]:
    """What a decoder puts in the place of bytes that it cannot read."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    if error.encoding.startswith("utf-16"):
        return "�", error.end
    lost = error.object[error.start : error.end]
    return "".join(bytes([byte]).decode("windows-1252", errors="replace") for byte in lost), error.end
