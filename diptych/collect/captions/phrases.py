"""Phrases that say nothing of a picture (boilerplate.toml), found by comparing words."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from diptych.collect.captions.letters import joined, tokens_of

_FILE = Path(__file__).with_name("boilerplate.toml")
Reach = Literal["words", "sentence", "text", "weak"]  # what a phrase takes


_NONE: Mapping[str, tuple[int, ...]] = {}


class Phrase(NamedTuple):
    """The rule that a phrase belongs to, and what it takes: its words, with the rest of its sentence,
    or all. A weak word takes itself where it has company."""

    rule: str
    reach: Reach


class PhraseMatch(NamedTuple):
    """A phrase at the words `start` to `stop` (exclusive)."""

    start: int
    stop: int
    phrase: Phrase


class Phrases:
    """Phrases by their words. `find` takes the longest phrase at each word and goes on after it."""

    def __init__(self, phrases: Mapping[str, Phrase]):
        """`phrases` by their text; 0 stands for any number."""
        self._phrases: dict[str, Phrase] = {}
        # By the first word and the second ("" for a phrase of one word): "a" begins many phrases, "a boat" none.
        self._lengths: dict[str, dict[str, tuple[int, ...]]] = {}
        for text, phrase in phrases.items():
            tokens = ["0" if token.isdigit() else token for token in tokens_of(text)]
            self._phrases[joined(tokens)] = phrase
            seconds, second = self._lengths.setdefault(tokens[0], {}), "".join(tokens[1:2])
            seconds[second] = tuple(sorted({*seconds.get(second, ()), len(tokens)}, reverse=True))

    def find(self, tokens: Sequence[str]) -> Iterator[PhraseMatch]:
        """The phrases in a caption's words (numbers written as 0), from left to right, without overlap."""
        at, count = 0, len(tokens)
        lengths, phrases = self._lengths.get, self._phrases.get
        while at < count:
            seconds = lengths(tokens[at], _NONE)
            second = tokens[at + 1] if at + 1 < count else ""
            for length in (*seconds.get(second, ()), *(seconds.get("", ()) if second else ())) if seconds else ():
                phrase = phrases(joined(tokens[at : at + length])) if at + length <= count else None
                if phrase:
                    yield PhraseMatch(at, at + length, phrase)
                    at += length
                    break
            else:
                at += 1

    def __len__(self) -> int:
        return len(self._phrases)


@cache
def boilerplate() -> Mapping[str, Phrase]:
    """The phrases of boilerplate.toml by their text."""
    reaches: dict[int, Reach] = {0: "words", 1: "sentence", 2: "text"}
    phrases: dict[str, Phrase] = {}
    table = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    for rule, languages in sorted(table.items(), key=lambda item: item[0] == "weak"):  # last: what is strong stays so
        for lines in languages.values():
            for line in filter(None, map(str.strip, lines.splitlines())):
                phrase = Phrase("interface", "weak") if rule == "weak" else Phrase(rule, reaches[line.count("…")])
                phrases.setdefault(line.rstrip("… "), phrase)
    return phrases


@cache
def boilerplate_of(rules: frozenset[str]) -> Phrases:
    """The phrases of these rules."""
    return Phrases({text: phrase for text, phrase in boilerplate().items() if phrase.rule in rules})
