"""Words and letters of any script. Scripts without spaces (Chinese, Japanese, Thai) have a character a word."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Characters that are words by themselves: kana, ideographs, and the scripts of Thailand, Laos, Burma and Cambodia with
# their marks.
_ALONE = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    r"\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003ffff"
)
# Marks that `\w` leaves out although they stand inside words: accents, vowel signs of Hebrew, Arabic and Indic scripts,
# and the joiners between their letters.
_MARKS = (
    r"\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0903\u093a-\u094f\u0951-\u0957\u0962\u0963"
)
_MARKS += r"\u0980-\u0983\u09bc-\u09d7\u0a00-\u0a03\u0a3c-\u0a71\u0a80-\u0a83\u0abc-\u0acd\u0b01-\u0b03\u0b3c-\u0b57"
_MARKS += (
    r"\u0b82\u0bbe-\u0bd7\u0c00-\u0c04\u0c3e-\u0c56\u0c80-\u0c83\u0cbc-\u0cd6\u0d00-\u0d03\u0d3b-\u0d57\u0dca-\u0ddf"
)
_MARKS += r"\u200c\u200d"
_LETTER = rf"(?:[^\W_{_ALONE}]|[{_MARKS}])"
# A word keeps the apostrophes within it. The noncharacters stand for what a pattern took (patterns.py).
TOKEN = re.compile(rf"[\ufdd0-\ufdef]|[{_ALONE}]|\d+(?![^\W_{_ALONE}]|[{_MARKS}])|{_LETTER}+(?:['’]{_LETTER}+)*")
_ASCII_TOKEN = re.compile(r"[0-9]+(?![0-9a-z])|[0-9a-z]+(?:'[0-9a-z]+)*")  # the same, in a third of the time
_STANDS_ALONE = re.compile(f"[{_ALONE}]")

# Letters by script; a character of several lists counts for the first.
_SCRIPTS = {
    "Latin": r"A-Za-z\u00aa\u00ba\u00c0-\u024f\u1e00-\u1eff\uff21-\uff5a",
    "Cyrillic": r"\u0400-\u052f",
    "Greek": r"\u0370-\u03ff\u1f00-\u1fff",
    "Arabic": r"\u0620-\u064a\u066e-\u06d3\u06d5\u0750-\u077f\ufb50-\ufdcf\ufe70-\ufefc",
    "Hebrew": r"\u05d0-\u05ea",
    "Devanagari": r"\u0904-\u0939\u0958-\u0961\u0971-\u097f",
    "kana": r"\u3041-\u30fa\u30fc-\u30ff\uff66-\uff9d",
    "Han": r"\u3005\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
    "Hangul": r"\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3",
    "Thai": r"\u0e01-\u0e4e",
    "Bengali": r"\u0985-\u09b9",
    "Tamil": r"\u0b83-\u0bb9",
    "Telugu": r"\u0c05-\u0c39",
    "Georgian": r"\u10a0-\u10ff",
    "Armenian": r"\u0531-\u0587",
}
_LETTERS = {name: re.compile(f"[{ranges}]") for name, ranges in _SCRIPTS.items()}


def tokens_of(text: str) -> list[str]:
    """The words of a text in lower case, with numbers; ideographs and kana one by one."""
    return (_ASCII_TOKEN if text.isascii() else TOKEN).findall(text.casefold())


def is_alone(token: str) -> bool:
    """Whether the token is a character of a script without spaces."""
    return len(token) == 1 and _STANDS_ALONE.match(token) is not None


def is_word(token: str) -> bool:
    """Whether a token reads as a word: two letters, or a character of a script without spaces."""
    return (token.isalpha() and len(token) > 1) or is_alone(token) or sum(map(str.isalpha, token)) > 1


def joined(tokens: Sequence[str]) -> str:
    """The key of a run of words: " " between words, nothing beside a character of a script without spaces."""
    if len(tokens) == 1:
        return tokens[0]
    text = " ".join(tokens)
    return text if text.isascii() else _WITHIN.sub("", text)


_WITHIN = re.compile(f"(?<=[{_ALONE}]) (?=[{_ALONE}])")


def letter_share(text: str) -> float:
    """Letters and their marks among the characters that are no white space, 0 to 1; 0 for an empty text."""
    solid = "".join(text.split())
    if not solid:
        return 0.0
    if solid.isalpha():
        return 1.0
    letters = sum(map(str.isalpha, solid)) + (0 if solid.isascii() else len(_MARK.findall(solid)))
    return letters / len(solid)


_MARK = re.compile(rf"[{_MARKS}\u0e31\u0e34-\u0e3a\u0e47-\u0e4e]")


def scripts_of(text: str) -> dict[str, int]:
    """How many letters of each script a text has; scripts that it lacks are left out."""
    if text.isascii():
        count = sum(map(str.isalpha, text))
        return {"Latin": count} if count else {}
    counts = {name: len(letters.findall(text)) for name, letters in _LETTERS.items()}
    return {name: count for name, count in counts.items() if count}
