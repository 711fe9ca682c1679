"""What is done to a text beside what its tokenizer.json says. Every source of models cleans in a way of its own, and a
model reads well only what is cleaned as in its training. Who changes what becomes of any text raises
`diptych.versions.TOKENIZING`."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

from diptych.errors import CleaningError

SIMPLE = "SimpleTokenizer"  # OpenAI's, and open_clip's of that name: it composes no letters and knows no marks

# ftfy changes no text of these letters without entities: that import waits until there is something to mend.
_PLAIN = re.compile(r"[\t\n -~]*")
_ENTITY = re.compile(r"&#?\w")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class TextPreprocessing(NamedTuple):
    """How a model's texts become ids, beyond its tokenizer.json: `cleaning` are names of `STEPS`, done in order;
    `pad_left` puts the padding before the text."""

    cleaning: tuple[str, ...] = ()
    pad_left: bool = False


PLAIN = TextPreprocessing()
OPENAI = TextPreprocessing(("lower", SIMPLE))


def cleaned(text: str, cleaning: Sequence[str]) -> str:
    """The text after each of the steps."""
    for step in cleaning:
        text = STEPS[step](text)
    return text


def checked(names: object) -> tuple[str, ...]:
    """Steps as a file names them; CleaningError for what is none."""
    if not isinstance(names, (list, tuple)) or any(not isinstance(name, str) or name not in STEPS for name in names):
        raise CleaningError(f"{names!r} is no way to clean texts; wanted a list of these: {', '.join(STEPS)}.")
    return tuple(names)


def _fixed_mojibake(text: str) -> str:
    """Broken encodings, ligatures, quotes and HTML entities put right (open_clip 3.3, tokenizer.py: basic_clean)."""
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
    """Without punctuation, as SigLIP was trained (big_vision, prompt_engineering.py)."""
    return _spaced(_fixed_mojibake(text).replace("_", " ").translate(_NO_PUNCTUATION).lower())


def _siglip(text: str) -> str:
    """transformers' SiglipTokenizer: nothing is mended, and an underline leaves no space."""
    return re.sub(r"\s+", " ", text.lower().translate(_NO_PUNCTUATION)).strip()


def _siglip2(text: str) -> str:
    return _lowercase()(text)


@cache
def _lowercase() -> Callable[[str], str]:
    """Letter by letter, which for Greek differs from Python's own."""
    from tokenizers.normalizers import Lowercase

    return Lowercase().normalize_str


# open_clip's three names, and the tokenizers that do more than their tokenizer.json.
STEPS: dict[str, Callable[[str], str]] = {
    "lower": _lower,
    "whitespace": _whitespace,
    "canonicalize": _canonicalize,
    "SiglipTokenizer": _siglip,
    "Siglip2Tokenizer": _siglip2,
    SIMPLE: lambda text: text,  # which `Tokenizer` splits as it does
}
