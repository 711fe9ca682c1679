"""Which columns of a table hold pictures and captions: by their usual names, or by what stands in them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from diptych.data.samples import IMAGE_SUFFIXES
from diptych.errors import DataError, Setting

# By rank: of two columns that might be the captions' the earlier rule says which. Names are compared in lower case,
# with underscores for spaces and hyphens, and without the numbers of several columns of one kind.
_PICTURE = r"image|img|picture|pic|photo|file"
PICTURE_COLUMNS = (
    re.compile(rf"({_PICTURE})(_?(file))?_?(path|name|file)s?|({_PICTURE})s?|(file_?)?paths?"),
    re.compile(r"jpe?g|png|webp"),
    re.compile(rf"({_PICTURE})_?(id|index|uri|location)|id(_code)?"),
    re.compile(r"(image_?|img_?)?(urls?|links?)"),
)
CAPTION_COLUMNS = (
    re.compile(r"captions?"),
    re.compile(r"(\w+_)?captions?(_(en|eng|english|text|str|string))?"),
    re.compile(r"texts?|txt|sentences?|sent"),
    re.compile(r"(\w+_)?(texts?|descriptions?|comments?|raw|prompts?|alt(_text)?)(_(en|eng|english))?"),
    re.compile(r"titles?|\w+_title|\w+_names?"),
)
CLASS_COLUMNS = re.compile(r"(\w+_)?(labels?|class(es)?(_?names?)?|categor(y|ies)(_?names?)?|breeds?|species)|names?")
_NO_CAPTION = re.compile(
    r"(.*_)?(image|img|file|class|category|label|user|author)_?names?|.*(_id|_ids|count|length|lang|language|source|url|path|tokens?|file)"
)
_PICTURE_FILE = re.compile(rf".*({'|'.join(re.escape(each) for each in sorted(IMAGE_SUFFIXES))})(#\d+)?", re.I | re.S)

_MOST, _LONGEST = 10_000, 200  # columns; characters of the name of one that is looked at
_LISTED = 20

Columns = tuple[str, list[str]]


def choose_columns(
    names: Sequence[str], image_column: str | None, caption_column: str | None, where: str,
    rows: Sequence[Mapping[str, Any]] = (),
) -> Columns:  # fmt: skip
    """The picture's column and those of the captions (`caption_0`, `caption_1`, ... are one with several).

    Where no column has a usual name, that of the pictures is the one whose cells in `rows` name such files, and that of
    the captions the one that is left. DataError that lists the columns where one that was named is not there, or none
    can be found, or there are more than any table has.
    """
    require_few(len(names), where)
    image = _asked(names, image_column, where) or _ranked(names, PICTURE_COLUMNS) or _of_files(names, rows)
    if image is None:
        raise _not_found(names, "picture", "image_column", where)
    others = [name for name in names if name != image]
    caption = _asked(names, caption_column, where) or _ranked(others, CAPTION_COLUMNS) or _of_classes(others)
    if caption is None and len(others) == 1:
        caption = others[0]
    if caption is None:
        raise _not_found(names, "caption", "caption_column", where)
    several = [name for name in others if _plain(name) == _plain(caption)]
    return image, several if caption_column is None else [caption]


def require_few(number: int, where: str) -> None:
    """DataError where there are more columns than any table has."""
    if number > _MOST:
        raise DataError(f"{where} has {number:,} columns; wanted at most {_MOST:,}.")


def usual_columns(names: Sequence[str]) -> bool:
    """Whether both a picture's and a caption's column have usual names."""
    try:
        choose_columns(names, None, None, "")
    except DataError:
        return False
    return True


def names_a_picture(cell: Any) -> bool:
    """Whether a cell is a name of a picture's file."""
    return isinstance(cell, str) and len(cell) < 4096 and bool(_PICTURE_FILE.fullmatch(cell.strip()))


def spell_columns(columns: Columns) -> str:
    """The columns in words."""
    said = f"{columns[0]} (picture) and {', '.join(columns[1])}"
    return f"{said} (class, whose name is the caption)" if names_a_class(columns[1][0]) else f"{said} (caption)"


def names_a_class(column: str) -> bool:
    """Whether a column holds the names of classes, and not captions."""
    return bool(CLASS_COLUMNS.fullmatch(_plain(column))) and not is_caption(column)


def _asked(names: Sequence[str], asked: str | None, where: str) -> str | None:
    if asked is not None and asked not in names:
        raise DataError(f"{where} has no column {asked!r}; its columns are {_listed(names)}.")
    return asked


def _ranked(names: Sequence[str], rules: Sequence[re.Pattern[str]]) -> str | None:
    captions = rules is CAPTION_COLUMNS
    candidates = [name for name in names if not captions or not _NO_CAPTION.fullmatch(_plain(name))]
    return next((name for rule in rules for name in candidates if rule.fullmatch(_plain(name))), None)


def is_caption(name: str) -> bool:
    """Whether a column of this name holds captions."""
    return any(rule.fullmatch(_plain(name)) for rule in CAPTION_COLUMNS)


def _of_files(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str | None:
    return next((name for name in names if rows and all(names_a_picture(row.get(name)) for row in rows)), None)


def _of_classes(names: Sequence[str]) -> str | None:
    return next((name for name in names if CLASS_COLUMNS.fullmatch(_plain(name))), None)


def _not_found(names: Sequence[str], what: str, option: str, where: str) -> DataError:
    return DataError(
        f"{where}: no column looks like the {what}'s; its columns are {_listed(names)}.",
        remedy=["Set ", Setting(option, "NAME"), "."],
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"{name:.{_LONGEST}}" for name in names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")


def _plain(name: str) -> str:
    """`Caption_0` -> caption: one of several numbered columns, in lower case. "" where it can be no column's name."""
    if len(name) > _LONGEST:
        return ""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip())
    return re.sub(r"_?\d+$", "", re.sub(r"[\s\-.]+", "_", words).lower())
