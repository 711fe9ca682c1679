"""Which pairs were removed from which shards: removed.jsonl, without a word of what they were.

It lets indexes and models be looked through later. A line is a shard: the marks of its versions that had the pairs (see
`data.sources.provenance`), and the file name of each pair's picture with a salted hash of the bytes that an index knows
it by.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from diptych.errors import DataError, JSONError
from diptych.storage.atomic import atomic_write_text
from diptych.storage.output_files import refuse_link
from diptych.untrusted.json import parse_json
from diptych.untrusted.regular_files import read_file

REMOVED = "removed.jsonl"


class RemovedPairs(NamedTuple):
    """Pairs that were removed from a shard."""

    shard: str
    marks: frozenset[str]
    pictures: dict[str, str]


def read_removed(out: Path) -> dict[str, RemovedPairs]:
    """What was removed from a collection, by shard. Raises DataError for a damaged file."""
    path = out / REMOVED
    if not path.exists():
        return {}
    try:
        lines = [parse_json(line) for line in read_file(path).splitlines()]
        rows = [(str(line["shard"]), frozenset(line["marks"]), dict(line["pictures"])) for line in lines]
        return {shard: RemovedPairs(shard, marks, pictures) for shard, marks, pictures in rows}
    except (OSError, JSONError, LookupError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}); restore it from a copy.", "damaged list") from error


def add_removed(out: Path, removed: Iterable[RemovedPairs]) -> dict[str, RemovedPairs]:
    """Add to what was removed, and return all of it. Earlier versions of a shard had what its later ones have."""
    every = read_removed(out)
    for shard, marks, pictures in removed:
        before = every.get(shard, RemovedPairs(shard, frozenset(), {}))
        every[shard] = RemovedPairs(shard, before.marks | marks, before.pictures | pictures)
    lines = [json.dumps({**each._asdict(), "marks": sorted(each.marks)}) for each in every.values()]
    if lines:
        refuse_link(out / REMOVED)
        atomic_write_text(out / REMOVED, "\n".join(lines) + "\n")
    return every
