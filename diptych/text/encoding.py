"""Decodes text files of any origin: UTF-8 and UTF-16, each with or without a byte order mark, Windows-1252, Latin-1."""

import codecs
import io
import os
import re
from collections.abc import Iterator
from typing import TextIO

from diptych.errors import FileError
from diptych.untrusted.regular_files import open_file

MAX_BYTES, MAX_LINE = 16 << 30, 16 << 20  # bytes of a file, characters of a line

_CHUNK = 1 << 20
# Decodes each byte that is not UTF-8 to a surrogate, which is then replaced by its Windows-1252 character. A custom
# error handler would take a microsecond or more for each.
_AS_SURROGATES = "surrogateescape"
_SURROGATE = re.compile("[\udc80-\udcff]")
_LETTERS = {0xDC00 + byte: bytes([byte]).decode("windows-1252", "replace") for byte in range(0x80, 0x100)}
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_NAMES = {"utf-8-sig": "UTF-8", "utf-8": "UTF-8", "utf-16": "UTF-16", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16"}


def decoded(data: bytes) -> str:
    """The text of a file's bytes, without its byte order mark. Bytes that are not UTF-8 are read as Windows-1252, which
    includes Latin-1's letters; no bytes are refused."""
    encoding = _marked(data) or "utf-8"
    return _whole(data.decode(encoding, _errors(encoding)))


class Lines:
    """The lines of a text with their ends unchanged. A line longer than MAX_LINE becomes blank, and its number, from 1,
    is added to `too_long`. Use as a context manager, or close it."""

    def __init__(self, file: TextIO):
        """`file` must be opened with the error handler of `_errors`."""
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
            return line if line.isascii() else _whole(line)
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

    def tell_of(self, bad: "BadLines") -> None:
        """Note the lines that were too long."""
        for number in self.too_long:
            bad.note(f"a line of over {MAX_LINE:,} characters", number)


class BadLines:
    """Lines without a valid row, by reason: their count and the number of the first. Memory does not grow with them."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, int]] = {}

    def note(self, reason: str, number: int) -> None:
        """Count one more line for a reason."""
        first, many = self._found.get(reason, (number, 0))
        self._found[reason] = first, many + 1

    def counts(self, unit: str = "line") -> Iterator[tuple[str, int]]:
        """Each reason with the number of its first line, and its count."""
        for reason, (first, many) in self._found.items():
            yield f"{reason} ({'first in ' if many > 1 else ''}{unit} {first})", many


def open_text(path: str | os.PathLike[str]) -> tuple[Lines, str]:
    """A file's lines, decoded as by `decoded`, and the name of its encoding. Raises FileError if it is not a regular
    file or has more than MAX_BYTES."""
    with open_file(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > MAX_BYTES:
            raise FileError(f"{os.fspath(path)} has {size:,} bytes; at most {MAX_BYTES:,} are read.", "too large")
        encoding = _marked(file.read(4096))
        file.seek(0)
        plain = encoding is not None or _is_utf8(iter(lambda: file.read(_CHUNK), b""))
    name = _NAMES[encoding or "utf-8"] if plain else "Windows-1252"
    encoding = encoding or "utf-8"
    text = io.TextIOWrapper(open_file(path), encoding=encoding, errors=_errors(encoding), newline="")
    return Lines(text), name


def _errors(encoding: str) -> str:
    return "replace" if encoding.startswith("utf-16") else _AS_SURROGATES


def _whole(text: str) -> str:
    """Replaces surrogates by characters. Valid UTF-8 contains no surrogates, so each stands for an undecoded byte."""
    return text.translate(_LETTERS) if _SURROGATE.search(text) else text


def _marked(head: bytes) -> str | None:
    """The encoding of a byte order mark, or UTF-16 if every other byte is mostly zero; None if neither applies."""
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
