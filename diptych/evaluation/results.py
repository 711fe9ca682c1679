"""results.jsonl: one row for each model, data set and task, as a JSON object on a line.

key          a hash of everything that the metrics depend on; an existing row is not computed again
task, dataset, model, fingerprint
shift_of     the base data set of a distribution shift, or None; details.base of the zero-shot row then has the accuracy
             on the base (`top1`, on `count` pictures of `classes` out of `of` classes), or the `problem` with it
metrics      numbers by name, in percent except for l2 and median ranks
settings     split, templates, seed, ...
count        evaluated pictures; `failures` counts unreadable ones by reason
details      classes, confusion, curve, ... depending on the task; `per_item` is the path of an .npz with a number for
             each item; `prompts` are the templates of class names; `best` and `worst` are examples with the path of a
             thumbnail, the true and the predicted label (`said`) and a score; `left_out` has the message of the first
             unreadable picture for each reason
seconds, started, version, engine
error        None, or why the task failed; it is then tried again in the next run
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from diptych.errors import ArgumentError, DataError
from diptych.storage.atomic import atomic_write_text
from diptych.storage.output_files import open_for_append
from diptych.training.run.metrics_file import to_line
from diptych.untrusted.json import parse_json
from diptych.untrusted.regular_files import open_file

FILE = "results.jsonl"
MAX_ITEM_BYTES = 1 << 30  # uncompressed size of a row's .npz
BROKEN = (ArithmeticError, LookupError, OSError, TypeError, ValueError, AttributeError, EOFError, MemoryError,
          RecursionError, zipfile.BadZipFile, zlib.error)  # fmt: skip
ResultRow = dict[str, Any]
ROW_KEY = ("model", "fingerprint", "dataset", "task")


def inside(folder: Path, name: str) -> Path:
    """A path in an evaluation's folder. Raises ArgumentError if it leads out of the folder."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ArgumentError(f"{name} is outside {folder}")
    return path


def arrays_in(folder: Path, name: str, ending: str = "") -> dict[str, np.ndarray]:
    """The arrays of a row's .npz whose names end with `ending`. Raises one of BROKEN if the file is invalid or unpacks
    to more than MAX_ITEM_BYTES."""
    with open_file(inside(folder, name)) as opened, np.load(opened, allow_pickle=False) as file:
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ArgumentError(f"{name} is not an .npz file")
        if (size := sum(each.file_size for each in file.zip.infolist()) if file.zip else 0) > MAX_ITEM_BYTES:
            raise ArgumentError(f"{name} unpacks to {size:,} bytes; at most {MAX_ITEM_BYTES:,} are read")
        return {key: file[key] for key in file.files if key.endswith(ending)}


def read_results(path: str | os.PathLike[str]) -> list[ResultRow]:
    """The rows of a folder or a results.jsonl, without an incomplete last line and without errors that a later row
    supersedes. Raises FileNotFoundError for a missing file, DataError for an invalid one."""
    path = Path(path) / FILE if Path(path).is_dir() else Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} holds no {FILE}; wanted a folder that `diptych evaluate` wrote, or that file.")
    rows: list[ResultRow] = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        row = _row(line)
        if row is not None:
            rows.append(row)
        elif number < len(lines):
            raise DataError(f"{path}, line {number} is not a result row: {line[:60]!r}")
    return completed_rows(rows)


def _row(line: str) -> ResultRow | None:
    try:
        row = parse_json(line)
    except ValueError:
        return None
    whole = isinstance(row, dict) and {"key", "task", "dataset", "metrics"} <= row.keys()
    return row if whole else None


def completed_rows(rows: Iterable[ResultRow]) -> list[ResultRow]:
    """Rows without errors, and the last error of each model, data set and task that has no such row."""
    rows = list(rows)
    done = {_row_key(row) for row in rows if row.get("error") is None}
    last = {_row_key(row): at for at, row in enumerate(rows)}
    return [
        row
        for at, row in enumerate(rows)
        if row.get("error") is None or (_row_key(row) not in done and last[_row_key(row)] == at)
    ]


def _row_key(row: ResultRow) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in ROW_KEY)


def begin(out: Path, model: str, datasets: Collection[str]) -> list[ResultRow]:
    """The rows of earlier runs. Rewrites the file without an incomplete line and without the errors of the data sets
    that this model is about to be run on."""
    path = out / FILE
    if not path.is_file():
        return []
    rows = [
        row
        for row in read_results(path)
        if not row.get("error") or row.get("model") != model or row["dataset"] not in datasets
    ]
    atomic_write_text(path, "".join(map(to_line, rows)))
    return rows


def append(out: Path, row: ResultRow) -> None:
    """Appends a row and flushes it to the disk."""
    with open_for_append(out / FILE) as file:
        file.write(to_line(row))
        file.flush()
        os.fsync(file.fileno())


def plain(row: ResultRow) -> ResultRow:
    """The row as JSON reads it back: arrays become lists, and numbers that are not finite become None."""
    return json.loads(to_line(row))
