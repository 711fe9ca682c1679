"""Chooses the columns of a table that hold pictures and captions: by their usual names, or by their cells."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from diptych.data import column_names
from diptych.data.column_names import MAX_NAME_CHARS, Columns, normalised
from diptych.data.samples import IMAGE_SUFFIXES
from diptych.errors import DataError, Setting

_PICTURE_FILE = re.compile(rf".*({'|'.join(map(re.escape, sorted(IMAGE_SUFFIXES)))})(#\d+)?", re.I | re.S)

_ADDRESS = re.compile(r"https?://\S+", re.I)

_MAX_COLUMNS = 10_000
_MAX_LISTED = 20


def choose_columns(
    names: Sequence[str], image_column: str | None, caption_column: str | None, where: str,
    rows: Sequence[Mapping[str, Any]] = (), *, pairs: bool = True,
) -> Columns:  # fmt: skip
    """The picture's column and those of the captions; `caption_0`, `caption_1`, ... form a group.

    If no column has a usual name, the pictures' column is the one whose cells in `rows` all name picture files, and
    the captions' column the remaining one. Raises DataError, which lists the columns, if a requested one is missing,
    none is found, or there are too many. With `pairs` False there need be no captions, and a column of an unusual name
    is not taken for them.
    """
    require_few(len(names), where)
    image = _requested(names, image_column, where) or column_names.picture_column(names) or _of_files(names, rows)
    if image is None:
        raise _not_found(names, "picture", "image_column", where)
    others = [name for name in names if name != image]
    caption = _requested(names, caption_column, where) or column_names.caption_column(others)
    if caption is None and not pairs:
        return image, []
    if caption is None and len(others) == 1:
        caption = others[0]
    if caption is None:
        raise _not_found(names, "caption", "caption_column", where)
    numbered = [name for name in others if normalised(name) == normalised(caption)]
    return image, numbered if caption_column is None else [caption]


def require_few(number: int, where: str) -> None:
    """Raises DataError if there are too many columns."""
    if number > _MAX_COLUMNS:
        raise DataError(f"{where} has {number:,} columns; wanted at most {_MAX_COLUMNS:,}.")


def usual_columns(names: Sequence[str]) -> bool:
    """Whether both a picture's and a caption's column have usual names."""
    try:
        choose_columns(names, None, None, "")
    except DataError:
        return False
    return True


def names_a_picture(cell: Any) -> bool:
    """Whether a cell is the name of a picture file."""
    return isinstance(cell, str) and len(cell) < 4096 and bool(_PICTURE_FILE.fullmatch(cell.strip()))


def names_an_address(cell: Any) -> bool:
    """Whether a cell is an http or https address and nothing else."""
    return isinstance(cell, str) and len(cell) < 1 << 16 and bool(_ADDRESS.fullmatch(cell.strip()))


def _requested(names: Sequence[str], column: str | None, where: str) -> str | None:
    if column is not None and column not in names:
        raise DataError(f"{where} has no column {column!r}; its columns are {_listed(names)}.")
    return column


def _of_files(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str | None:
    return next((name for name in names if rows and all(names_a_picture(row.get(name)) for row in rows)), None)


def _not_found(names: Sequence[str], content: str, option: str, where: str) -> DataError:
    return DataError(
        f"{where}: no column looks like the {content}'s; its columns are {_listed(names)}.",
        remedy=["Set ", Setting(option, "NAME"), "."],
    )


def _listed(names: Sequence[str]) -> str:
    listed = ", ".join(f"{name:.{MAX_NAME_CHARS}}" for name in names[:_MAX_LISTED])
    return listed + (", ..." if len(names) > _MAX_LISTED else "")
