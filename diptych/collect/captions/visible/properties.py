"""The properties of a caption by which it is told whether it names anything that can be seen.

Each is a number about its words. Many speak in another way in short captions than in long ones ("Old barn", "Senate
passes spending bill after marathon session"), so that these come once for each length."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import log1p

from diptych.collect.captions.languages import all_function_words, function_words
from diptych.collect.captions.visible.words import KnownWord, known_word

_TOKEN = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|\d+")
_SEEN = 0.6  # from this on a word names what can be seen
_UNSEEN = 0.35
_ADDRESS = frozenset(
    """you your you're you've yours we us our ours we're we've i i'm it's here's what's who's let's don't can't isn't
    ihr ihre ihren ihrer unser unsere unseren unserer dein deine wir uns sie nos notre votre vos vous nous nuestro
    nuestra nuestros nuestras tu tus sus te nostri nostro nostra nostre vostro vostra tuo tua noi nosso nossa nossos
    nossas sua seu você onze ons uw je jouw wij nasz nasze naszej nas nami twój twoje наш наши нас нами ваш ваши вас
    våra vår oss din dina biz bize sizin""".split()  # noqa: SIM905
)
_CLAUSE = frozenset(
    """is are was were will would can could should has have be been may might must not than more if because when as
    how why what that this these all every any most best new free now""".split()  # noqa: SIM905
)
_FIRST_ASKS = frozenset("how why what when where who which is are do does can should will did".split())  # noqa: SIM905
_LIES = frozenset(
    """on in at with over under near behind beside through into along around above below outside inside between across
    from""".split()  # noqa: SIM905
)
_ABSTRACT_ENDING = re.compile(
    r"(?:tion|sion|ment|ity|ness|ship|ance|ence|ism|ology|ics|ción|sión|dad|miento|ung|ungen|heit|keit|schaft|ität|ité"
    r"|zione|zioni|tà|ção|ções|dade|ость|ние)$"
)
_FOREIGN_VERB = re.compile(r"(?:ar|er|ir|re|ez|ć|ть|en)$")
_LISTICLE = re.compile(r"\d+\+? [a-z]")
_MODEL = re.compile(r"^(?:[A-Z][\w-]+ )+(?:[A-Z]{0,3}\d+[A-Z]?)\b")  # "Porsche 911", "BMW M3"
_LENGTHS = ("short", "middle", "long")


class _Caption:
    """The words of a caption with what is known of each."""

    def __init__(self, text: str):
        self.text = text
        tokens = _TOKEN.findall(text)
        self.words = [token for token in tokens if token[0].isalpha()]
        self.numbers = len(tokens) - len(self.words)
        self.lower = [word.casefold().removesuffix("'s").removesuffix("’s") for word in self.words]
        english = function_words()["en"]
        self.content = {
            index: known_word(word) for index, word in enumerate(self.lower) if word not in english and len(word) > 1
        }
        self.known: list[KnownWord] = [word for word in self.content.values() if word.visible is not None]
        self.visible = [word.visible or 0.0 for word in self.known]
        self.length = _LENGTHS[0 if len(self.content) < 3 else 1 if len(self.content) < 5 else 2]

    @property
    def head(self) -> KnownWord | None:
        """The last word before the first that lies between others: "station" in "Train station at night"."""
        head = None
        for index, word in enumerate(self.lower):
            if head and (word in _LIES or word == "of"):
                break
            head = self.content.get(index, head)
        return head

    def share(self, count: float) -> float:
        return count / max(1, len(self.content))

    def sees_after(self, index: int) -> bool:
        """Whether one of the next three words names what can be seen."""
        following = (self.content.get(each) for each in range(index + 1, index + 4))
        return any(word is not None and (word.visible or 0) > _SEEN for word in following)


def properties(text: str) -> dict[str, float]:
    """The properties of a caption by name; one that is left out is 0."""
    caption = _Caption(text)
    found = {**_of_words(caption), **_of_grammar(caption), **_of_signs(caption)}
    found.update({f"{name} {caption.length}": value for name, value in _of_meaning(caption).items()})
    found[caption.length] = 1.0
    if not any(word.visible is not None or word.page for word in caption.content.values()):
        speaks_against = found["abstract endings"] + found["foreign verb"] + found["address"] + found["numbers"]
        found["nothing known" if speaks_against else "nothing against"] = 1.0
        found[f"nothing known {caption.length}"] = 1.0
    return found


def _of_meaning(caption: _Caption) -> Mapping[str, float]:
    """What speaks in another way in captions of different length."""
    visible, share = caption.visible, caption.share
    pages = [word.page for word in caption.known]
    unknown = [index for index, word in caption.content.items() if word.visible is None]
    capital = [index for index in unknown if caption.words[index][0].isupper()]
    first = caption.content.get(0)
    last = caption.head
    return {
        "mean visible": sum(visible) / len(visible) if visible else 0.5,
        "most visible": max(visible, default=0.5),
        "unseen": share(sum(each < _UNSEEN for each in visible)),
        "seen": log1p(sum(each > _SEEN for each in visible)),
        "of pages": share(sum(pages)),
        "least of pages": min(pages, default=0.0),
        "names": share(len(capital)),
        "unknown": share(len(unknown) - len(capital)),
        "head visible": 0.5 if last is None or last.visible is None else last.visible,
        "head of pages": 0.0 if last is None else last.page,
        "head seen": float(last is not None and (last.visible or 0) > 0.8),
        "verb first": float(first is not None and first.verb),
        "clause": float(min(3, sum(word in _CLAUSE for word in caption.lower))),
    }


def _of_words(caption: _Caption) -> Mapping[str, float]:
    functions, english = all_function_words(), function_words()["en"]
    foreign = [word for word in caption.content.values() if word.visible is None]
    of_pages = [word.page for word in foreign]
    return {
        "words": log1p(len(caption.words)),
        "content words": log1p(len(caption.content)),
        "one": float(len(caption.content) == 1),
        "address": float(min(2, sum(word.casefold() in _ADDRESS for word in caption.words))),
        "abstract endings": caption.share(
            sum(_ABSTRACT_ENDING.search(caption.lower[index]) is not None for index in caption.content)
        ),
        "foreign of pages": caption.share(sum(of_pages)),
        "foreign only of pages": min(of_pages) if of_pages and len(of_pages) == len(caption.content) else 0.0,
        "foreign function words": sum(word in functions and word not in english for word in caption.lower)
        / max(1, len(caption.words)),
    }


def _of_grammar(caption: _Caption) -> Mapping[str, float]:
    lower, content = caption.lower, caption.content
    found: dict[str, float] = {}
    for index, word in enumerate(lower[:-1]):
        name = "lies" if word in _LIES else "article" if word in ("a", "an") else "of" if word == "of" else ""
        if name and caption.sees_after(index):
            found[name] = 1.0
        following = content.get(index + 1)
        if word == "to" and following and following.verb:
            found["to do"] = 1.0
    for index, word in content.items():
        if index and word.visible is not None:
            if lower[index].endswith("ing") and word.visible > 0.5:
                found["doing"] = 1.0
            if _is_finite(lower[index]) and word.visible < 0.5:
                found["does"] = 1.0
    if len(lower) > 1:
        found["asks"] = float(lower[0] in _FIRST_ASKS)
        found["the first"] = float(lower[0] in ("the", "this", "that", "these", "my", "our"))
        found["a first"] = float(lower[0] in ("a", "an", "two", "three", "four", "some"))
        found["abstract doing first"] = float(
            0 in content and lower[0].endswith("ing") and (content[0].visible or 0) < 0.5
        )
    found["foreign verb"] = float(_has_foreign_verb(lower, content, caption.words))
    return found


def _is_finite(word: str) -> bool:
    """Whether a word is the third person of a verb above all: "falls", "passes"."""
    if not word.endswith("s") or word.endswith("ss"):
        return False
    return known_word(word[:-1]).verb or (word.endswith("es") and known_word(word[:-2]).verb)


def _has_foreign_verb(lower: Sequence[str], content: Mapping[int, KnownWord], words: Sequence[str]) -> bool:
    """Whether a caption of another language begins with an infinitive or imperative ("Ver más", "Découvrez") or ends
    with one ("Jetzt anfragen")."""
    if not lower:
        return False
    last = len(lower) - 1
    if 0 in content and content[0].visible is None and _FOREIGN_VERB.search(lower[0]):
        return True
    return (
        last > 0
        and last in content
        and content[last].visible is None
        and words[last][0].islower()
        and lower[last].endswith("en")
    )


def _of_signs(caption: _Caption) -> Mapping[str, float]:
    text, words = caption.text, caption.words
    return {
        "?": float("?" in text),
        "!": float("!" in text),
        ":": float(":" in text),
        ",": float("," in text),
        ".": float(text.endswith(".")),
        "numbers": caption.numbers / max(1, caption.numbers + len(words)),
        "name and number": float(_MODEL.search(text) is not None),
        "listicle": float(_LISTICLE.match(text) is not None),
        "number last": float(text[-1:].isdigit()),
        "capitals": sum(word[0].isupper() for word in words[1:]) / max(1, len(words) - 1),
        "all capitals": float(text.isupper()),
        "other letters": float(not text.isascii()),
        "no Latin letter": float(re.search("[A-Za-z]", text) is None),
    }
