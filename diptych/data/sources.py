"""Where pairs come from: what a person names, as a source that is read one sample at a time or a shard at a time."""

import glob
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from diptych.data.folders import FolderSource
from diptych.data.hub import STREAMED, WHOLE, open_hub
from diptych.data.parquet import open_parquet
from diptych.data.remote import fetch_tar
from diptych.data.samples import DataError, Sample, Source, Stream, captions_in, spell_counts
from diptych.data.shards import ShardSource, expand_braces
from diptych.data.stream import fetched
from diptych.data.tables import TABLES, open_table

__all__ = ["DataError", "Sample", "Source", "Stream", "all_captions", "open_source"]

ENOUGH_CAPTIONS = 1_000_000  # a tokenizer would learn little from more
FORMS = (
    "a folder of tar shards, of Parquet files, of pictures with a .txt or .json caption file of the same name beside "
    "each, or of a folder for each class; tar shards by name, pattern (*.tar, {0000..0031}.tar) or http(s) address; a "
    ".csv, .tsv, .jsonl or .parquet table; hf://OWNER/NAME:SPLIT"
)


def open_source(
    spec: str | Path, *, image_column: str | None = None, caption_column: str | None = None
) -> Source | Stream:
    """The pairs that `spec` names: one of FORMS.

    Shards behind http(s) and `hf-stream://OWNER/NAME:SPLIT` are a Stream, and so are large Parquet files with pictures
    inside; all else is a Source, which can be indexed. The columns of a table are guessed from usual names where they
    are not named. Raises DataError that says what was looked for where nothing usable is there.
    """
    text = str(spec)
    if text.startswith((WHOLE, STREAMED)):
        return _require_pairs(open_hub(text, image_column, caption_column), spec)
    if re.match("https?://", text, re.I):
        return _addresses(text)
    if Path(spec).is_dir():
        return _require_pairs(_open_folder(Path(spec), image_column, caption_column), spec)
    return _require_pairs(_open_files(text, image_column, caption_column), spec)


def _open_folder(folder: Path, image_column: str | None, caption_column: str | None) -> Source | Stream:
    if shards := sorted(folder.glob("*.tar")):
        return ShardSource(shards)
    if (folder / "state.json").exists() and (folder / "dataset_info.json").exists():
        return open_hub(f"{WHOLE}{folder}:train", image_column, caption_column)
    if tables := sorted(folder.rglob("*.parquet")):
        return open_parquet(tables, image_column, caption_column)
    if image_column or caption_column:
        raise DataError(f"{folder} is a folder without Parquet files and has no columns; name the table in it.")
    return FolderSource(folder)


def _open_files(spec: str, image_column: str | None, caption_column: str | None) -> Source | Stream:
    paths = [Path(spec)] if Path(spec).is_file() else _matching(spec)
    if not paths:
        raise DataError(f"{spec} is neither a folder, nor a file, nor a pattern that matches any; wanted {FORMS}.")
    kinds = {path.suffix.lower() for path in paths}
    if kinds == {".parquet"}:
        return open_parquet(paths, image_column, caption_column)
    if len(paths) == 1 and kinds <= TABLES.keys():
        return open_table(paths[0], image_column, caption_column)
    if len(kinds) > 1 or kinds & TABLES.keys():
        raise DataError(f"{spec} names {len(paths)} files ({', '.join(sorted(kinds))}); name tables one by one.")
    return ShardSource(paths)


def _matching(spec: str) -> list[Path]:
    """The files that a pattern matches. DataError where braces spell out the name of one that is not there."""
    names = expand_braces(spec)
    found = {name: glob.glob(name, recursive=True) for name in names}
    missing = [name for name, paths in found.items() if not paths and not re.search(r"[*?[]", name)]
    if missing and len(names) > 1:
        listed = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise DataError(f"{spec}: {len(missing)} of the {len(names)} files that it names are not there ({listed}).")
    return sorted(Path(path) for paths in found.values() for path in paths)


def _addresses(spec: str) -> Stream:
    shards = expand_braces(spec)
    if not re.search(r"\.tar($|[?#])", shards[0], re.I):
        raise DataError(f"{spec}: over http(s) tar shards are read; wanted an address that ends in .tar.")
    return Stream(shards, fetch_tar, f"{len(shards)} tar shards, fetched as they are read")


def _require_pairs(source: Source | Stream, spec: str | Path) -> Source | Stream:
    if isinstance(source, Stream) or len(source):
        return source
    skipped = spell_counts(source.skipped)
    raise DataError(f"{spec} holds no pairs{f' ({skipped})' if skipped else ''}; wanted {FORMS}.")


def all_captions(source: Source | Stream) -> Iterator[str]:
    """Every caption of a source, for training a tokenizer; of a stream, shard by shard, the first ENOUGH_CAPTIONS.

    Samples and shards that cannot be read are passed over: the loader meets them again, and counts them.
    """
    if not isinstance(source, Stream):
        yield from captions_in(source)
        return
    left = ENOUGH_CAPTIONS
    for shard in source.shards:
        try:
            captions = list(islice(captions_in(fetched(source, shard)), left))
        except (DataError, OSError):
            continue
        yield from captions
        if (left := left - len(captions)) <= 0:
            return
