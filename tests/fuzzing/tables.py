"""Tables about pictures: CSV, TSV, lines of JSON, COCO's JSON, and Parquet; sidecars in a folder."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .case import Case, write_precious
from .files import file_changed, files_below
from .pairs import command, open_one_model, picture
from .values import anything, as_text, damaged, json_with_changes, outside, text

FORMS = ("csv", "tsv", "jsonl", "json", "coco", "parquet", "inside", "folder")
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252")
Rows = list[dict[str, Any]]


class Tables:
    """A folder of six pictures and a table of them in one of FORMS."""

    def __init__(self, home: Path):
        self._home = home
        open_one_model(home / "model")

    def case(self, folder: Path, choice: Random) -> Case:
        """One to four changes to rows, then perhaps to the bytes."""
        precious, pairs = write_precious(self._home), folder / "pairs"
        pairs.mkdir()
        for key in range(6):
            (pairs / f"{key}.png").write_bytes(picture(key))
        os.mkfifo(pairs / "pipe.png")
        form = choice.choice(FORMS)
        if form == "folder":
            changes, source = _sidecars(pairs, precious, choice), pairs
        else:
            (pairs / "pipe.png").unlink() if choice.random() < 0.7 else None
            changes, source = _table(pairs, form, precious, choice)
            source = choice.choice((source, source, pairs))
        return Case([form, *changes], [command(source, folder / "out", choice)], [folder / "out"])


def _sidecars(pairs: Path, precious: Path, choice: Random) -> list[str]:
    """A caption file beside each picture, of which some are changed."""
    (pairs / "pipe.png").unlink()
    for key in range(6):
        ending = choice.choice((".txt", ".json", ".caption", ".png.txt"))
        said = {"caption": f"thing {key}"}
        (pairs / f"{key}{ending}").write_text(json.dumps(said) if ending == ".json" else f"thing {key}\n")
    changes = []
    for _ in range(choice.choice((1, 2, 4))):
        path = choice.choice(files_below(pairs) or [pairs / "0.png"])
        if path.suffix == ".json" and path.is_file() and not path.is_symlink():
            path.write_text(json.dumps({"caption": anything(choice), "text": text(choice)}))
            changes.append(f"{path.name} says something else")
        elif path.suffix == ".txt" and choice.random() < 0.5 and not path.is_symlink() and path.is_file():
            path.write_bytes(as_text(choice))
            changes.append(f"{path.name} says something else")
        else:
            changes.append(file_changed(path, precious, choice))
    return changes


def _table(pairs: Path, form: str, precious: Path, choice: Random) -> tuple[list[str], Path]:
    rows: Rows = [{"image": f"{key}.png", "caption": f"thing {key}"} for key in range(6)]
    changes = [_row(rows, precious, choice) for _ in range(choice.choice((0, 1, 2, 4)))]
    path = pairs / {"coco": "captions.json", "inside": "pairs.parquet"}.get(form, f"pairs.{form}")
    try:
        content = _written(rows, form, choice)
    except (ValueError, TypeError, OverflowError, csv.Error, pa.ArrowException) as error:
        changes.append(f"but no {form} can say so ({str(error)[:60]})")
        content = as_text(choice)
    if not changes or choice.random() < 0.3:
        content = damaged(content, choice)
        changes.append("other bytes")
    path.write_bytes(content)
    return changes, path


def _row(rows: Rows, precious: Path, choice: Random) -> str:
    """One cell is another, or a row, or a column's name."""
    row, way = choice.choice(rows), choice.randrange(8)
    if way < 2:
        names = (
            outside(str(precious), choice),
            "/dev/zero",
            "/dev/stdin",
            "pipe.png",
            ".",
            "..",
            "/proc/self/mem",
            text(choice),
        )
        row["image"] = choice.choice(names)
        return f"an image is {str(row['image'])[:60]!r}"
    if way < 4:
        row["caption"] = choice.choice((text(choice), anything(choice)))
        return f"a caption is {type(row['caption'])!s}"
    if way == 4:
        row["image"] = anything(choice)
        return f"an image is {type(row['image'])!s}"
    if way == 5:
        name, new = choice.choice(("image", "caption")), text(choice)[:2000]
        for each in rows:
            each[new] = each.pop(name, None)
        return f"{name} is called {new[:40]!r}"
    if way == 6:
        row[text(choice)[:2000]] = anything(choice)
        return "a row has one more"
    rows[:] = rows[: choice.randrange(1, 7)] * choice.choice((1, 1, 50))
    return f"{len(rows)} rows"


def _written(rows: Rows, form: str, choice: Random) -> bytes:
    if form in ("csv", "tsv"):
        return _separated(rows, "," if form == "csv" else "\t", choice)
    if form == "jsonl":
        lines = [json.dumps(row) for row in rows]
        if choice.random() < 0.2:
            lines[choice.randrange(len(lines))] = '{"image": "1.png", "caption": ' + "[" * 50_000 + "]" * 50_000 + "}"
        return "\n".join(lines).encode("utf-8", "surrogatepass")
    if form == "coco":
        return json.dumps(_coco(rows, choice)).encode()
    if form == "json":
        return json.dumps(json_with_changes(rows, choice)[0] if choice.random() < 0.5 else rows).encode()
    return _parquet(rows, inside=form == "inside", choice=choice)


def _separated(rows: Rows, mark: str, choice: Random) -> bytes:
    file = io.StringIO(newline="")
    names = list(dict.fromkeys(name for row in rows for name in row))
    quoting = choice.choice((csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC))
    writer = csv.writer(file, delimiter=mark, quoting=quoting)
    writer.writerow(names)
    writer.writerows([[row.get(name, "") for name in names] for row in rows])
    return file.getvalue().encode(choice.choice(ENCODINGS), "replace")


def _coco(rows: Rows, choice: Random) -> Any:
    images = [{"id": at, "file_name": row.get("image"), "width": 8, "height": 9} for at, row in enumerate(rows)]
    annotations = [{"id": at, "image_id": at, "caption": row.get("caption")} for at, row in enumerate(rows)]
    found = {"info": {}, "images": images, "annotations": annotations}
    return json_with_changes(found, choice)[0] if choice.random() < 0.6 else found


def _parquet(rows: Rows, *, inside: bool, choice: Random) -> bytes:
    """A file whose cells are texts, pictures, or of another type."""
    columns: dict[str, Any] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        columns[name] = [row.get(name) for row in rows]
    if inside:
        columns["image"] = [{"bytes": picture(at), "path": f"{at}.png"} for at in range(len(rows))]
        if choice.random() < 0.5:
            cell = choice.choice(columns["image"])
            cell[choice.choice(("bytes", "path"))] = choice.choice((None, b"", damaged(picture(1), choice), b"\xff"))
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, compression=choice.choice(("none", "snappy", "zstd")), row_group_size=2)
    return file.getvalue()
