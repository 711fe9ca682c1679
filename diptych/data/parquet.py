"""Parquet files, with paths of pictures or the pictures themselves inside."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.data.columns import Columns, choose_columns, spell_columns, usual_columns
from diptych.data.samples import DataError, Layout, Source, Stream, count
from diptych.data.tables import TableSource, row_of
from diptych.data.temporary import remove_with, unpacking
from diptych.data.unpacked import Row, Unpacked

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

UNPACK_BYTES = 4 << 30  # larger files are not unpacked whole: their row groups become shards of a Stream


def open_parquet(
    paths: list[Path], image_column: str | None = None, caption_column: str | None = None, within: Path | None = None
) -> Source | Stream:
    """Parquet files with the same columns. The picture's holds a path, or the file itself (bytes, or the struct of a
    Hugging Face dataset): these are unpacked once into a temporary file, or, from UNPACK_BYTES on, as they come, by
    row groups. Of pictures by path only those in `within` count, where it is given."""
    names, pictures_inside = _schema(paths[0], image_column, caption_column)
    groups = [f"{path}#{group}" for path in paths for group in range(_file(path).metadata.num_row_groups)]
    if not pictures_inside:
        skipped: dict[str, int] = {}
        rows = (row for name in groups for row in _group_or_count(name, names, skipped))
        return TableSource(paths[0], rows, Layout("Parquet table", names), skipped, within)
    form = f"Parquet with columns {spell_columns(names)}"
    if sum(path.stat().st_size for path in paths) > UNPACK_BYTES:
        samples = sum(_file(path).metadata.num_rows for path in paths)
        return Stream(groups, partial(_fetch_group, columns=names, form=form), form, samples)
    return _unpacked(groups, names, form, paths[0].parent)


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


def _unpacked(groups: list[str], columns: Columns, form: str, folder: Path) -> Unpacked:
    skipped: dict[str, int] = {}
    rows = (row for name in groups for row in _group_or_count(name, columns, skipped))
    with unpacking() as place:
        source = Unpacked(place / "pictures", rows, form, folder)
        remove_with(source, place)
    for reason, number in skipped.items():
        count(source.skipped, reason, number)
    return source


def _fetch_group(name: str, folder: Path, columns: Columns, form: str) -> Unpacked:
    return Unpacked(folder / "pictures", _rows(name, columns), form, Path(name).parent)


def _group_or_count(name: str, columns: Columns, skipped: dict[str, int]) -> Iterator[Row]:
    """The rows of a row group; one that is damaged is counted in place of its rows."""
    try:
        yield from _rows(name, columns)
    except DataError as error:
        count(skipped, error.reason)


def _rows(name: str, columns: Columns) -> Iterator[Row]:
    path, _, group = name.rpartition("#")
    try:
        table = _file(Path(path)).read_row_group(int(group), columns=[columns[0], *columns[1]])
    except (OSError, ValueError) as error:
        raise DataError(f"row group {group} of {path} is damaged ({error}).", "damaged row group") from error
    for number, record in enumerate(table.to_pylist()):
        yield row_of(record, columns, f"row {number} of group {group} of {Path(path).name}")


def _schema(path: Path, image_column: str | None, caption_column: str | None) -> tuple[Columns, bool]:
    """The columns, and whether the pictures are inside."""
    import pyarrow.types as types

    schema = _file(path).schema_arrow
    columns = choose_columns(schema.names, image_column, caption_column, str(path))
    kind = _held(schema.field(columns[0]).type)
    tests = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_struct)
    inside = any(test(kind) for test in tests)
    if not inside and not any(test(kind) for test in (types.is_string, types.is_large_string, types.is_string_view)):
        raise DataError(f"{path}: column {columns[0]} is {kind}; wanted a path, or a picture's bytes.")
    return columns, inside


def _held(kind: "pyarrow.DataType") -> "pyarrow.DataType":
    """What the cells of a column hold: those of a list its items, those of a dictionary its values."""
    import pyarrow.types as types

    while types.is_list(kind) or types.is_large_list(kind) or types.is_dictionary(kind):
        kind = kind.value_type
    return kind


def _file(path: Path) -> "pyarrow.parquet.ParquetFile":
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f'{path}: Parquet is read by pyarrow; pip install "diptych[data]".') from error
    try:
        return pyarrow.parquet.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as Parquet ({error}).") from error
