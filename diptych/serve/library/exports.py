"""Selections as files: lists, tables, contact sheets, and archives of links."""

from __future__ import annotations

import csv
import io
import os
import stat
import threading
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from diptych.display.plots import contact_sheet
from diptych.errors import ImageError
from diptych.serve.library.files.thumbnails import width_of
from diptych.serve.library.items import ItemView, below, shown
from diptych.serve.web.deadline import remaining_s, too_late
from diptych.serve.web.problems import encoded, invalid

if TYPE_CHECKING:
    from diptych.index.catalog.catalog import Item
    from diptych.serve.library.files.thumbnails import Thumbnails

MOST_ON_SHEET = 200
_drawing = threading.Lock()  # one sheet at a time: a large one takes some hundred megabytes
_COLUMNS = (
    "path", "kind", "at_s", "width", "height", "size", "taken_at", "latitude", "longitude", "camera", "caption",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would compute


def path_list(items: Sequence[Item], root: Path | None, subfolder: str = "") -> bytes:
    """A path a line, in the bytes of the disk; below `root`, if it is given, else relative to `subfolder`. A name with
    a line break is left out."""
    paths = dict.fromkeys(
        os.fsencode(below(subfolder, item.path) if root is None else root / item.path) for item in items
    )
    return b"".join(path + b"\n" for path in paths if b"\n" not in path)


def table(items: Sequence[Item], scores: dict[int, float], view: ItemView) -> bytes:
    """A CSV table in UTF-8. Text that a spreadsheet would take for a formula begins with an apostrophe."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow([*_COLUMNS, "score"])
    for item in items:
        fields = view.of(item)
        row = [_cell(fields[name]) for name in _COLUMNS]
        writer.writerow([*row, scores.get(item.id, "")])
    return file.getvalue().encode("utf-8", "replace")


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def as_json(items: Sequence[Item], view: ItemView) -> bytes:
    """The items as answers show them."""
    return encoded({"items": [view.of(item) for item in items]})


def sheet(items: Sequence[Item], thumbnails: Thumbnails, *, title: str, columns: int, size_px: int) -> bytes:
    """A contact sheet as PNG; pictures that cannot be read are left out. Raises RequestProblem for too many."""
    if len(items) > MOST_ON_SHEET:
        raise invalid(f"a sheet holds {MOST_ON_SHEET} pictures; {len(items):,} are wanted.", "items")
    tiles = list(_tiles(items, thumbnails, size_px))
    if not tiles:
        raise invalid("none of these can be drawn.", "items")
    file, left_s = io.BytesIO(), remaining_s()
    if not _drawing.acquire(timeout=-1 if left_s is None else left_s):
        raise too_late()
    try:
        contact_sheet(tiles, title=title, columns=columns, size_px=size_px, are_names=True).save(file, "PNG")
    finally:
        _drawing.release()
    return file.getvalue()


def _tiles(items: Sequence[Item], thumbnails: Thumbnails, size_px: int) -> Iterator[tuple[Image.Image, str]]:
    for item in items:
        if item.kind != "text":
            try:
                jpeg = thumbnails.get(item, width_of(size_px))
            except ImageError:
                continue
            name = shown(os.path.basename(item.path))
            yield Image.open(io.BytesIO(jpeg)), "".join(each if each.isprintable() else "\ufffd" for each in name)


def links(items: Sequence[Item], root: Path) -> bytes:
    """A ZIP file of symbolic links to the files, each under its own name, with a number where several share it."""
    file, names = io.BytesIO(), set[str]()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in dict.fromkeys(item.path for item in items):
            entry = zipfile.ZipInfo(_free_name(shown(os.path.basename(path)), names))
            entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16  # as Unix marks a link
            archive.writestr(entry, os.fsencode(root / path))
    return file.getvalue()


def _free_name(name: str, taken: set[str]) -> str:
    name = "".join(each if each.isprintable() and each not in "/\\" else "_" for each in name)
    stem, ending = os.path.splitext(name)
    number = 1
    while name.casefold() in taken:
        number += 1
        name = f"{stem} ({number}){ending}"
    taken.add(name.casefold())
    return name
