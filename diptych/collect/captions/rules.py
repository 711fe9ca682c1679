"""The rules by which a caption is refused, each with a name, so that it can be counted and switched off.

A caption is refused for what is left of it. Codes (patterns.py) and phrases (boilerplate.toml) are taken out, and so
are numbers and function words; if no word remains, the rule that took most is the reason. "Golden retriever, click to
enlarge" thus stays, and "Click to enlarge" goes. Personal data, markup and lists of search words spoil the whole
caption."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from diptych.collect.captions.keyword_lists import is_keyword_list
from diptych.collect.captions.languages import Languages, all_function_words
from diptych.collect.captions.letters import is_word, letter_share, tokens_of
from diptych.collect.captions.looks import has_markup, whole_caption
from diptych.collect.captions.patterns import mark_of, may_credit, taken
from diptych.collect.captions.personal import personal_data
from diptych.collect.captions.phrases import PhraseMatch, boilerplate_of
from diptych.collect.captions.repeated import RepeatedCaptions, host_of
from diptych.collect.captions.visible.meaning import names_nothing_visible
from diptych.collect.captions.visible.persons import is_person
from diptych.collect.pairs import Found, Words
from diptych.errors import ArgumentError

# Name -> what it refuses, as reports say it.
RULES = {
    "too-short": "fewer than two letters",
    "too-long": "more than 1,000 characters",
    "personal-data": "addresses of e-mail and telephone numbers",
    "markup": "HTML, templates, style sheets or program code",
    "file-name": "the name of a file, not of what it shows",
    "address": "nothing but an address on the web or a user's name",
    "identifier": "nothing but a code: ISBN, part and stock numbers",
    "keywords": "a list of search words or hashtags",
    "consent": "notices of cookies, privacy and browsers",
    "placeholder": "texts that stand in for a description",
    "interface": "buttons, menus and other words of the page itself",
    "logo": "logos, icons and banners",
    "copyright": "nothing but a credit or a copyright notice",
    "camera": "nothing but the camera and its exposure",
    "date": "nothing but a date or a time",
    "price": "nothing but a price, a discount or the stock",
    "dimensions": "nothing but sizes and units",
    "words": "hardly a word: digits, signs and function words",
    "name": "nothing but a person's name",
    "abstract": "nothing that can be seen: headings, slogans, calls to act",
    "language": "a language that is not asked for",
    "repeated": "the same caption under many pictures of a site",
}
_ORDER = tuple(RULES)
_TAKING = frozenset(
    "address file-name identifier consent placeholder interface logo copyright camera date price dimensions".split()  # noqa: SIM905
)
MOST_CHARACTERS = 1000
_LEAST_LETTERS = 0.3  # of the characters
_MARKS = {mark_of(index): rule for index, rule in enumerate(_ORDER)}
_LOGO = frozenset(("logo", "logos", "logotype", "icon", "icons", "favicon", "logotipo", "logotyp", "логотип", "иконка"))
_NAME_WORDS = 12
_MOST_ABSTRACT = 12  # words that name something; longer captions are texts, and other rules judge those
_LOGO_WORDS = 6  # captions of more words describe more than a logo
# Letters and the signs of sentences: no pattern but that of credits is to be looked for. A text without a space may be
# the name of a file.
_PLAIN = re.compile(r"[^\W\d_]+(?:[,;.!?]?['’]?[ -][\"'“”‘’]?[^\W\d_]+)+ ?[.!?\"'“”’]{0,3}")
_SENTENCE_END = re.compile(r"[.!?…。！？|\n]+(?=\s|$)|[。！？|\n•·]")


class CaptionRules:
    """Judges captions. The same caption gets the same verdict in every process; `repeated` alone knows others."""

    def __init__(
        self,
        disabled: Collection[str] = (),
        *,
        languages: Sequence[str] = (),
        repeated: RepeatedCaptions | None = None,
    ):
        """`disabled` names rules that refuse nothing. `languages` are those to accept, as codes of ISO 639-1; without,
        all are accepted: give those that the text tower is to speak. `repeated` has counted the captions of each site
        beforehand. Raises ArgumentError for a rule or language that does not exist."""
        if unknown := sorted({*disabled} - RULES.keys()):
            raise ArgumentError(f"There is no caption rule {unknown[0]!r}. Choose from: {', '.join(RULES)}.")
        self.active = frozenset(RULES) - {*disabled}
        self.repeated = repeated if "repeated" in self.active else None
        self.languages = Languages(languages) if languages and "language" in self.active else None
        self._taking = self.active & _TAKING
        self._phrases = boilerplate_of(self._taking)

    def usable(self, found: Found) -> tuple[Words, ...]:
        """The captions of a picture that no rule refuses, in their order and each once."""
        return tuple(words for words, rule in self.verdicts(found) if rule is None)

    def verdicts(self, found: Found) -> list[tuple[Words, str | None]]:
        """Each different caption of a picture with the rule that refuses it, or None."""
        once: dict[str, Words] = {}
        for words in found.words:
            once.setdefault(words.text, words)
        host = host_of(found)
        pairs = [(words, self.judge(words, language=found.language)) for words in once.values()]
        if self.repeated is None:
            return pairs
        return [
            (words, rule or ("repeated" if self.repeated.is_repeated(host, words.text) else None))
            for words, rule in pairs
        ]

    def judge(self, words: Words, *, language: str = "") -> str | None:
        """The name of the rule that refuses a caption, or None. `language` is what its page names (BCP 47)."""
        text = words.text.strip()
        active = self.active
        if "too-short" in active and sum(map(str.isalpha, text[:20])) < 2 and not _says_more(text):
            return "too-short" if len(text) < 2 else self._numbers(text)
        if "too-long" in active and len(text) > MOST_CHARACTERS:
            return "too-long"
        is_plain = " " in text and _PLAIN.fullmatch(text) is not None
        if not is_plain:
            if "personal-data" in active and personal_data(text):
                return "personal-data"
            if rule := whole_caption(text, active):
                return rule
            if "markup" in active and has_markup(text):
                return "markup"
        may_list = not is_plain or text.count(",") + text.count(";") > 2
        if may_list and "keywords" in active and is_keyword_list(text, all_function_words()):
            return "keywords"
        return self._by_words(text, language, is_plain=is_plain)

    def _numbers(self, text: str) -> str | None:
        """The rule of a caption that has no letters: that of its numbers, or "words"."""
        rest = self._by_words(text, "")
        return rest or ("words" if "words" in self.active else "too-short")

    def _by_words(self, text: str, language: str, *, is_plain: bool = False) -> str | None:
        """The rule that leaves no word of a caption, or what speaks against its words."""
        tokens = tokens_of(text)
        credited = may_credit(text, tokens)
        if not is_plain or credited:
            rest = taken(text, self._taking, _ORDER, credited=credited)
            tokens = tokens if rest == text else tokens_of(rest)
        numbered = tokens if is_plain else ["0" if token.isdigit() else token for token in tokens]
        matches = [*self._phrases.find(numbered)]
        if rule := next((match.phrase.rule for match in matches if match.phrase.reach == "text"), None):
            return rule
        by_rule, left = self._left(text, tokens, matches)
        if not left and by_rule:
            return min(by_rule, key=lambda rule: (-by_rule[rule], _ORDER.index(rule)))
        if "words" in self.active and (not left or (not is_plain and letter_share(text) < _LEAST_LETTERS)):
            return "words"
        if "logo" in self.active and _is_logo(tokens):
            return "logo"
        if "name" in self.active and len(tokens) <= _NAME_WORDS and is_person(text):
            return "name"
        if "abstract" in self.active and len(left) <= _MOST_ABSTRACT and names_nothing_visible(text, left):
            return "abstract"
        if self.languages and self.languages.refuse(text, tokens, language):
            return "language"
        return None

    def _left(self, text: str, tokens: list[str], matches: Iterable[PhraseMatch]) -> tuple[Counter[str], list[str]]:
        """How many words each rule takes, and the words that are left."""
        by_rule: Counter[str] = Counter()
        functions = all_function_words()
        if not matches and not any(token in _MARKS for token in tokens):
            return by_rule, [
                token
                for token in tokens
                if token not in functions and ((token.isalpha() and len(token) > 1) or is_word(token))
            ]
        owner: list[str] = [_MARKS.get(token, "") for token in tokens]
        lone = len(tokens) < 2  # "Step 3" and "Watch live" have company
        for match in matches:
            if lone and match.phrase.reach == "weak":
                continue
            stop = match.stop
            if match.phrase.reach == "sentence":
                stop = match.stop + _words_to_sentence_end(text, tokens[: match.stop])
            owner[match.start : stop] = [match.phrase.rule] * len(owner[match.start : stop])
        by_rule.update(filter(None, owner))
        left = [
            token
            for token, rule in zip(tokens, owner, strict=True)
            if not rule and token not in functions and not token.isdigit() and is_word(token)
        ]
        return by_rule, left


def _says_more(text: str) -> bool:
    """Whether letters follow after the first characters, or one character is a word (an ideograph)."""
    return sum(map(str.isalpha, text)) >= 2 or any(is_word(token) for token in tokens_of(text))


def _words_to_sentence_end(text: str, before: Sequence[str]) -> int:
    """The number of words from the last of `before` to the end of its sentence."""
    count = 0
    for sentence in _SENTENCE_END.split(text):
        count += len(tokens_of(sentence))
        if count >= len(before):
            return count - len(before)
    return len(tokens_of(text))


def _is_logo(tokens: Sequence[str]) -> bool:
    """Whether a short caption names a logo or an icon: "BBC News logo", "arrow icon"."""
    if not tokens or len(tokens) > _LOGO_WORDS:
        return False
    if tokens[0] in _LOGO and (len(tokens) < 3 or not tokens[0].startswith("icon")):
        return True
    return tokens[-1] in _LOGO or (len(tokens) < 5 and not _LOGO.isdisjoint(tokens[1:]) and "of" not in tokens)
