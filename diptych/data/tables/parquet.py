"""Parquet files, with paths of pictures or the pictures themselves inside."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from diptych.data.confinement import Confined
from diptych.data.samples import Layout, Source, Stream, count
from diptych.data.tables.columns import Columns, choose_columns, spell_columns, usual_columns
from diptych.data.tables.locating import confined_to
from diptych.data.tables.parquet_pages import unpacked_sizes
from diptych.data.tables.table_source import TableSource, row_of
from diptych.data.tables.unpacked import Row, Unpacked
from diptych.data.temporary import remove_with, room_for, unpacking
from diptych.errors import DataError
from diptych.untrusted.regular_files import open_file

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

UNPACK_BYTES = 4 << 30  # larger files are not unpacked whole: their row groups become shards of a Stream
_BATCH_ROWS, _BATCH_BYTES = 1 << 10, 128 << 20


def open_parquet(
    paths: list[Path], image_column: str | None = None, caption_column: str | None = None, within: Path | None = None,
    confined: Confined | None = None,
) -> Source | Stream:  # fmt: skip
    """Parquet files with the same columns. The picture's holds a path, or the file itself (bytes, or the struct of a
    Hugging Face dataset): these are unpacked once into a temporary file, or, from UNPACK_BYTES on, as they come, by
    row groups. Of pictures by path only those in `within` count, where it is given; where they may lie is `confined`,
    by default as a table's. Of several files those that cannot be read are counted."""
    confined = confined or confined_to(paths[0])
    names, pictures_inside = _schema(paths[0], image_column, caption_column)
    skipped: dict[str, int] = {}
    groups = [name for path in paths for name in _groups_or_count(path, skipped)]
    rows = (row for name in groups for row in _group_or_count(name, names, skipped))
    if not pictures_inside:
        return TableSource(paths[0], rows, Layout("Parquet table", names), skipped, within, confined)
    form, size = f"Parquet with columns {spell_columns(names)}", sum(path.stat().st_size for path in paths)
    if size > UNPACK_BYTES:
        samples = min(size, sum(max(0, _file(path).metadata.num_rows) for path in paths))  # a row takes a byte
        fetch = partial(_fetch_group, columns=names, form=form, confined=confined)
        return Stream(groups, fetch, form, samples, skipped)
    with unpacking() as place:
        source = Unpacked(place / "pictures", rows, form, paths[0].parent, confined, room_for(size))
        remove_with(source, place)
    for reason, number in skipped.items():
        count(source.skipped, reason, number)
    return source


def holds_pairs(path: Path) -> bool:
    """Whether a file has a column of pictures, or of their paths, and one of captions; True where it cannot be read,
    which is to be said."""
    try:
        names = _file(path).schema_arrow.names
    except DataError:
        return True
    return usual_columns(names) and not _is_about(names)


def _is_about(names: Sequence[str]) -> bool:
    """Whether columns are those that img2dataset writes beside its shards, which hold the pictures."""
    return {"url", "key", "status"} <= set(names) and not {"jpg", "png", "webp"} & set(names)


def _groups_or_count(path: Path, skipped: dict[str, int]) -> list[str]:
    try:
        return [f"{path}#{group}" for group in range(_file(path).metadata.num_row_groups)]
    except DataError:
        count(skipped, f"damage in {path.name}")
        return []


def _fetch_group(name: str, folder: Path, columns: Columns, form: str, confined: Confined) -> Unpacked:
    path = Path(name.rpartition("#")[0])
    room = room_for(path.stat().st_size)
    return Unpacked(folder / "pictures", _rows(name, columns), form, path.parent, confined, room)


def _group_or_count(name: str, columns: Columns, skipped: dict[str, int]) -> Iterator[Row]:
    """The rows of a row group; one that is damaged is counted in place of its rows."""
    try:
        yield from _rows(name, columns)
    except DataError as error:
        count(skipped, error.reason)


def _rows(name: str, columns: Columns) -> Iterator[Row]:
    path, _, group = name.rpartition("#")
    wanted, number = [columns[0], *columns[1]], 0
    with damage(f"row group {group} of {path} is damaged", "damaged row group"):
        repeating = _repeating(_file(Path(path)), int(group), wanted)
        file = _file(Path(path), repeating)
        size = _unpacked_bytes(file, int(group), wanted, Path(path))
        batches = file.iter_batches(_batch_rows(file, wanted, repeating, size), [int(group)], wanted, use_threads=False)
    while True:
        with damage(f"row group {group} of {path} is damaged", "damaged row group"):
            if (batch := next(batches, None)) is None:
                return
            cells = {name: cells_of(batch.column(name)) for name in wanted}
        for at in range(batch.num_rows):
            record = {name: column[at] for name, column in cells.items()}
            yield row_of(record, columns, f"row {number + at} of group {group} of {Path(path).name}")
        number += batch.num_rows


