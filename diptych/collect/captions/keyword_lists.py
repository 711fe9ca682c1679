"""Lists of search words, as pages have them for search engines: "cheap shoes, buy shoes online, shoes sale"."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection

from diptych.collect.captions.letters import tokens_of

_SEPARATOR = re.compile(r"[,|;•·#\n/]+|\s[-–—]\s|[、，]")
_HASHTAG = re.compile(r"#[^\W_]\w*")
_LEAST_SEGMENTS = 4
_LEAST_WORDS = 8
_MANY_SEGMENTS = 7  # that a list of objects may not have


def is_keyword_list(text: str, function_words: Collection[str]) -> bool:
    """Whether a caption lists search words: hashtags, or many short parts that repeat words or are no sentence."""
    hashtags = _HASHTAG.findall(text)
    if len(hashtags) >= 4 and sum(map(len, hashtags)) > len(text) * 0.55:
        return True
    segments = [segment for segment in map(str.strip, _SEPARATOR.split(text)) if segment]
    if len(segments) < _LEAST_SEGMENTS:
        return False
    words = [[_stem(token) for token in tokens_of(segment)] for segment in segments]
    every = [word for segment in words for word in segment]
    return _repeats(words, every, function_words) or _is_inventory(words, every, function_words)


def _stem(word: str) -> str:
    return word[:-1] if word.endswith("s") and len(word) > 3 else word


def _repeats(segments: list[list[str]], every: list[str], function_words: Collection[str]) -> bool:
    """Whether words that stand in three parts or more are most of the list's words, or one stands in most parts."""
    content = [{word for word in segment if len(word) > 1 and not word.isdigit()} for segment in segments]
    in_segments = Counter(word for words in content for word in words if word not in function_words)
    often = {word for word, count in in_segments.items() if count >= 3}
    is_plain = not any(word in function_words for word in every)
    share = sum(word in often for word in every) / max(len(every), 1)
    leading = max(in_segments.values(), default=0)
    leads = len(segments) > 4 and leading >= 0.7 * len(segments)
    return len(every) >= _LEAST_WORDS and ((is_plain and share >= 0.5) or leads)


def _is_inventory(segments: list[list[str]], every: list[str], function_words: Collection[str]) -> bool:
    """Whether there are many parts of one word or two, and hardly a function word."""
    short = sum(1 <= len(segment) <= 3 for segment in segments)
    functions = sum(word in function_words for word in every)
    return len(segments) >= _MANY_SEGMENTS and short >= 0.9 * len(segments) and functions <= len(every) * 0.05
