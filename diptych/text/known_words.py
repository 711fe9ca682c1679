"""The words that a model's training saw: words.txt beside its tokenizer.json, one a line, sorted.

A word counts as known in any of its simple inflections: plural, -ing, -ed."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator

from diptych.text.phrases import STOP_WORDS

WORDS_FILE = "words.txt"
MAX_BYTES = 200_000  # that are read
_MAX_WRITTEN_BYTES = 100_000
_MAX_LETTERS = 40
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_SIBILANT = ("s", "x", "z", "ch", "sh")
_VOWELS = frozenset("aeiou")


def content_words(text: str) -> list[str]:
    """The words of a text in lower case, each once, without stop words, single letters and numbers."""
    words = (word.removesuffix("'s").removesuffix("’s") for word in _WORD.findall(_plain(text)))
    return [word for word in dict.fromkeys(words) if len(word) > 1 and word not in STOP_WORDS]


def _plain(text: str) -> str:
    """The text in lower case, an accent and its letter as one character where there is such a one."""
    return unicodedata.normalize("NFC", text.casefold())


class KnownWords:
    """Known words, from the text of words.txt. Lines that are no words of at most 40 letters are left out, as is what
    follows the first 200,000 bytes."""

    def __init__(self, text: str):
        lines = _plain(text[:MAX_BYTES].removeprefix("\ufeff")).splitlines()
        # Nearly all lines are letters alone, and the expression costs three times as much as all else here.
        words = (line if line.isalpha() else line.strip() for line in lines)
        self.words = frozenset(
            word for word in words if 1 < len(word) <= _MAX_LETTERS and (word.isalpha() or _WORD.fullmatch(word))
        )

    def knows(self, word: str) -> bool:
        """Whether the word, an inflection of it, or each part of a hyphenated word is known."""
        if any(form in self.words for base in word_bases(word) for form in _inflections(base)):
            return True
        parts = word.split("-")
        return len(parts) > 1 and all(self.knows(part) for part in parts if part not in STOP_WORDS)


def word_bases(word: str) -> Iterator[str]:
    """The word, and what it may be an inflection of. A base has at least three letters, so that "red", "bus" and "king"
    have no other."""
    yield word
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        yield word[:-1]
        if word.endswith("es") and word[:-2].endswith(_SIBILANT):
            yield word[:-2]
        if word.endswith("ies") and len(word) > 4:
            yield f"{word[:-3]}y"
    for ending in ("ing", "ed"):
        if word.endswith(ending) and len(word) - len(ending) > 2:
            yield from _verbs(word[: -len(ending)])
    if word.endswith("ied") and len(word) > 4:
        yield f"{word[:-3]}y"


def _verbs(stem: str) -> Iterator[str]:
    """The verbs whose form in -ing or -ed has this stem: "runn" -> run, "rid" -> ride, "walk" -> walk. A short stem
    such as "rat" would have doubled its consonant, so "rating" is no form of "rat"."""
    yield f"{stem}e"
    if stem[-1] == stem[-2] and len(stem) > 3:
        yield stem[:-1]
    if not (len(stem) < 5 and _doubles(stem)):
        yield stem


def _doubles(word: str) -> bool:
    """Whether a word ends in a consonant, a vowel and a consonant, which is doubled before -ing."""
    first, second, third = word[-3:]
    return first not in _VOWELS and second in _VOWELS and third not in {*_VOWELS, "w", "x", "y"}


def _inflections(base: str) -> Iterator[str]:
    """The base, and its regular plural, -ing and -ed."""
    yield base
    if len(base) < 3:
        return
    yield f"{base}es" if base.endswith(_SIBILANT) else f"{base}s"
    stems = [base]
    if base.endswith("e"):
        stems = [base[:-1]]
    elif _doubles(base):
        stems = [base, base + base[-1]]
    yield from (f"{stem}{ending}" for stem in stems for ending in ("ing", "ed"))
    if base.endswith("y") and base[-2] not in _VOWELS:
        yield from (f"{base[:-1]}ies", f"{base[:-1]}ied")


def count_words(texts: Iterable[str]) -> Counter[str]:
    """How many of the texts contain each content word."""
    return Counter(word for text in texts for word in content_words(text))


def words_text(counts: Counter[str], known: Iterable[str] = ()) -> str:
    """The content of words.txt: the `known` words and the counted ones, the most frequent that fit in 100,000 bytes,
    sorted."""
    chosen, size = [], 0
    for word in dict.fromkeys([*sorted(known), *sorted(counts, key=lambda word: (-counts[word], word))]):
        size += len(word.encode()) + 1
        if size > _MAX_WRITTEN_BYTES:
            break
        if len(word) <= _MAX_LETTERS:
            chosen.append(word)
    return "".join(f"{word}\n" for word in sorted(chosen))
