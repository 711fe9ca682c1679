"""Captions in JSON: an object on each line, a list of objects, captions by picture name, COCO's or Karpathy's form."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from diptych.data.samples import count
from diptych.data.tables.columns import names_a_picture
from diptych.errors import DataError, JSONError
from diptych.text.encoding import BadLines, decoded, open_text
from diptych.untrusted.json import parse_json
from diptych.untrusted.regular_files import read_file

MAX_BYTES = 1 << 30  # of a file

_WANTED = (
    "wanted a list of objects, one that holds captions by the names of pictures, or COCO's `images` and `annotations`"
)


class JsonTable(NamedTuple):
    """A table in JSON: its rows, its kind and its encoding in words."""

    rows: Iterator[dict[str, Any]]
    kind: str
    encoding: str


def open_json_lines(path: Path, skipped: dict[str, int]) -> JsonTable:
    """An object on each line. Other lines are counted in `skipped`."""
    lines, encoding = open_text(path)

    def rows() -> Iterator[dict[str, Any]]:
        bad = BadLines()
        with lines:
            for number, line in enumerate(lines, 1):
                if line.strip() and isinstance(record := _parsed(line), dict):
                    yield record
                elif line.strip():
                    bad.note("damaged line", number)
        lines.tell_of(bad)
        for reason, many in bad.counts():
            count(skipped, reason, many)

    return JsonTable(rows(), "table", encoding)


def open_json(path: Path, skipped: dict[str, int]) -> JsonTable:
    """One JSON value. Raises DataError if it is not JSON or has no pictures with captions."""
    try:
        found = parse_json(decoded(read_file(path, MAX_BYTES)), max_bytes=MAX_BYTES)
    except JSONError as error:
        raise DataError(f"{path} cannot be read as JSON ({error}).", "damaged JSON") from error
    if isinstance(found, Mapping):
        if _are_objects(found.get("images")) and isinstance(found.get("annotations"), list):
            return JsonTable(_coco(path, found, skipped), "COCO's JSON", "UTF-8")
        if _are_objects(found.get("images")) and all("sentences" in image for image in found["images"]):
            return _karpathy(found["images"])
        if columns := _columns(found):
            return JsonTable(columns, "JSON of columns", "UTF-8")
        lists = [value for value in found.values() if _are_objects(value)]
        if len(lists) == 1:
            return JsonTable(iter(lists[0]), "JSON", "UTF-8")
        return JsonTable(_named(path, found), "JSON of captions by name", "UTF-8")
    if not _are_objects(found):
        raise DataError(f"{path} holds no pairs; {_WANTED}.")
    return JsonTable(iter(found), "JSON", "UTF-8")


def _parsed(line: str) -> Any:
    try:
        return parse_json(line)
    except JSONError:
        return None


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _columns(found: Mapping[str, Any]) -> Iterator[dict[str, Any]] | None:
    """Rows of {"image": ["a.jpg", ...], "caption": ["a dog", ...]}, or of pandas's {"image": {"0": "a.jpg", ...}, ...}:
    columns of equal length, one of which has cells that name pictures; no column's own name does."""
    columns = {name: list(value.values()) if isinstance(value, dict) else value for name, value in found.items()}
    if len(columns) < 2 or any(not isinstance(each, list) or not each for each in columns.values()):
        return None
    if len({len(each) for each in columns.values()}) > 1 or any(map(names_a_picture, columns)):
        return None
    if not any(all(isinstance(cell, str) and names_a_picture(cell) for cell in each) for each in columns.values()):
        return None
    return (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))


def _coco(path: Path, found: Mapping[str, Any], skipped: dict[str, int]) -> Iterator[dict[str, Any]]:
    """COCO's caption format: `annotations` refer to a picture by its id in `images`."""
    notes = [note for note in found["annotations"] if isinstance(note, dict)]
    if notes and not any("caption" in note for note in notes):
        raise DataError(f"{path} has COCO's form and no captions in its annotations; wanted a captions_*.json.")
    files = {key: image.get("file_name") for image in found["images"] if (key := _key(image.get("id"))) is not None}
    for note in notes:
        key = _key(note.get("image_id"))
        yield {"file_name": None if key is None else files.get(key), "caption": note.get("caption")}


def _key(number: Any) -> str | None:
    """An id as a dict key; None if it is neither an integer nor a string. Integers become digits, because integers can
    be chosen to collide in a dict, which then takes quadratic time."""
    return str(number) if isinstance(number, int | str) else None


def _karpathy(images: Iterable[Mapping[str, Any]]) -> JsonTable:
    """The splits of Karpathy and Fei-Fei 2015: each picture has sentences with `raw` texts."""
    listed = list(images)
    held = Counter(str(image["split"]) for image in listed if image.get("split") in ("test", "val"))
    taken = [image for image in listed if image.get("split") not in ("test", "val")] or listed
    omitted = ", ".join(f"{number:,} {split}" for split, number in held.items()) if len(taken) < len(listed) else ""

    def rows() -> Iterator[dict[str, Any]]:
        for image in taken:
            name = os.path.join(str(image.get("filepath") or ""), str(image.get("filename") or ""))
            sentences = image["sentences"] if isinstance(image["sentences"], list) else []
            yield {"file_name": name, "caption": [each.get("raw") for each in sentences if isinstance(each, dict)]}

    return JsonTable(rows(), f"Karpathy's JSON{f' ({omitted} left out)' if omitted else ''}", "UTF-8")


def _named(path: Path, found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """{"a.jpg": "a dog"}, {"a.jpg": ["a dog", ...]} or {"a.jpg": {"caption": "a dog"}}."""
    kinds = Counter(type(value) for value in found.values())
    rows: list[dict[str, Any]] = []
    for name, value in found.items():
        if isinstance(value, dict):
            rows.append({"file_name": name, **value})
        elif isinstance(value, str | list):
            rows.append({"file_name": name, "caption": value})
    if not rows or len(rows) < len(found) or len(kinds) > 2 or not (any(map(names_a_picture, found)) or len(rows) > 20):
        raise DataError(f"{path} holds no pairs; {_WANTED}.")
    return iter(rows)
