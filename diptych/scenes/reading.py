"""Reads what a caption of a plain scene says: the words that `diptych.scenes.plain` writes, and nothing else."""

from __future__ import annotations

import re

from diptych.scenes.plain import COLOURS, GROUNDS, KINDS, RELATIONS, SIDES, Described, Relation
from diptych.scenes.scene import Thing

_THING = rf"an?(?: ({'|'.join(filter(None, SIDES))}))? ({'|'.join(COLOURS)}) ({'|'.join(KINDS)})"
_WORDS = {phrase: word for word, phrases in RELATIONS.items() for phrase in phrases}
_CAPTION = re.compile(
    rf"(?:a picture of |there is |a drawing of )?{_THING}(?: (and|{'|'.join(_WORDS)}) {_THING})?"
    rf"(?: on an? (?:{'|'.join(GROUNDS)}) ground)?\.?",
    re.IGNORECASE,
)
_UNKNOWN_BOX = (0.0, 0.0, 0.0, 0.0)


def described_in(caption: str) -> Described | None:
    """The one or two things that a caption names, in its order, and how the first lies to the second if it says so;
    None for a caption of another form. Boxes are not known and are zeros."""
    found = _CAPTION.fullmatch(" ".join(caption.split()))
    if found is None:
        return None
    size, colour, kind, joined, *other = (part.lower() if part else "" for part in found.groups())
    things = [Thing(kind, colour, size, _UNKNOWN_BOX)]
    if joined:
        things.append(Thing(other[2], other[1], other[0], _UNKNOWN_BOX))
    relation = Relation(0, _WORDS[joined], 1) if joined in _WORDS else None
    return Described(caption, tuple(things), relation)
