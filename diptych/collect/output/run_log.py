"""What each run into a collection did: runs.jsonl, from which the datasheet is made."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from diptych import __version__
from diptych.errors import JSONError
from diptych.storage.output_files import open_for_append
from diptych.untrusted.json import parse_json
from diptych.untrusted.regular_files import read_file

RUNS = "runs.jsonl"


@dataclass(frozen=True)
class RunRecord:
    """A run: its `command` (such as "crawl"), its flags by name, when it began and ended (seconds since 1970), how many
    pairs it found and kept, and how many it left out by rule or reason. An interrupted run has a record, too."""

    command: str
    flags: Mapping[str, str | int | float | bool | Sequence[str]]
    started_s: float
    ended_s: float
    found: int
    kept: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    version: str = __version__


def add_run(out: str | os.PathLike[str], record: RunRecord) -> None:
    """Add a run to the log of a collection."""
    line = json.dumps(asdict(record), ensure_ascii=False).encode("utf-8", "replace").decode()
    with open_for_append(Path(out) / RUNS) as file:
        file.write(line + "\n")


def read_runs(out: str | os.PathLike[str]) -> list[RunRecord]:
    """The runs into a collection, in order; lines that a full disk cut are left out."""
    path, runs = Path(out) / RUNS, list[RunRecord]()
    for line in read_file(path).splitlines() if path.exists() else ():
        try:
            runs.append(RunRecord(**parse_json(line)))
        except (JSONError, TypeError):
            continue
    return runs
