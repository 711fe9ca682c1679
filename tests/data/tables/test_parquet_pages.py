"""What pages of Parquet say of themselves is believed before they are unpacked, and not what the footer says."""

from pathlib import Path
from typing import Any

import pytest

from diptych.data import spooling
from diptych.data.sources.opening import open_source
from diptych.data.tables.parquet_pages import unpacked_sizes
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


def _captions(path: Path) -> Any:
    from diptych.data.sources.opening import all_captions

    return all_captions(open_source(path))


def test_a_footer_that_says_less_than_its_pages_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Said:
        """A column chunk whose footer says a byte."""

        def __init__(self, part: Any):
            self._part, self.total_uncompressed_size = part, 1

        def __getattr__(self, name: str) -> Any:
            return getattr(self._part, name)

    class File:
        def __init__(self, metadata: Any):
            self.metadata = self
            self.row_group = lambda group: self
            self.num_columns, self.column = 2, lambda at: Said(metadata.row_group(0).column(at))

    from diptych.data.tables import parquet

    path = tmp_path / "t.parquet"
    said = written(path, compression="zstd", use_dictionary=False)
    file: Any = File(said)
    monkeypatch.setattr(spooling, "_MIN_ROOM", 4 << 20)
    assert parquet._unpacked_bytes(file, 0, ["image", "caption"], path) > 1_800_000
    monkeypatch.setattr(spooling, "_MIN_ROOM", 0)
    monkeypatch.setattr(spooling, "_MAX_RATIO", 2)
    with pytest.raises(DataError, match=r"unpacks to 1,\d{3},\d{3} bytes; wanted at most"):
        parquet._unpacked_bytes(file, 0, ["image", "caption"], path)


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