def cells_of(column: "pyarrow.Array") -> list[Any]:
    """The cells as Python has them. Of cells that repeat, which take no room in a file, each is made once."""
    import pyarrow

    if not isinstance(column, pyarrow.DictionaryArray):
        return column.to_pylist()
    places = column.indices.to_pylist()
    values = {place: column.dictionary[place].as_py() for place in set(places) if place is not None}
    return [None if place is None else values[place] for place in places]


def _flat(schema: "pyarrow.Schema", wanted: Sequence[str]) -> list[str]:
    """Columns of texts and bytes, which can be read without repeating what repeats."""
    import pyarrow.types as types

    tests = (types.is_string, types.is_binary, types.is_large_string, types.is_large_binary)
    return [name for name in wanted if any(test(schema.field(name).type) for test in tests)]


def _repeating(file: "pyarrow.parquet.ParquetFile", group: int, wanted: Sequence[str]) -> list[str]:
    """Those of `_flat`, but the ones that pyarrow reads whole alone: cells that are told by their length, and texts
    that are told by their difference from the one before. Pictures never are: a few bytes could tell any number."""
    import pyarrow.types as types

    said, schema = file.metadata.row_group(group), file.schema_arrow
    parts = {part.path_in_schema: part.encodings for part in map(said.column, range(said.num_columns))}

    def is_whole(name: str) -> bool:
        told = parts.get(name, ())
        is_text = types.is_string(schema.field(name).type)
        return "DELTA_LENGTH_BYTE_ARRAY" in told or (is_text and "DELTA_BYTE_ARRAY" in told)

    return [name for name in _flat(schema, wanted) if not is_whole(name)]


def _batch_rows(file: "pyarrow.parquet.ParquetFile", wanted: Sequence[str], repeating: Sequence[str], size: int) -> int:
    """How many rows are read at a time: others than `repeating` ones repeat what repeats, and pictures are large."""
    nested = len(repeating) + len(_coded(file.schema_arrow, wanted)) < len(wanted)
    return max(4, min(_BATCH_ROWS, _BATCH_BYTES // max(1, size))) if nested else _BATCH_ROWS


def _coded(schema: "pyarrow.Schema", wanted: Sequence[str]) -> list[str]:
    import pyarrow.types as types

    return [name for name in wanted if types.is_dictionary(schema.field(name).type)]


def _unpacked_bytes(file: "pyarrow.parquet.ParquetFile", group: int, wanted: Sequence[str], path: Path) -> int:
    """How many bytes the columns of a row group say that they unpack to. DataError where they cannot be pictures."""
    said = file.metadata.row_group(group)
    parts = (said.column(at) for at in range(said.num_columns))
    taken = [part for part in parts if part.path_in_schema.split(".")[0] in wanted]
    with open_file(path) as pages:
        size = max(sum(part.total_uncompressed_size for part in taken), sum(_in_pages(pages, part) for part in taken))
    if not 0 <= size <= (room := room_for(path.stat().st_size)):
        raise DataError(f"row group {group} of {path} unpacks to {size:,} bytes; at most {room:,} are.", "too large")
    return size


def _in_pages(file: BinaryIO, part: Any) -> int:
    """What a column chunk's pages say that they unpack to: the footer may say something else."""
    start = part.data_page_offset
    if part.has_dictionary_page and 0 < part.dictionary_page_offset < start:
        start = part.dictionary_page_offset
    return sum(unpacked_sizes(file, start, part.total_compressed_size, part.num_values))


@contextmanager
def damage(what: str, reason: str = "unusable") -> Iterator[None]:
    """DataError for whatever pyarrow raises at a file that is none of its own."""
    import pyarrow

    try:
        yield
    except DataError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, LookupError, TypeError, ArithmeticError, MemoryError,
            NotImplementedError, RecursionError) as error:  # fmt: skip
        raise DataError(f"{what} ({error!s:.300}).", reason) from error


def _schema(path: Path, image_column: str | None, caption_column: str | None) -> tuple[Columns, bool]:
    """The columns, and whether the pictures are inside."""
    import pyarrow.types as types

    schema = _file(path).schema_arrow
    columns = choose_columns(schema.names, image_column, caption_column, str(path))
    if twice := [name for name in (columns[0], *columns[1]) if schema.names.count(name) > 1]:
        raise DataError(f"{path} has several columns called {twice[0]!r:.60}; wanted one.")
    kind = _held(schema.field(columns[0]).type)
    tests = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_struct)
    inside = any(test(kind) for test in tests)
    if not inside and not any(test(kind) for test in (types.is_string, types.is_large_string, types.is_string_view)):
        raise DataError(f"{path}: column {columns[0]} is {kind}; wanted a path, or a picture's bytes.")
    return columns, inside


def _held(kind: "pyarrow.DataType") -> "pyarrow.DataType":
    """What the cells of a column hold: those of a list its items, those of a dictionary its values, those of another
    library's type what stores them."""
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
        raise DataError(f'{path}: Parquet is read by pyarrow; pip install "diptych[data]".') from error
    with damage(f"{path} cannot be read as Parquet"):
        open_file(path).close()  # no pipe and no device: it opens what it finds
        return pyarrow.parquet.ParquetFile(path, read_dictionary=list(repeating))
