"""Finds the tables of captions in a folder, and chooses among several."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from diptych.data.concat import ConcatSource
from diptych.data.confinement import AllowedFolders
from diptych.data.samples import Layout, Source, Stream, spell_counts
from diptych.data.splits import choose_split, visible_folders
from diptych.data.tables.file_lookup import allowed_roots, is_companion
from diptych.data.tables.parquet import open_parquet
from diptych.data.tables.table_source import TableSource, is_table, open_table
from diptych.errors import DataError
from diptych.media.scanning.image_files import find_images

_MAX_DEPTH = 3  # levels of subfolders that are searched
_MAX_OF_ONE_KIND = 50  # more files with one ending in a folder belong to single pictures
_MAX_BYTES = 1 << 30  # larger files are not opened: JSON is read completely
_OTHER_FILES = re.compile(r"submission|instances|keypoints|panoptic|stuff|readme|licen[sc]e|requirements", re.I)


@dataclass
class Tables:
    """The source that was found, if any, and the errors of files that looked like tables, by path."""

    source: Source | None = None
    layout: Layout | None = None
    refused: dict[Path, Exception] = field(default_factory=dict)


def find_tables(folder: Path, allowed: AllowedFolders, *, held_out: bool = False) -> Tables:
    """The tables in a folder and below that name pictures in it, without those outside of `allowed`."""
    return _opened(
        (path for path in _candidates(folder, _MAX_DEPTH) if allowed.contains(path)), folder, folder, held_out, allowed
    )


def tables_beside(folder: Path, allowed: AllowedFolders) -> Tables:
    """The tables in the parent folder and in sibling folders for annotations that name pictures in this folder,
    restricted to these. Siblings with pictures are not searched: their tables are their own."""
    above = folder.absolute().parent
    others = (each for each in visible_folders(above) if is_companion(each) and not find_images(each))
    paths = [*_candidates(above, 0), *(path for other in others for path in _candidates(other, 0))]
    inside = above / folder.name  # spelt like the tables' paths
    near = AllowedFolders([above], allow_outside=allowed.allow_outside)
    return _opened((path for path in paths if near.contains(path)), inside, above, None, allowed)


def _candidates(folder: Path, depth: int) -> Iterator[Path]:
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())  # regular files only
        below = visible_folders(folder) if depth else []
    except OSError:
        return
    paths = [folder / name for name in names if name[0] != "." and not _OTHER_FILES.search(name)]
    tables = [path for path in paths if is_table(path) or path.suffix.lower() == ".parquet"]
    alike = Counter(path.suffix.lower() for path in tables)
    yield from (
        path for path in tables if alike[path.suffix.lower()] <= _MAX_OF_ONE_KIND and path.stat().st_size <= _MAX_BYTES
    )
    for each in below:
        yield from _candidates(each, depth - 1)


def _opened(paths: Iterable[Path], within: Path, top: Path, held_out: bool | None, allowed: AllowedFolders) -> Tables:
    found: dict[Path, TableSource] = {}
    refused: dict[Path, Exception] = {}
    for path in paths:
        try:
            source = _table(path, within, allowed.extended(allowed_roots(path)))
        except (DataError, OSError) as error:
            if _rank(path) < 2 or (path.is_relative_to(within) and path.suffix.lower() != ".txt"):
                refused[path] = error
            continue
        if isinstance(source, TableSource) and len(source):
            found[path] = source
        elif source.skipped:
            refused[path] = DataError(f"{path} holds no pairs ({spell_counts(source.skipped)}).")
    chosen, left_out = _one_for_each(found, top, held_out)
    left_out = tuple(os.path.relpath(path, top) for path in left_out)
    return Tables(*_joined(chosen, top, left_out), {path: refused[path] for path in sorted(refused, key=_rank)})


def _table(path: Path, within: Path, allowed: AllowedFolders) -> Source | Stream:
    if path.suffix.lower() == ".parquet":
        return open_parquet([path], within=within, allowed=allowed)
    return open_table(path, within=within, allowed=allowed)


def _one_for_each(
    found: dict[Path, TableSource], top: Path, held_out: bool | None
) -> tuple[dict[Path, TableSource], list[Path]]:
    """The tables to use: those of one split, and for the same pictures the table with the better name.
    Raises DataError if the names do not decide."""
    taken = list(found) if held_out is None else choose_split(list(found), top, held_out=held_out)
    chosen: dict[Path, TableSource] = {}
    owners: dict[Path, Path] = {}
    for path in sorted(taken, key=lambda path: (_rank(path), path)):
        source = found[path]
        files = {source.file(index) for index in range(len(source))}
        other = next((owners[file] for file in files if file in owners), None)
        if other is None:
            chosen[path] = source
            owners |= dict.fromkeys(files, path)
        elif _rank(other) == _rank(path):
            raise DataError(f"{other} and {path} name the same pictures; name the one that holds the captions.")
    return chosen, [path for path in found if path not in chosen]


def _rank(path: Path) -> int:
    """The rank of a table by its name; the lowest is the likeliest table of captions."""
    name = path.name.lower()
    if "lemma" in name:
        return 3
    return 0 if path.stem.lower() == "metadata" else 1 if "caption" in name or ".token" in name else 2


def _joined(
    chosen: dict[Path, TableSource], top: Path, left_out: tuple[str, ...]
) -> tuple[Source | None, Layout | None]:
    if not chosen:
        return None, None
    (path, first), *others = chosen.items()
    more = f" and {len(others)} more" if others else ""
    kind = f"{first.layout.kind} {os.path.relpath(path, top)}{more}"
    layout = replace(first.layout, kind=kind, left_out=left_out)
    if others:
        return ConcatSource(list(chosen.values()), layout), layout
    first.layout = layout
    return first, layout
