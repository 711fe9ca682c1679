"""Opens a source of pairs by a folder, a file, a pattern or an address."""

import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

from diptych.data.concat import ConcatSource
from diptych.data.confinement import AllowedFolders, all_outside, left_out
from diptych.data.loading.stream import fetched, indexed
from diptych.data.samples import Sample, Source, Stream, captions_in, count, layout_of, spell_counts
from diptych.data.sources.folders import open_pictures
from diptych.data.sources.hub import STREAMED, WHOLE, open_hub
from diptych.data.sources.object_storage import is_object_address, matching
from diptych.data.sources.remote import fetch_file, fetch_tar
from diptych.data.sources.shards import SHARDS, expand_braces, is_shard, open_shards
from diptych.data.splits import HELD_OUT, TRAIN, choose_split, split_folders
from diptych.data.tables.file_lookup import allowed_for_table, allowed_roots
from diptych.data.tables.parquet import holds_pairs, open_parquet
from diptych.data.tables.table_source import is_table, open_table
from diptych.errors import DataError
from diptych.untrusted.downloading import FetchLimits, shown
from diptych.untrusted.links import walk

__all__ = ["DataError", "Sample", "Source", "Stream", "all_captions", "open_source"]

ENOUGH_CAPTIONS = 1_000_000  # more would hardly improve a tokenizer
FORMS = (
    "a folder of tar shards, of Parquet files, of pictures with a caption file (.txt, .caption, .json) beside each, "
    "with a table that names them (metadata.csv, captions.txt, COCO's JSON), or of a folder for each class; tar shards "
    "by name, pattern (*.tar, {0000..0031}.tar) or http(s) address; a .csv, .tsv, .jsonl, .json or .parquet table; tar "
    "shards or Parquet files at s3://, gs://, az:// or file://; hf://OWNER/NAME:SPLIT"
)


def open_source(
    spec: str | Path, *, image_column: str | None = None, caption_column: str | None = None, held_out: bool = False,
    allow_outside: bool = False, fetch_limits: FetchLimits | None = None,
) -> Source | Stream:  # fmt: skip
    """The pairs in `spec`, which is one of FORMS.

    Shards behind http(s) and in object storage, `hf-stream://OWNER/NAME:SPLIT`, large Parquet files with pictures
    inside and large compressed shards become a Stream; everything else becomes an indexed Source. Columns that are not
    named are chosen by their usual names. If a folder has several splits, the training split is read, or a held-out one
    with `held_out`; the source's form lists the files that were left out. Files that a table or a link refers to must
    be in the folder `spec`, or in the folder of the table `spec` (if that folder is only for tables, in its parent);
    other files are left out and counted, unless `allow_outside` is set. `fetch_limits` are for shards that are fetched,
    by default those of the environment (see `data.sources.remote`). If nothing is usable, raises DataError, which lists
    the accepted forms.
    """
    text, columns = str(spec), (image_column, caption_column)
    if text.startswith((WHOLE, STREAMED)):
        return _require_pairs(open_hub(text, *columns, allow_outside=allow_outside), spec)
    if is_object_address(text):
        return _objects(text, columns, fetch_limits or FetchLimits.from_environment())
    if re.match("https?://", text, re.I):
        return _addresses(text, fetch_limits or FetchLimits.from_environment())
    if Path(spec).is_dir():
        allowed = AllowedFolders([spec], allow_outside=allow_outside)
        return _require_pairs(_open_folder(Path(spec), columns, held_out, allowed), spec)
    return _require_pairs(_open_files(text, columns, allow_outside), spec)


def _open_folder(
    folder: Path, columns: tuple[str | None, str | None], held_out: bool, allowed: AllowedFolders
) -> Source | Stream:
    if shards := sorted(path for path in folder.iterdir() if is_shard(path)):
        inside, skipped = _inside(folder, shards, allowed)
        taken = choose_split(inside, folder, held_out=held_out)
        return _without(open_shards(taken), [path.name for path in inside if path not in taken], skipped)
    if (folder / "state.json").exists() and (folder / "dataset_info.json").exists():
        return open_hub(f"{WHOLE}{folder}:train", *columns, allow_outside=allowed.allow_outside)
    splits = split_folders(folder)
    chosen = next((name for name in HELD_OUT if name in splits), None) if held_out else TRAIN
    if chosen in splits:
        others = [f"{path.name}/" for name, path in splits.items() if name != chosen]
        return _without(_open_folder(splits[chosen], columns, held_out, allowed), others)
    inside, skipped = _inside(folder, sorted(_parquet_below(folder)), allowed)
    if tables := _with_pairs(inside, columns):
        taken = choose_split(tables, folder, held_out=held_out)
        source = open_parquet(taken, *columns, allowed=allowed.extended(allowed_roots(taken[0])))
        return _without(source, [path.name for path in tables if path not in taken], skipped)
    if any(columns):
        raise DataError(f"{folder} is a folder without Parquet files and has no columns; name the table in it.")
    return open_pictures(folder, held_out=held_out, allowed=allowed)


def _parquet_below(folder: Path) -> Iterator[Path]:
    return (Path(here, name) for here, _, names in walk(folder) for name in names if name.endswith(".parquet"))


