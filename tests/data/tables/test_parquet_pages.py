"""What pages of Parquet say of themselves is believed before they are unpacked, and not what the footer says."""

from pathlib import Path
from typing import Any

import pytest

from diptych.data import spooling
from diptych.data.sources.opening import open_source
from diptych.data.tables.parquet_pages import column_chunks, unpacked_sizes
from diptych.errors import DataError

pyarrow = pytest.importorskip("pyarrow")


def written(path: Path, **options: Any) -> Any:
    import pyarrow.parquet as parquet

    rows = {
        "image": [bytes([at % 251]) * 900 for at in range(2000)],
        "caption": [f"words {at % 9}" for at in range(2000)],
    }
    parquet.write_table(pyarrow.table(rows), path, write_statistics=False, **options)
    return parquet.ParquetFile(path).metadata


@pytest.mark.parametrize(
    "options",
    [
        {}, {"compression": "zstd", "data_page_size": 1000}, {"data_page_version": "2.0"},
        {"use_dictionary": False, "row_group_size": 300}, {"write_page_checksum": True, "compression": "none"},
    ],
)  # fmt: skip
def test_pages_add_up_to_their_column(tmp_path: Path, options: dict[str, Any]) -> None:
    """The footer counts headers, too."""
    said = written(tmp_path / "t.parquet", **options)
    with (tmp_path / "t.parquet").open("rb") as file:
        for group in range(said.num_row_groups):
            for at in range(2):
                part = said.row_group(group).column(at)
                start = part.dictionary_page_offset if part.has_dictionary_page else part.data_page_offset
                sizes = list(unpacked_sizes(file, start, part.total_compressed_size, part.num_values))
                assert 0 < sum(sizes) < part.total_uncompressed_size < sum(sizes) + 200 * len(sizes)
    assert len(list(_captions(tmp_path / "t.parquet"))) == 2000


@pytest.mark.parametrize("options", [{}, {"use_dictionary": False, "column_encoding": {"caption": "DELTA_BYTE_ARRAY"}}])
def test_the_footer_is_read_as_pyarrow_reads_it(tmp_path: Path, options: dict[str, Any]) -> None:
    """Without pyarrow's objects of a column chunk, which end the process where the footer contradicts itself."""
    metadata = written(tmp_path / "t.parquet", row_group_size=700, **options)
    for group in range(metadata.num_row_groups):
        columns = [metadata.row_group(group).column(index) for index in range(metadata.num_columns)]
        for chunk, column in zip(column_chunks(tmp_path / "t.parquet", group), columns, strict=True):
            assert (chunk.path, chunk.values) == (column.path_in_schema, column.num_values)
            assert (chunk.unpacked, chunk.packed) == (column.total_uncompressed_size, column.total_compressed_size)
            has_dictionary = column.has_dictionary_page
            assert chunk.start == (column.dictionary_page_offset if has_dictionary else column.data_page_offset)
            assert chunk.has_differences == ("DELTA_BYTE_ARRAY" in column.encodings)
            assert not chunk.has_lengths


@pytest.mark.parametrize("footer", [b"", b"\x00", b"\x19\x1c\x00", b"\x49\xfc\xff\xff\xff\x0f", b"\xff" * 40])
def test_a_footer_that_is_invalid_is_an_error(tmp_path: Path, footer: bytes) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(ValueError, match=r"invalid|too deep"):
        column_chunks(path, 0)


def _captions(path: Path) -> Any:
    from diptych.data.sources.opening import all_captions

    return all_captions(open_source(path))


def test_a_footer_that_says_less_than_its_pages_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diptych.data.tables import parquet

    path = tmp_path / "t.parquet"
    written(path, compression="zstd", use_dictionary=False)
    chunks = [chunk._replace(unpacked=1) for chunk in column_chunks(path, 0)]
    monkeypatch.setattr(spooling, "_MIN_ROOM", 4 << 20)
    assert parquet._unpacked_bytes(path, 0, chunks, ["image", "caption"]) > 1_800_000
    monkeypatch.setattr(spooling, "_MIN_ROOM", 0)
    monkeypatch.setattr(spooling, "_MAX_RATIO", 2)
    with pytest.raises(DataError, match=r"unpacks to 1,\d{3},\d{3} bytes; wanted at most"):
        parquet._unpacked_bytes(path, 0, chunks, ["image", "caption"])


@pytest.mark.parametrize("damage", [b"\xff" * 5000, b"\x1c" * 5000, b"", b"\x15\x80", b"\x00"])
def test_headers_that_make_no_sense(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "t").write_bytes(damage)
    with (tmp_path / "t").open("rb") as file, pytest.raises(ValueError, match="header"):
        list(unpacked_sizes(file, 0, 5000, 10))


def test_cells_that_are_told_by_their_length_or_their_difference(tmp_path: Path) -> None:
    """As other programs write texts; a picture may be told by its length alone."""
    columns = {"image": "DELTA_LENGTH_BYTE_ARRAY", "caption": "DELTA_BYTE_ARRAY"}
    written(tmp_path / "t.parquet", use_dictionary=False, column_encoding=columns)
    assert list(_captions(tmp_path / "t.parquet")) == [f"words {at % 9}" for at in range(2000)]
    written(tmp_path / "t.parquet", use_dictionary=False, column_encoding=dict.fromkeys(columns, "DELTA_BYTE_ARRAY"))
    with pytest.raises(DataError, match="1 with damaged row group"):
        open_source(tmp_path / "t.parquet")
