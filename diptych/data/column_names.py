"""The usual names of the columns that hold pictures, captions and classes.

Names are compared in lower case, with underscores for spaces and hyphens, and without the numbers of numbered columns.
"""

import re
from collections.abc import Sequence

Columns = tuple[str, list[str]]  # the picture's column, and those of the captions

# By rank: if two columns match, the one that matches the earlier pattern is used.
_PICTURE = r"image|img|picture|pic|photo|file"
_PICTURES = (
    re.compile(rf"({_PICTURE})(_?(file))?_?(path|name|file)s?|({_PICTURE})s?|(file_?)?paths?"),
    re.compile(r"jpe?g|png|webp"),
    re.compile(rf"({_PICTURE})_?(id|index|uri|location)|id(_code)?"),
    re.compile(r"(image_?|img_?)?(urls?|links?)"),
)
_CAPTIONS = (
    re.compile(r"captions?"),
    re.compile(r"(\w+_)?captions?(_(en|eng|english|text|str|string))?"),
    re.compile(r"texts?|txt|sentences?|sent"),
    re.compile(r"(\w+_)?(texts?|descriptions?|comments?|raw|prompts?|alt(_text)?)(_(en|eng|english))?"),
    re.compile(r"titles?|\w+_title|\w+_names?"),
)
_CLASSES = re.compile(r"(\w+_)?(labels?|class(es)?(_?names?)?|categor(y|ies)(_?names?)?|breeds?|species)|names?")
_NO_CAPTION = re.compile(
    r"(.*_)?(image|img|file|class|category|label|user|author)_?names?|.*(_id|_ids|count|length|lang|language|source|url|path|tokens?|file)"
)
MAX_NAME_CHARS = 200  # longer names are not compared


def picture_column(names: Sequence[str]) -> str | None:
    """The column with the highest-ranked usual name for pictures."""
    return _highest_ranked(names, _PICTURES)


def caption_column(names: Sequence[str]) -> str | None:
    """The column with the highest-ranked usual name for captions, else the first with a usual name for classes."""
    candidates = [name for name in names if not _NO_CAPTION.fullmatch(normalised(name))]
    return _highest_ranked(candidates, _CAPTIONS) or next(
        (name for name in names if _CLASSES.fullmatch(normalised(name))), None
    )


def _highest_ranked(names: Sequence[str], patterns: Sequence[re.Pattern[str]]) -> str | None:
    return next((name for pattern in patterns for name in names if pattern.fullmatch(normalised(name))), None)


def is_caption(name: str) -> bool:
    """Whether a column of this name holds captions."""
    return any(pattern.fullmatch(normalised(name)) for pattern in _CAPTIONS)


def names_a_class(column: str) -> bool:
    """Whether a column of this name holds class names instead of captions."""
    return bool(_CLASSES.fullmatch(normalised(column))) and not is_caption(column)


def describe_columns(columns: Columns) -> str:
    """The columns in words."""
    if not columns[1]:
        return f"{columns[0]} (picture)"
    text = f"{columns[0]} (picture) and {', '.join(columns[1])}"
    return f"{text} (class; its name is the caption)" if names_a_class(columns[1][0]) else f"{text} (caption)"


def normalised(name: str) -> str:
    """`Caption_0` -> caption. "" for a name that is too long."""
    if len(name) > MAX_NAME_CHARS:
        return ""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip())
    return re.sub(r"_?\d+$", "", re.sub(r"[\s\-.]+", "_", words).lower())
