"""Text preprocessing that a tokenizer.json does not include. Each source of models has its own, and a model is accurate
only on text cleaned as in its training. A change to the result for any text must raise `diptych.versions.TOKENIZING`.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

from diptych.errors import CleaningError

SIMPLE = "SimpleTokenizer"  # OpenAI's, and open_clip's of that name: without NFC and special tokens

# ftfy leaves text of these characters without entities unchanged, so it is imported only for other text.
_PLAIN = re.compile(r"[\t\n -~]*")
_ENTITY = re.compile(r"&#?\w")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class TextPreprocessing(NamedTuple):
    """Preprocessing beyond a model's tokenizer.json: `cleaning` names `STEPS`, applied in order; `pad_left` pads before
    the text."""

    cleaning: tuple[str, ...] = ()
    pad_left: bool = False


PLAIN = TextPreprocessing()
OPENAI = TextPreprocessing(("lower", SIMPLE))


def cleaned(text: str, cleaning: Sequence[str]) -> str:
    """The text after all steps, in order."""
    for step in cleaning:
        text = STEPS[step](text)
    return text


def checked(names: object) -> tuple[str, ...]:
    """The names of steps from a file. Raises CleaningError for an unknown name."""
    if not isinstance(names, (list, tuple)) or any(not isinstance(name, str) or name not in STEPS for name in names):
        raise CleaningError(f"{names!r} is not a list of cleaning steps. Choose from: {', '.join(STEPS)}.")
    return tuple(names)


def _fixed_mojibake(text: str) -> str:
    """Repairs broken encodings, ligatures, quotes and HTML entities (open_clip 3.3, tokenizer.py: basic_clean)."""
    has_entity = _ENTITY.search(text)
    if has_entity or not _PLAIN.fullmatch(text):
        import ftfy

        text = ftfy.fix_text(text)
    if has_entity or "&" in text:
        import html

        text = html.unescape(html.unescape(text))
    return text.strip()


def _spaced(text: str) -> str:
    return " ".join(text.split())


def _whitespace(text: str) -> str:
    return _spaced(_fixed_mojibake(text))


def _lower(text: str) -> str:
    return _whitespace(text).lower()


def _canonicalize(text: str) -> str:
    """Removes punctuation, as in SigLIP's training (big_vision, prompt_engineering.py)."""
    return _spaced(_fixed_mojibake(text).replace("_", " ").translate(_NO_PUNCTUATION).lower())


def _siglip(text: str) -> str:
    """As transformers' SiglipTokenizer: it repairs nothing, and an underscore leaves no space."""
    return re.sub(r"\s+", " ", text.lower().translate(_NO_PUNCTUATION)).strip()


def _siglip2(text: str) -> str:
    return _lowercase()(text)


@cache
def _lowercase() -> Callable[[str], str]:
    """Lower-cases character by character; for Greek, Python's `lower` differs."""
    from tokenizers.normalizers import Lowercase

    return Lowercase().normalize_str


# open_clip's three names, and tokenizers that do more than their tokenizer.json.
STEPS: dict[str, Callable[[str], str]] = {
    "lower": _lower,
    "whitespace": _whitespace,
    "canonicalize": _canonicalize,
    "SiglipTokenizer": _siglip,
    "Siglip2Tokenizer": _siglip2,
    SIMPLE: lambda text: text,  # `Tokenizer` does its splitting
}
