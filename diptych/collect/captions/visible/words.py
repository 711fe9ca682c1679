"""What is known of single words: whether they name what can be seen, and how often pages use them of themselves.

words.txt has a word a line with two digits, and `v` for those that are verbs above all. The first digit is how visible
the word's meaning is (WordNet's lexical categories, weighted by the counts of its senses, and how often captions of
photographs have it), the second how often texts of web applications have it; "-" stands for English unknown.
`recipes/captions/words.py` makes the file."""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

from diptych.text.known_words import word_bases

_FILE = Path(__file__).with_name("words.txt")


class KnownWord(NamedTuple):
    """`visible` 0 to 1, None for a word that no English dictionary has; `page` 0 to 1 by the logarithm of its count in
    texts of web applications; whether it is a `verb` above all."""

    visible: float | None
    page: float
    verb: bool


_UNKNOWN = KnownWord(None, 0.0, False)


@cache
def _table() -> dict[str, str]:
    lines = _FILE.read_text(encoding="utf-8").splitlines()
    return dict(line.split(" ", 1) for line in lines if line)


@lru_cache(maxsize=100_000)
def known_word(word: str) -> KnownWord:
    """What is known of a word in lower case; of an inflection, what is known of its base."""
    table = _table()
    for base in (word, *word_bases(word)):
        if code := table.get(base):
            visible = None if code[0] == "-" else int(code[0]) / 9
            return KnownWord(visible, int(code[1]) / 9, code.endswith("v") and base == word)
    return _UNKNOWN
