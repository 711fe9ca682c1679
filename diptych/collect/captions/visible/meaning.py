"""Whether a caption names anything that can be seen: a logistic regression over its properties (properties.py).

`recipes/captions/words.py` fits weights.toml to labelled captions, those of tests/collect/captions among them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from math import exp
from pathlib import Path

from diptych.collect.captions.visible.properties import properties
from diptych.collect.captions.visible.words import known_word

_FILE = Path(__file__).with_name("weights.toml")
_END = re.compile(r"(?<=[^\W\d_]{3}[.!?|])\s+|\s+[|•·]\s+")
_ENOUGH = 3  # words of which each names what can be seen: such captions are not looked at further
_SEEN = 0.85
LEAST = 0.35  # chance of being usable; captions with less are refused


@cache
def _weights() -> tuple[float, Mapping[str, float]]:
    table = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return float(table["bias"]), {str(name): float(weight) for name, weight in table["weights"].items()}


def names_nothing_visible(text: str, words: Iterable[str]) -> bool:
    """Whether a caption is to be refused; `words` are those that name something, in lower case."""
    seen = 0
    for word in words:
        seen += (known_word(word).visible or 0.0) > _SEEN
        if seen == _ENOUGH:
            return False
    return max(map(visible_chance, _sentences(text))) < LEAST


def _sentences(text: str) -> list[str]:
    """The sentences of a caption: one of them may describe the picture, and another not."""
    return [part for part in map(str.strip, _END.split(text)) if part] or [text]


def visible_chance(text: str) -> float:
    """The chance that a caption names what can be seen, 0 to 1."""
    bias, weights = _weights()
    total = bias + sum(weights.get(name, 0.0) * value for name, value in properties(text).items())
    return 1 / (1 + exp(-max(-30.0, min(30.0, total))))
