"""A source that is read shard by shard: tar shards and Parquet files, here, behind http(s) or in object storage."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from diptych.data.compressed import unpack
from diptych.data.loading.stream import indexed
from diptych.data.samples import Source
from diptych.data.sources import object_storage
from diptych.data.sources.opening import matching_files
from diptych.data.sources.remote import fetch_file, fetch_tar
from diptych.data.sources.shards import SHARDS, ShardSource, expand_braces
from diptych.data.spooling import remove_with, unpacking
from diptych.data.tables.file_lookup import allowed_for_table
from diptych.data.tables.parquet import open_parquet
from diptych.errors import DataError
from diptych.untrusted.downloading import shown
from diptych.untrusted.links import walk

_PARQUET = ".parquet"
_ENDINGS = (*SHARDS, _PARQUET)
_WEB = re.compile(r"https?://", re.I)
_FORMS = (
    "a folder of tar shards or Parquet files, such files by name or pattern (*.tar, {0000..0031}.tar), or either at "
    "https://, s3://, gs://, az:// or file://"
)


class ShardedSource(NamedTuple):
    """Shards, by names that are paths below the `root`: a folder's path, or an address without a password. `locations`
    are where they are read, one for each of the `shards`; `columns` are those of the pictures and captions of Parquet
    files, None for the usual ones."""

    root: str
    shards: tuple[str, ...]
    locations: tuple[str, ...]
    columns: tuple[str | None, str | None] = (None, None)


def open_sharded(
    spec: str | os.PathLike[str], *, image_column: str | None = None, caption_column: str | None = None
) -> ShardedSource:
    """Lists the shards of a source. Raises DataError, which names the accepted forms, where there are none."""
    text = os.fspath(spec)
    locations = _locations(text)
    if tars := [one for one in locations if not _path_of(one).lower().endswith(_PARQUET)]:
        locations = tars  # img2dataset writes a table beside each
    if not locations:
        raise DataError(f"{_safe(text)} contains no shards; wanted {_FORMS}.")
    root = _root_of(text, locations)
    names = [_path_of(one).removeprefix(root).lstrip("/") for one in locations]
    if len(set(names)) < len(names):
        raise DataError(f"{_safe(text)} names a shard twice.")
    return ShardedSource(_safe(root), tuple(names), tuple(locations), (image_column, caption_column))


def _locations(text: str) -> list[str]:
    if object_storage.is_object_address(text):
        return object_storage.matching(text, _ENDINGS)
    if _WEB.match(text):
        return expand_braces(text)
    if os.path.isdir(text):
        found = [os.path.join(here, name) for here, _, names in walk(Path(text)) for name in names]
        return [os.path.abspath(path) for path in sorted(found) if path.lower().endswith(_ENDINGS)]
    paths = [Path(text)] if os.path.isfile(text) else matching_files(text)
    if others := [path.name for path in paths if not path.name.lower().endswith(_ENDINGS)]:
        raise DataError(f"{text} names {others[0]}, which is no shard; wanted {_FORMS}.")
    return [os.path.abspath(path) for path in paths]


def _path_of(location: str) -> str:
    """A location without the query of an address."""
    return re.split(r"[?#]", location)[0] if _WEB.match(location) else location.replace(os.sep, "/")


def _root_of(text: str, locations: list[str]) -> str:
    """The folder that the source names, whichever shards are in it: paths below it stay when others come."""
    text = text if "://" in text else os.path.abspath(text).replace(os.sep, "/")
    before = re.split(r"[*?#\[{]", text)[0]
    is_folder = before == text and [_path_of(one) for one in locations] != [_path_of(text)]
    return before.rstrip("/") if is_folder else before.rpartition("/")[0]


def _safe(address: str) -> str:
    return shown(_path_of(address)) if "://" in address else address


def open_shard(location: str, columns: tuple[str | None, str | None] = (None, None)) -> Source:
    """The samples of a shard, also those without captions. What is fetched or unpacked for it is removed with it.
    Raises DataError or OSError."""
    is_here = "://" not in location
    with unpacking() as folder:
        if _path_of(location).lower().endswith(_PARQUET):
            path = Path(location) if is_here else fetch_file(location, folder)
            source = indexed(open_parquet([path], *columns, allowed=allowed_for_table(path), pairs=False))
        elif not is_here:
            source = fetch_tar(location, folder, pairs=False)
        else:
            path = Path(location)
            source = ShardSource([path if path.name.lower().endswith(".tar") else unpack(path, folder)], pairs=False)
        remove_with(source, folder)
    return source


def version_of(location: str) -> str:
    """A text that changes with a shard; "" for one behind http(s), which is taken to stay as it is. Raises DataError
    or OSError where the shard is missing."""
    if object_storage.is_object_address(location):
        return object_storage.version_of(location)
    if _WEB.match(location):
        return ""
    status = os.stat(location)
    return f"{status.st_size} {status.st_mtime_ns}"
