"""metrics.jsonl: the numbers of a run, one JSON object per line.

A row of training, for each of the first 50 steps and then every tenth:
    step            optimizer steps so far, from 1
    epoch           passes over the data so far, with the fraction
    elapsed_s       seconds of training so far, also before interruptions
    loss            the mean over the steps since the last such row
    chance          the loss at chance level: about ln(batch)
    places          the region loss of the last step, with region_weight
    lr              learning rate of this step
    scale           factor of the cosines: 1 / temperature
    gradient_norm   before clipping
    pictures_per_s  over the last half minute, all processes together
    waiting         share of that time spent waiting for data, 0 to 1

A row of an evaluation: step, epoch and elapsed_s, and in percent `text_to_image` and `image_to_text`, each
[recall@1, recall@5, recall@10].

A number that is not finite is null. A run resumed at a step drops the rows after it, so no step is twice in the file.
"""

import json
import math
from pathlib import Path
from typing import Any, TextIO

from diptych.errors import ArgumentError
from diptych.storage.atomic import atomic_write_text
from diptych.storage.output_files import open_for_append
from diptych.untrusted.json import parse_json

FILE = "metrics.jsonl"
MetricsRow = dict[str, Any]


def read_metrics(folder: Path) -> list[MetricsRow]:
    """The rows of a run in its folder, without an incomplete last line of a killed run.

    Raises FileNotFoundError if there is no file, ValueError for a file of another kind.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {FILE}; wanted the folder of a training run.")
    rows = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            row = parse_json(line)
            rows.append({**row, "step": int(row["step"])})
        except (ValueError, KeyError, TypeError, OverflowError):
            if number < len(lines):
                raise ArgumentError(f"{path}, line {number} is not a row of metrics: {line[:60]!r}") from None
    return rows


def append_metrics(folder: Path, resumed_step: int | None = None) -> tuple[TextIO, list[MetricsRow]]:
    """The file, open for appending, and the rows in it: none for a new run, those up to `resumed_step` for a resumed
    one. A kill leaves the old or the new file, complete."""
    path = folder / FILE
    folder.mkdir(parents=True, exist_ok=True)
    resumes = resumed_step is not None and path.is_file()
    kept = [row for row in read_metrics(folder) if row["step"] <= resumed_step] if resumes else []
    atomic_write_text(path, "".join(map(to_line, kept)))
    return open_for_append(path), kept


def to_line(row: MetricsRow) -> str:
    """One line of JSON."""
    return json.dumps(_plain(row), allow_nan=False, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    """Numbers of numpy and torch as Python's; None for non-finite ones."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
