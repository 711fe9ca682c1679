"""Numbers with the noun that they count."""

from __future__ import annotations


def counted(number: int, one: str, several: str = "") -> str:
    """ "1 file", "2,000 files". `several` are the words after any number but 1, by default those of `one` with an s:
    "1 file has", "2,000 files have"."""
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"
