"""Extracts phrases from captions: the runs of content words between stop words, and each of these words, after Rose et
al. 2010, "Automatic keyword extraction from individual documents", section 1.2.2."""

import re
from collections.abc import Iterable

MOST_WORDS = 3
# Words that name no content: articles, pronouns, prepositions, auxiliaries, and words about the picture itself.
STOP_WORDS = frozenset(
    """a an the and or but nor so as if than then that this these those there here it its he him his she her hers they
    them their theirs we our you your i my who whom whose which what where when while how all both each every some any
    no not only own same such other another one something someone others else very too just also about above across
    after against along among around at away back before behind below beneath beside between beyond by down during for
    from in inside into near next of off on onto out outside over past through to together toward towards under up upon
    with within without is are was were be been being am do does did has have had having can could will would may might
    must should get gets getting go goes going come comes coming take takes taking make makes making look looks looking
    seem seems appear appears see seen several many much few more most lot lots various picture photo photograph image
    scene view shot background foreground front top bottom side middle left right center""".split()  # noqa: SIM905
)


def phrases_of(captions: Iterable[str]) -> list[str]:
    """ "A brown dog runs over the grass" -> ["brown dog runs", "brown", "dog", "runs", "grass"], with repetitions.
    Runs of more than MOST_WORDS words are left out; their words are kept."""
    phrases: list[str] = []
    for caption in captions:
        for clause in re.split(r"[^\w\s'-]+", caption.casefold()):
            for run in _runs(clause.split()):
                phrases += run
                if 1 < len(run) <= MOST_WORDS:
                    phrases.append(" ".join(run))
    return phrases


def _runs(words: Iterable[str]) -> list[list[str]]:
    """The words between stop words."""
    runs: list[list[str]] = [[]]
    for word in words:
        if word in STOP_WORDS or not word[0].isalpha() or len(word) < 2:
            runs.append([])
        else:
            runs[-1].append(word)
    return [run for run in runs if run]
