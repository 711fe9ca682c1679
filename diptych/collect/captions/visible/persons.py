"""Captions that are the name of a person and nothing else: they say who, and not what a picture shows of whom."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from diptych.collect.captions.visible.words import known_word

_FILE = Path(__file__).with_name("given_names.txt")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*\.?")
_OTHER = re.compile(r"[^\w\s.'’-]|\d")
_BEFORE = ("by ", "written by ", "interview: ", "interview with ", "author: ", "posted by ")
_TITLES = frozenset("dr prof professor mr mrs ms miss sir dame herr frau mme rev hon".split())  # noqa: SIM905
_AFTER = frozenset("jr sr ii iii phd md".split())  # noqa: SIM905
_PARTICLES = frozenset("de da di del van von der den la le bin al y dos ten".split())  # noqa: SIM905
# Family names that are also words for what can be seen.
_FAMILY_NAMES = frozenset(
    """smith miller taylor baker cook king green brown white black gray grey hill wood woods stone fox wolf bush rice
    page park parker hunter carter turner mason fisher potter shepherd bell ball bird berry field fields brooks rivers
    lake forest church house hall marsh moore ford banks barber bishop knight prince duke price rose long short young
    sharp swift reed cross day winter summer may lamb bull hawk finch cotton silver gold glass cooper archer butler
    porter weaver wright""".split()  # noqa: SIM905
)
_OFFICE = re.compile(
    r"\b(?:c[efots]o|cmo|chair(?:man|woman)?|founder|president|director|manager|partner|engineer|professor|lecturer"
    r"|m\.?d\.?|ph\.?d\.?|dds|rn|jd|esq|editor|writer|reporter|correspondent|columnist|author|head of|chief|consultant"
    r"|analyst|designer|developer|specialist|coordinator|secretary|treasurer|attorney|associate|owner)\b",
    re.IGNORECASE,
)
_VISIBLE = 0.55
_MOST_WORDS = 5


@cache
def _given_names() -> frozenset[str]:
    return frozenset(_FILE.read_text(encoding="utf-8").split())


def is_person(text: str) -> bool:
    """Whether a caption is a person's name, with or without title and office: "Dr. Emily Wang", "by Mark", "John
    Miller, Vice President". A name whose other words can be seen is none: "Victoria Falls"."""
    head, comma, office = text.partition(",")
    if comma and not _OFFICE.search(office):
        return False
    folded = head.casefold()
    head = head[next((len(before) for before in _BEFORE if folded.startswith(before)), 0) :]
    words = _WORD.findall(head)
    if _OTHER.search(head) or not 1 <= len(words) <= _MOST_WORDS:
        return False
    if not all(word[0].isupper() or word in _PARTICLES for word in words):
        return False
    lower = [word.rstrip(".").casefold() for word in words]
    title = 0
    while title < len(lower) - 1 and lower[title] in _TITLES:
        title += 1
    names = [name for name in lower[title:] if name not in _AFTER and name not in _PARTICLES]
    return (
        bool(names)
        and _is_called(names, titled=title > 0, in_office=bool(comma))
        and not any(map(_is_thing, names[1:]))
    )


def _is_called(names: list[str], *, titled: bool, in_office: bool) -> bool:
    """Whether the first of the names, a title or an office tells that they are a person's."""
    given = _given_names()
    is_given = names[0] in given or names[0].partition("-")[0] in given
    is_initial = len(names) > 1 and len(names[0]) == 1
    return is_given or is_initial or titled or (in_office and len(names) in (2, 3))


def _is_thing(name: str) -> bool:
    if len(name) < 2 or name in _FAMILY_NAMES or name in _given_names():
        return False
    return (known_word(name).visible or 0) >= _VISIBLE