def _inside(folder: Path, paths: list[Path], allowed: AllowedFolders) -> tuple[list[Path], dict[str, int]]:
    """The paths inside, and the count of the others by reason. Raises DataError if all are outside."""
    inside, outside = allowed.split_outside(paths)
    if outside and not inside:
        raise all_outside(folder, [path.name for path in outside], "files")
    return inside, {left_out([path.name for path in outside]): len(outside)} if outside else {}


def _with_pairs(paths: list[Path], columns: tuple[str | None, str | None]) -> list[Path]:
    """The Parquet files without tables about pictures in other files: metadata.parquet, and the tables that img2dataset
    writes beside its shards."""
    if any(columns):
        return paths
    return [path for path in paths if path.stem != "metadata" and holds_pairs(path)]


def _without(
    source: Source | Stream, names: Sequence[str], skipped: Mapping[str, int] | None = None
) -> Source | Stream:
    """The source with the names of files that were left out and with further skip counts."""
    for reason, number in (skipped or {}).items():
        count(source.skipped, reason, number)
    if names and not isinstance(source, Stream):
        return ConcatSource([source], replace(layout_of(source), left_out=(*layout_of(source).left_out, *names)))
    return source


def _open_files(spec: str, columns: tuple[str | None, str | None], allow_outside: bool) -> Source | Stream:
    paths = [Path(spec)] if Path(spec).is_file() else matching_files(spec)
    if not paths:
        raise DataError(f"{spec} is neither a folder, nor a file, nor a pattern that matches any; wanted {FORMS}.")
    if all(path.suffix.lower() == ".parquet" for path in paths):
        return open_parquet(paths, *columns, allowed=allowed_for_table(paths[0], allow_outside=allow_outside))
    if len(paths) == 1 and is_table(paths[0]):
        return open_table(paths[0], *columns, allowed=allowed_for_table(paths[0], allow_outside=allow_outside))
    kinds = {path.suffix.lower() for path in paths}
    if not all(map(is_shard, paths)) and (len(kinds) > 1 or any(map(is_table, paths))):
        raise DataError(f"{spec} names {len(paths)} files ({', '.join(sorted(kinds))}); name tables one by one.")
    return open_shards(paths)


def matching_files(spec: str) -> list[Path]:
    """The files that match a pattern. Raises DataError if braces expand to the name of a missing file."""
    names = expand_braces(spec)
    try:
        found = {name: glob.glob(name, recursive=True) for name in names}
    except RecursionError:  # glob recurses for each nested folder
        raise DataError(f"{spec}: its folders are nested too deep for a pattern; name the folder.") from None
    missing = [name for name, paths in found.items() if not paths and not re.search(r"[*?[]", name)]
    if missing and len(names) > 1:
        listed = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise DataError(f"{spec}: {len(missing)} of the {len(names)} files that it names are missing ({listed}).")
    return sorted(Path(path) for paths in found.values() for path in paths)


def _addresses(spec: str, limits: FetchLimits) -> Stream:
    shards = expand_braces(spec)
    if not re.search(rf"({'|'.join(map(re.escape, SHARDS))})($|[?#])", shards[0], re.I):
        raise DataError(f"{spec}: only tar shards are read over http(s); wanted an address that ends in .tar.")
    return Stream(shards, partial(fetch_tar, limits=limits), f"{len(shards)} tar shards, fetched as they are read")


def _objects(spec: str, columns: tuple[str | None, str | None], limits: FetchLimits) -> Stream:
    """Tar shards or Parquet files in object storage: a folder, a pattern or a file."""
    shards = matching(spec, (*SHARDS, ".parquet"))
    if not shards:
        raise DataError(f"{shown(spec)} contains neither tar shards nor Parquet files; wanted one of them.")
    tables = [shard for shard in shards if shard.lower().endswith(".parquet")]
    if tables and len(tables) < len(shards):
        raise DataError(f"{shown(spec)} contains tar shards and Parquet files; name one kind by a pattern.")
    if not tables:
        return Stream(shards, partial(fetch_tar, limits=limits), f"{len(shards)} tar shards, fetched as they are read")
    fetch = partial(_fetch_parquet, columns=columns, limits=limits)
    return Stream(tables, fetch, f"{len(tables)} Parquet files, fetched as they are read")


def _fetch_parquet(url: str, folder: Path, columns: tuple[str | None, str | None], limits: FetchLimits) -> Source:
    path = fetch_file(url, folder, limits)
    return indexed(open_parquet([path], *columns, allowed=AllowedFolders([folder])))


def _require_pairs(source: Source | Stream, spec: str | Path) -> Source | Stream:
    if isinstance(source, Stream) or len(source):
        return source
    skipped = spell_counts(source.skipped)
    raise DataError(f"{spec} holds no pairs{f' ({skipped})' if skipped else ''}; wanted {FORMS}.")


def all_captions(source: Source | Stream) -> Iterator[str]:
    """Every caption of a source, for training a tokenizer; only the first ENOUGH_CAPTIONS of a stream.

    Unreadable samples and shards are skipped here; the loader counts them.
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
