"""Parquet files with paths of pictures, or with the pictures inside."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.data.column_names import Columns, describe_columns
from diptych.data.confinement import AllowedFolders
from diptych.data.samples import Layout, Source, Stream, count
from diptych.data.spooling import remove_with, room_for, unpacking
from diptych.data.tables.columns import choose_columns, usual_columns
from diptych.data.tables.file_lookup import allowed_for_table
from diptych.data.tables.parquet_pages import ColumnChunk, column_chunks, unpacked_sizes
from diptych.data.tables.spooled import SpooledSamples, TableRow
from diptych.data.tables.table_source import TableSource, row_of
from diptych.errors import DataError
from diptych.untrusted.regular_files import open_file

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

UNPACK_BYTES = 4 << 30  # the row groups of larger files become shards of a Stream
_BATCH_ROWS, _BATCH_BYTES = 1 << 10, 128 << 20


def open_parquet(
    paths: list[Path], image_column: str | None = None, caption_column: str | None = None, within: Path | None = None,
    allowed: AllowedFolders | None = None, *, pairs: bool = True,
) -> Source | Stream:  # fmt: skip
    """Parquet files with the same columns. The picture's column has paths, or the files themselves (bytes, or the
    struct of a Hugging Face dataset). Files inside are unpacked into a temporary file, or, above UNPACK_BYTES, row
    group by row group while reading. With `within`, only pictures with paths in that folder count; paths must be in
    `allowed`, by default as for a table. Damaged files and row groups are counted. With `pairs` False, files with
    pictures inside need no captions."""
    allowed = allowed or allowed_for_table(paths[0])
    names, pictures_inside = _schema(paths[0], image_column, caption_column, pairs)
    skipped: dict[str, int] = {}
    groups = [name for path in paths for name in _groups_or_count(path, skipped)]
    rows = (row for name in groups for row in _group_or_count(name, names, skipped))
    if not pictures_inside:
        return TableSource(paths[0], rows, Layout("Parquet table", names), skipped, within, allowed)
    form, size = f"Parquet with columns {describe_columns(names)}", sum(path.stat().st_size for path in paths)
    if size > UNPACK_BYTES:
        samples = min(
            size, sum(max(0, _file(path).metadata.num_rows) for path in paths)
        )  # each row takes at least a byte
        fetch = partial(_fetch_group, columns=names, form=form, allowed=allowed, pairs=pairs)
        return Stream(groups, fetch, form, samples, skipped)
    with unpacking() as folder:
        room = room_for(size)
        source = SpooledSamples(folder / "pictures", rows, form, paths[0].parent, allowed, room, pairs=pairs)
        remove_with(source, folder)
    for reason, number in skipped.items():
        count(source.skipped, reason, number)
    return source


def holds_pairs(path: Path) -> bool:
    """Whether a file has a column of pictures or paths and one of captions. True for an unreadable file, whose error is
    reported when it is opened."""
    try:
        names = _file(path).schema_arrow.names
    except DataError:
        return True
    return usual_columns(names) and not _is_about(names)


def _is_about(names: Sequence[str]) -> bool:
    """Whether these are the columns of a file that img2dataset writes beside its shards."""
    return {"url", "key", "status"} <= set(names) and not {"jpg", "png", "webp"} & set(names)


def _groups_or_count(path: Path, skipped: dict[str, int]) -> list[str]:
    try:
        return [f"{path}#{group}" for group in range(_file(path).metadata.num_row_groups)]
    except DataError:
        count(skipped, f"damage in {path.name}")
        return []


def _fetch_group(
    name: str, folder: Path, columns: Columns, form: str, allowed: AllowedFolders, pairs: bool
) -> SpooledSamples:
    path = Path(name.rpartition("#")[0])
    room = room_for(path.stat().st_size)
    return SpooledSamples(folder / "pictures", _rows(name, columns), form, path.parent, allowed, room, pairs=pairs)


def _group_or_count(name: str, columns: Columns, skipped: dict[str, int]) -> Iterator[TableRow]:
    """The rows of a row group; a damaged one is counted instead of its rows."""
    try:
        yield from _rows(name, columns)
    except DataError as error:
        count(skipped, error.reason)


def _rows(name: str, columns: Columns) -> Iterator[TableRow]:
    path, _, group = name.rpartition("#")
    for number, record in enumerate(_records(name, [columns[0], *columns[1]])):
        yield row_of(record, columns, f"row {number} of group {group} of {Path(path).name}")


def parquet_records(path: Path, wanted: Sequence[str], skipped: dict[str, int]) -> Iterator[dict[str, Any]]:
    """The cells of these columns, row by row. Damaged row groups are counted in `skipped`."""
    for name in _groups_or_count(path, skipped):
        try:
            yield from _records(name, wanted)
        except DataError as error:
            count(skipped, error.reason)


def column_types(path: Path) -> "dict[str, pyarrow.DataType]":
    """The columns of a file and the types of their cells. Raises DataError if it cannot be read."""
    schema = _file(path).schema_arrow
    return {field.name: field.type for field in schema if schema.names.count(field.name) == 1}


def _records(name: str, wanted: Sequence[str]) -> Iterator[dict[str, Any]]:
    path, _, group = name.rpartition("#")
    with damage(f"row group {group} of {path} is damaged", "damaged row group"):
        chunks = column_chunks(Path(path), int(group))
        repeating = _repeating(_file(Path(path)), chunks, wanted)
        file = _file(Path(path), repeating)
        size = _unpacked_bytes(Path(path), int(group), chunks, wanted)
        batches = file.iter_batches(_batch_rows(file, wanted, repeating, size), [int(group)], wanted, use_threads=False)
    while True:
        with damage(f"row group {group} of {path} is damaged", "damaged row group"):
            if (batch := next(batches, None)) is None:
                return
            cells = {name: cells_of(batch.column(name)) for name in wanted}
        for at in range(batch.num_rows):
            yield {name: column[at] for name, column in cells.items()}


def cells_of(column: "pyarrow.Array") -> list[Any]:
    """The cells as Python values; repeated values of a dictionary are converted once."""
    import pyarrow

    if not isinstance(column, pyarrow.DictionaryArray):
        return column.to_pylist()
    indices = column.indices.to_pylist()
    values = {index: column.dictionary[index].as_py() for index in set(indices) if index is not None}
    return [None if index is None else values[index] for index in indices]


def _flat(schema: "pyarrow.Schema", wanted: Sequence[str]) -> list[str]:
    """Columns of texts and bytes, which can be read as dictionaries, so that repeated values are stored once."""
    import pyarrow.types as types

    tests = (types.is_string, types.is_binary, types.is_large_string, types.is_large_binary)
    return [name for name in wanted if any(test(schema.field(name).type) for test in tests)]


def _repeating(file: "pyarrow.parquet.ParquetFile", chunks: list[ColumnChunk], wanted: Sequence[str]) -> list[str]:
    """The columns of `_flat` that pyarrow can read as dictionaries without decoding them first: not cells encoded by
    their lengths, nor texts encoded by differences. Pictures encoded by differences are included: a few bytes could
    encode any number of them."""
    import pyarrow.types as types

    schema, by_path = file.schema_arrow, {chunk.path: chunk for chunk in chunks}

    def is_decoded(name: str) -> bool:
        chunk, is_text = by_path.get(name), types.is_string(schema.field(name).type)
        return chunk is not None and (chunk.has_lengths or (is_text and chunk.has_differences))

    return [name for name in _flat(schema, wanted) if not is_decoded(name)]


def _batch_rows(file: "pyarrow.parquet.ParquetFile", wanted: Sequence[str], repeating: Sequence[str], size: int) -> int:
    """The number of rows to read at a time: few if columns repeat values in memory, because pictures are large."""
    nested = len(repeating) + len(_coded(file.schema_arrow, wanted)) < len(wanted)
    return max(4, min(_BATCH_ROWS, _BATCH_BYTES // max(1, size))) if nested else _BATCH_ROWS


def _coded(schema: "pyarrow.Schema", wanted: Sequence[str]) -> list[str]:
    import pyarrow.types as types

    return [name for name in wanted if types.is_dictionary(schema.field(name).type)]


def _unpacked_bytes(path: Path, group: int, chunks: list[ColumnChunk], wanted: Sequence[str]) -> int:
    """The unpacked size of a row group's columns: what the footer says or what the page headers add up to, whichever is
    more. Raises DataError if it is implausible."""
    taken = [chunk for chunk in chunks if chunk.name in wanted]
    with open_file(path) as pages:
        in_pages = sum(sum(unpacked_sizes(pages, chunk.start, chunk.packed, chunk.values)) for chunk in taken)
    size = max(sum(chunk.unpacked for chunk in taken), in_pages)
    if not 0 <= size <= (room := room_for(path.stat().st_size)):
        raise DataError(f"row group {group} of {path} unpacks to {size:,} bytes; wanted at most {room:,}.", "too large")
    return size


@contextmanager
def damage(problem: str, reason: str = "unusable") -> Iterator[None]:
    """Raises DataError for every error of pyarrow on an invalid file."""
    import pyarrow

    try:
        yield
    except DataError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, LookupError, TypeError, ArithmeticError, MemoryError,
            NotImplementedError, RecursionError) as error:  # fmt: skip
        raise DataError(f"{problem} ({error!s:.300}).", reason) from error


def _schema(path: Path, image_column: str | None, caption_column: str | None, pairs: bool) -> tuple[Columns, bool]:
    """The columns, and whether the pictures are in the file."""
    import pyarrow.types as types

    schema = _file(path).schema_arrow
    columns = choose_columns(schema.names, image_column, caption_column, str(path), pairs=pairs)
    if twice := [name for name in (columns[0], *columns[1]) if schema.names.count(name) > 1]:
        raise DataError(f"{path} has several columns called {twice[0]!r:.60}; wanted one.")
    kind = _held(schema.field(columns[0]).type)
    tests = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_struct)
    inside = any(test(kind) for test in tests)
    if not inside and not any(test(kind) for test in (types.is_string, types.is_large_string, types.is_string_view)):
        raise DataError(f"{path}: column {columns[0]} is {kind}; wanted a path, or a picture's bytes.")
    return columns, inside


def _held(kind: "pyarrow.DataType") -> "pyarrow.DataType":
    """The type of a column's cells: a list's items, a dictionary's values, an extension type's storage."""
    import pyarrow
    import pyarrow.types as types

    while isinstance(kind, pyarrow.BaseExtensionType) or any(
        test(kind) for test in (types.is_list, types.is_large_list, types.is_dictionary)
    ):
        kind = kind.storage_type if isinstance(kind, pyarrow.BaseExtensionType) else kind.value_type
    return kind


def _file(path: Path, repeating: Sequence[str] = ()) -> "pyarrow.parquet.ParquetFile":
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f'{path}: Parquet needs pyarrow; pip install "diptych[data]".') from error
    with damage(f"{path} cannot be read as Parquet"):
        open_file(path).close()  # raises for a pipe or device, which pyarrow would open
        return pyarrow.parquet.ParquetFile(path, read_dictionary=list(repeating))
