"""The datasheet of a collection: datasheet.json has the facts, datasheet.md the same in the sections of Gebru et al.,
"Datasheets for Datasets" (Communications of the ACM 64(12), 2021), as far as a program can know them."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from diptych import __version__
from diptych.collect.output.forgotten import Forgotten
from diptych.collect.output.removed import read_removed
from diptych.collect.output.run_log import RunRecord, read_runs
from diptych.collect.output.shard_writer import shard_files
from diptych.display.counting import counted
from diptych.display.escaping import escape_control_characters
from diptych.errors import DataError
from diptych.extras import require
from diptych.storage.atomic import atomic_write_text
from diptych.storage.output_files import refuse_link

SHEET = "datasheet"
_COLUMNS = (
    "url", "page_url", "origins", "language", "licence", "time", "suffix", "width", "height", "bytes", "flags", "scores"
)  # fmt: skip
_SHOWN = 20  # rows of a table
_MAX_CELL = 80  # characters
_LISTED = 1000  # domains, licences and languages in the JSON
_BATCH = 10_000
_UNKNOWN = "not stated"


def write_datasheet(out: str | os.PathLike[str]) -> dict[str, Any]:
    """Write OUT/datasheet.json and OUT/datasheet.md, and return what the JSON has. Raises DataError for a folder
    without tables of shards."""
    require("the datasheet", "pyarrow")
    out = Path(out)
    facts = _facts(out)
    for ending, text in ((".json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n"), (".md", _markdown(facts))):
        refuse_link(out / f"{SHEET}{ending}")
        atomic_write_text(out / f"{SHEET}{ending}", text)
    return facts


def refresh_datasheet(out: str | os.PathLike[str]) -> None:
    """Write the datasheet again where there is one."""
    if (Path(out) / f"{SHEET}.json").exists():
        write_datasheet(out)


class _Counts:
    """What the rows of the tables say, added up."""

    def __init__(self) -> None:
        self.named = {
            name: Counter[str]()
            for name in ("picture domains", "page domains", "licences", "languages", "formats", "flags", "origins")
        }
        self.numbers: dict[str, list[np.ndarray]] = {name: [] for name in ("width", "height", "bytes")}
        self.scores: dict[str, list[float]] = {}
        self.times: list[datetime] = []
        self.pairs = 0

    def add(self, columns: Mapping[str, list[Any]]) -> None:
        """Add some rows, given by column."""
        named = self.named
        self.pairs += len(columns["url"])
        named["picture domains"].update(map(_host, columns["url"]))
        named["page domains"].update(map(_host, columns["page_url"]))
        named["licences"].update(each or _UNKNOWN for each in columns["licence"])
        named["languages"].update(each or _UNKNOWN for each in columns["language"])
        named["formats"].update(each.removeprefix(".") for each in columns["suffix"])
        for name, lists in (("flags", columns["flags"]), ("origins", columns["origins"])):
            named[name].update(each for row in lists for each in row or ())
        for name, arrays in self.numbers.items():
            arrays.append(np.asarray(columns[name], np.int64))
        for score in (each for row in columns["scores"] for each in row or ()):
            self.scores.setdefault(score["name"], []).append(score["value"])
        if known := [each for each in columns["time"] if each]:
            self.times = [min([*self.times[:1], *known]), max([*self.times[1:], *known])]


def _facts(out: Path) -> dict[str, Any]:
    tables = [path for _, path in shard_files(out) if path.suffix == ".parquet"]
    if not tables:
        raise DataError(f"{out} has no tables of shards; name the folder that `diptych collect` wrote.")
    counts = _Counts()
    for columns in _batches(tables):
        counts.add(columns)
    runs, removed = read_runs(out), read_removed(out)
    return {
        "made": _iso(datetime.now(UTC)),
        "version": __version__,
        "pairs": counts.pairs,
        "shards": sum(path.suffix == ".tar" for _, path in shard_files(out)),
        "captions": sum(counts.named["origins"].values()),
        **{name: dict(each.most_common(_LISTED)) for name, each in counts.named.items()},
        "distinct": {name: len(each) for name, each in counts.named.items()},
        "sizes": {name: _quantiles(np.concatenate(each)) for name, each in counts.numbers.items() if counts.pairs},
        "scores": {name: _quantiles(np.asarray(each)) for name, each in counts.scores.items()},
        "collected": [_iso(time) for time in counts.times],
        "runs": [_run(each) for each in runs],
        "left out": dict(sum((Counter(run.left_out) for run in runs), Counter()).most_common()),
        "removed on request": sum(len(each.pictures) for each in removed.values()),
        "requests remembered": len(Forgotten(out)),
    }


def _batches(tables: Iterable[Path]) -> Iterator[dict[str, list[Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in tables:
        try:
            with pq.ParquetFile(path) as table:
                yield from (each.to_pydict() for each in table.iter_batches(_BATCH, columns=list(_COLUMNS)))
        except (pa.ArrowException, OSError, KeyError) as error:
            raise DataError(f"{path} cannot be read ({error}); `diptych collect forget` writes it anew.") from error


def _run(run: RunRecord) -> dict[str, Any]:
    started, ended = (_iso(datetime.fromtimestamp(each, UTC)) for each in (run.started_s, run.ended_s))
    return {
        "command": run.command, "version": run.version, "flags": dict(run.flags), "started": started, "ended": ended,
        "found": run.found, "kept": run.kept, "left out": dict(run.left_out),
    }  # fmt: skip


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or _UNKNOWN
    except ValueError:
        return _UNKNOWN


def _quantiles(values: np.ndarray) -> dict[str, float]:
    shares = {"least": 0.0, "median": 0.5, "95th percentile": 0.95, "most": 1.0}
    return {name: round(float(np.quantile(values, share)), 4) for name, share in shares.items()}


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="seconds")


# --- the page


def _markdown(facts: Mapping[str, Any]) -> str:
    lines = [
        "# Datasheet",
        f"Written by diptych {facts['version']} on {facts['made']}. The sections are those of Gebru et al., "
        "*Datasheets for Datasets*. What a program cannot know is left to whoever publishes the collection.",
        "## Motivation", "To be written: for what purpose the collection was made, by whom, and who paid for it.",
        *_composition(facts), *_collection(facts), *_cleaning(facts),
        "## Uses", "To be written: what it has been used for, and what it should not be used for. Captions are what "
        "pages say of pictures: they are often wrong, and they repeat what people think of each other.",
        "## Distribution", "Licences are those that pages or lists state, which may be wrong. A picture whose licence "
        f"is {_UNKNOWN} belongs to someone, too: check what the law allows before it is passed on.",
        *_maintenance(facts),
    ]  # fmt: skip
    return "\n\n".join(lines) + "\n"


def _composition(facts: Mapping[str, Any]) -> list[str]:
    text = (
        f"{counted(facts['pairs'], 'pair')} of a picture with {counted(facts['captions'], 'caption')}, in "
        f"{counted(facts['shards'], 'shard')}. "
        "Each has the address of its picture and of its page, the time, the licence and language that were stated, "
        "hashes of the file and of its pixels, its sizes, and where on the page each caption stood."
    )
    sizes = [(name if name == "bytes" else f"{name} in px", each) for name, each in facts["sizes"].items()]
    listed = ("picture domains", "licences", "languages", "formats", "origins", "flags")
    return [
        "## Composition",
        text,
        *_spread("Size of pictures", sizes, ",.0f"),
        *(part for name in listed for part in _counted(name, facts[name], facts["distinct"][name])),
        *_spread("Scores", [(_cell(name), each) for name, each in facts["scores"].items()], "g"),
    ]


def _collection(facts: Mapping[str, Any]) -> list[str]:
    when = " to ".join(facts["collected"]) or "at times that were not noted"
    rows = [
        (_cell(run["command"]), _cell(run["version"]), _cell(run["started"]), _cell(run["ended"]), f"{run['found']:,}",
         f"{run['kept']:,}", _cell(json.dumps(run["flags"], ensure_ascii=False), most=400))
        for run in facts["runs"]
    ]  # fmt: skip
    return [
        "## Collection process",
        f"Pictures were found on the web, {when}. What a site reserves (robots.txt, noai, noimageai, tdm-reservation) "
        "was not collected. The people in pictures were not asked.",
        *_table("Runs", ("command", "version", "from", "to", "found", "kept", "flags"), rows),
    ]


def _cleaning(facts: Mapping[str, Any]) -> list[str]:
    return [
        "## Preprocessing, cleaning, labelling",
        "Pictures are upright, with 8 bits a channel and without transparency. Nothing was labelled by people.",
        *_counted("left out, by rule", facts["left out"], len(facts["left out"])),
    ]


def _maintenance(facts: Mapping[str, Any]) -> list[str]:
    return [
        "## Maintenance",
        f"Removed because someone asked for it: {counted(facts['removed on request'], 'pair')}. Remembered for later "
        f"runs, as salted hashes: {counted(facts['requests remembered'], 'request')}. "
        "`diptych collect forget` removes more, from indexes too, and names the models that were trained on it. To be "
        "written: whom to ask.",
    ]


def _counted(title: str, counts: Mapping[str, int], distinct: int) -> list[str]:
    rows = [(_cell(name), f"{number:,}") for name, number in list(counts.items())[:_SHOWN]]
    more = f" (the first {_SHOWN} of {distinct:,})" if distinct > len(rows) else ""
    return _table(f"{title.capitalize()}{more}", ("", "number"), rows)


def _spread(title: str, rows: list[tuple[str, Mapping[str, float]]], form: str) -> list[str]:
    names = ("", *(rows[0][1] if rows else ()))
    return _table(title, names, [(name, *(format(each, form) for each in values.values())) for name, values in rows])


def _table(title: str, names: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    lines = (names, ("---",) * len(names), *rows)
    return [f"**{title}**", "\n".join(f"| {' | '.join(line)} |" for line in lines)]


def _cell(text: str, most: int = _MAX_CELL) -> str:
    """A text of strangers as a cell: code, in which Markdown and HTML mean nothing."""
    text = escape_control_characters(" ".join(text.split())[:most]).replace("`", "'").replace("|", "\\|")
    return f"`{text}`" if text.strip() else ""
