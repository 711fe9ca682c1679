"""The language of a caption: by its letters, by its function words, and where these leave it open by lingua.

Short captions ("red car", "Kölner Dom") have no language that any library tells, so that only their letters and the
language that the page itself names speak against them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.collect.captions.letters import is_alone, scripts_of
from diptych.errors import ArgumentError

if TYPE_CHECKING:
    from lingua import LanguageDetector

_FILE = Path(__file__).with_name("function_words.toml")
SHORT = 5  # words; fewer are kept unless their letters or their page say otherwise
_LONG = 8  # words that lingua is asked of; it misjudges fewer too often
_FOREIGN_SHARE = 0.5  # of letters in scripts that no accepted language has
_SURE = 0.9  # lingua's confidence in another language
_PAGE_SAYS = 0.97  # the same, against the page's own word
_SCRIPT_OF = {
    "Cyrillic": "ru uk be bg sr mk kk ky mn tg tt", "Greek": "el", "Arabic": "ar fa ur ps ckb ug sd", "Hebrew": "he yi",
    "Devanagari": "hi mr ne sa", "kana": "ja", "Hangul": "ko", "Thai": "th", "Bengali": "bn as", "Tamil": "ta",
    "Telugu": "te", "Georgian": "ka", "Armenian": "hy",
}  # fmt: skip
_HAN = {"zh", "ja", "ko", "yue"}
# Languages that lingua chooses among for Latin letters: those of most pages. More would cost time and mislead.
_LATIN = ("en", "de", "fr", "es", "it", "pt", "nl", "pl", "sv", "da", "nb", "cs", "ro", "hu", "tr", "fi", "id", "vi")


@cache
def function_words() -> Mapping[str, frozenset[str]]:
    """The function words of each language (function_words.toml), by its code."""
    table = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return {code: frozenset(words.split()) for code, words in table.items()}


@cache
def all_function_words() -> frozenset[str]:
    """The function words of all languages."""
    return frozenset().union(*function_words().values())


def primary(tag: str) -> str:
    """The language of a tag of BCP 47, in lower case: "en-GB" -> "en"; Norwegian is "no" under each of its names."""
    code = tag.replace("_", "-").partition("-")[0].strip().casefold()
    return "no" if code in ("nb", "nn") else code


class Languages:
    """The languages whose captions are accepted."""

    def __init__(self, accepted: Sequence[str]):
        """`accepted` are codes of ISO 639-1 such as "en". Raises ArgumentError for one that is none."""
        self.accepted = {primary(code) for code in accepted}
        for code, given in zip(map(primary, accepted), accepted, strict=True):
            if not (2 <= len(code) <= 3 and code.isascii() and code.isalpha()):
                raise ArgumentError(f"{given!r} is not a language. Give its code of ISO 639-1, such as en, de or ja.")
        self._scripts = {script for script, codes in _SCRIPT_OF.items() if self.accepted & {*codes.split()}}
        self._scripts |= {"Han"} if self.accepted & _HAN else set()
        others = {code for codes in _SCRIPT_OF.values() for code in codes.split()} | _HAN
        self._scripts |= {"Latin"} if self.accepted - others else set()
        self._detector: LanguageDetector | None = None

    def refuse(self, text: str, tokens: Sequence[str], page: str = "") -> bool:
        """Whether a caption is of another language. `tokens` are its words (`tokens_of`), `page` is the language that
        its page names."""
        scripts = scripts_of(text)
        letters = sum(scripts.values())
        foreign = letters - sum(scripts.get(script, 0) for script in self._scripts)
        if letters and foreign / letters > _FOREIGN_SHARE:
            return True
        main = max(scripts, key=lambda script: scripts[script]) if scripts else ""
        page = primary(page)
        if sum(not is_alone(token) for token in tokens) < SHORT or main not in ("Latin", "Cyrillic"):
            return bool(page) and page not in self.accepted
        told = self._by_function_words(tokens)
        if told is not None:
            return told
        return len(tokens) >= _LONG and self._by_lingua(text, page)

    def _by_function_words(self, tokens: Sequence[str]) -> bool | None:
        """Whether the caption's function words are those of another language, or None if they do not tell."""
        words = {*tokens}
        counts = {code: len(words & known) for code, known in function_words().items()}
        ours = max((count for code, count in counts.items() if code in self.accepted), default=0)
        others = max((count for code, count in counts.items() if code not in self.accepted), default=0)
        if ours >= max(others, 1):
            return False
        return True if others >= 2 and others > ours + 1 and not self._lacks_words() else None

    def _lacks_words(self) -> bool:
        """Whether an accepted language has no list of function words, so that nothing speaks for it."""
        return not self.accepted <= function_words().keys()

    def _by_lingua(self, text: str, page: str) -> bool:
        if self._detector is None:
            self._detector = _detector(tuple(sorted(self.accepted)))
        confidences = self._detector.compute_language_confidence_values(text)
        names = {primary(each.language.iso_code_639_1.name): each.value for each in confidences}
        ours = sum(value for code, value in names.items() if code in self.accepted)
        return ours < 1 - (_PAGE_SAYS if page in self.accepted else _SURE)


@cache
def _detector(accepted: tuple[str, ...]) -> LanguageDetector:
    """lingua's, of trigrams alone: with all n-grams it needs a minute to load and is three times as slow."""
    from lingua import Language, LanguageDetectorBuilder

    known = {each.iso_code_639_1.name.casefold(): each for each in Language.all()}
    codes = {*_LATIN, "ru", "uk", "bg", "sr", *("nb" if code == "no" else code for code in accepted)}
    languages = [known[code] for code in sorted(codes) if code in known]
    return LanguageDetectorBuilder.from_languages(*languages).with_low_accuracy_mode().build()
