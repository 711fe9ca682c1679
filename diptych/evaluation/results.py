"""results.jsonl: a row for each model, data set and task, one JSON object a line.

key          a hash of what the numbers depend on; a row that is there is not made again
task, dataset, model, fingerprint
shift_of     the data set that this one is a shift of, or None; details.base of its zero-shot row is then the accuracy
             on that one (`top1`, of `count` pictures in `classes` classes of its `of`), or the `problem` with it
metrics      numbers in percent (but l2, and median ranks), by name
settings     split, templates, seed, ...
count        pictures that were judged; `failures` counts, by reason, what could not be read
details      classes, confusion, curve, ... as the task has them; `per_item` names an .npz beside this file, with a
             number for each item; `prompts` what the classes' names were put into; `best` and `worst` have a
             thumbnail beside this file, truth, said and score; `left_out` has a sentence on the first picture that
             could not be read, for each reason
seconds, started, version, engine
error        None, or a sentence on why the task could not be done; it is then tried again the next time
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
MOST_BYTES = 1 << 30  # of the numbers of a row's items, once they are unpacked
BROKEN = (ArithmeticError, LookupError, OSError, TypeError, ValueError, AttributeError, EOFError, MemoryError,
          RecursionError, zipfile.BadZipFile, zlib.error)  # fmt: skip
Row = dict[str, Any]
PLACE = ("model", "fingerprint", "dataset", "task")


def inside(folder: Path, name: str) -> Path:
    """A file of an evaluation's folder. Raises ArgumentError where a row names another."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ArgumentError(f"{name} lies outside of {folder}")
    return path


def arrays_in(folder: Path, name: str, ending: str = "") -> dict[str, np.ndarray]:
    """The arrays of a row's .npz whose names end so. Raises one of BROKEN where it is none, or unpacks to more than
    MOST_BYTES."""
    with open_file(inside(folder, name)) as opened, np.load(opened, allow_pickle=False) as file:
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ArgumentError(f"{name} is no .npz")
        if (size := sum(each.file_size for each in file.zip.infolist()) if file.zip else 0) > MOST_BYTES:
            raise ArgumentError(f"{name} unpacks to {size:,} bytes; at most {MOST_BYTES:,} are read")
        return {key: file[key] for key in file.files if key.endswith(ending)}


def read_results(place: str | os.PathLike[str]) -> list[Row]:
    """The rows of a folder, or of a results.jsonl. A last line that a killed run has torn is left out, and so is a row
    with an error that a later one made good. Raises FileNotFoundError where there is no such file, DataError for one
    that is something else."""
    path = Path(place) / FILE if Path(place).is_dir() else Path(place)
    if not path.is_file():
        raise FileNotFoundError(
            f"{place} holds no {FILE}; wanted a folder that `diptych evaluate` wrote, or that file."
        )
    rows: list[Row] = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        row = _row(line)
        if row is not None:
            rows.append(row)
        elif number < len(lines):
            raise DataError(f"{path}, line {number} is no row of an evaluation: {line[:60]!r}")
    return standing(rows)


def _row(line: str) -> Row | None:
    try:
        row = parse_json(line)
    except ValueError:
        return None
    whole = isinstance(row, dict) and {"key", "task", "dataset", "metrics"} <= row.keys()
    return row if whole else None


def standing(rows: Iterable[Row]) -> list[Row]:
    """Rows without errors, and of each model, set and task without such a row the last error."""
    rows = list(rows)
    done = {_place(row) for row in rows if row.get("error") is None}
    last = {_place(row): at for at, row in enumerate(rows)}
    return [
        row
        for at, row in enumerate(rows)
        if row.get("error") is None or (_place(row) not in done and last[_place(row)] == at)
    ]


def _place(row: Row) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in PLACE)


def begin(out: Path, model: str, datasets: Collection[str]) -> list[Row]:
    """The rows of an earlier run, and the file whole: without a torn line, so that another can follow, and without the
    errors of what this model is now tried on again."""
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


def append(out: Path, row: Row) -> None:
    """One more row, on the disk when this returns."""
    with open_for_append(out / FILE) as file:
        file.write(to_line(row))
        file.flush()
        os.fsync(file.fileno())


def plain(row: Row) -> Row:
    """The row as it reads back: arrays as lists, None for a number that is not finite."""
    return json.loads(to_line(row))
