"""Which data a run has seen: data.json in its folder, so that a removal from the data can name the models."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from diptych.data.sources.provenance import MarkedFile, marked_files
from diptych.errors import JSONError
from diptych.storage.atomic import atomic_write_text
from diptych.storage.output_files import refuse_link
from diptych.untrusted.json import parse_json
from diptych.untrusted.regular_files import read_file

SEEN = "data.json"


class SeenData(NamedTuple):
    """The sources of a run, folders as absolute paths; the marked files in them at each of its starts (see
    `diptych.data.sources.provenance`); and the model that it started from, "" if it started from none."""

    sources: tuple[str, ...] = ()
    files: tuple[MarkedFile, ...] = ()
    init: str = ""


def note_data(out: Path, sources: Iterable[str], init: str | None = None) -> None:
    """Add what a run sees now to its data.json: a resumed run may find other shards than before."""
    before = seen_data(out) or SeenData()
    names = dict.fromkeys([*before.sources, *map(_absolute, sources)])
    files = dict.fromkeys([*before.files, *(each for source in sources for each in marked_files(source))])
    content = {
        "sources": list(names),
        "init": _absolute(init) if init else before.init,
        "files": [{"path": str(each.path), "mark": each.mark} for each in files],
    }
    refuse_link(out / SEEN)
    atomic_write_text(out / SEEN, json.dumps(content, indent=1) + "\n")


def seen_data(run: str | os.PathLike[str]) -> SeenData | None:
    """What a run has noted; None if it has not, or the file is damaged."""
    try:
        content = parse_json(read_file(Path(run) / SEEN))
        files = tuple(MarkedFile(Path(str(each["path"])), str(each["mark"])) for each in content["files"])
        return SeenData(tuple(map(str, content["sources"])), files, str(content["init"]))
    except (OSError, JSONError, LookupError, TypeError):
        return None


def _absolute(source: str) -> str:
    return source if "://" in source or not os.path.exists(source) else os.path.abspath(source)
