"""Shards in object storage, here behind file://, which fsspec opens as it does s3://."""

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diptych.data.loading.stream import fetched
from diptych.data.samples import Stream
from diptych.data.sources import object_storage
from diptych.data.sources.opening import open_source
from diptych.errors import DataError
from diptych.untrusted.downloading import FetchLimits
from tests.conftest import write_tar


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    folder = tmp_path / "bucket"
    folder.mkdir()
    file = io.BytesIO()
    Image.new("RGB", (24, 20), (200, 30, 30)).save(file, "JPEG")
    for number in range(3):
        write_tar(folder / f"{number:04}.tar", {"a.jpg": file.getvalue(), "a.txt": f"number {number}".encode()})
    (folder / "readme.md").write_text("about them")
    return folder


@pytest.mark.parametrize("form", ["", "/", "/*.tar", "/{0000..0002}.tar"])
def test_a_folder_a_pattern_and_braces_name_the_same_shards(bucket: Path, form: str) -> None:
    stream = open_source(f"file://{bucket}{form}")
    assert isinstance(stream, Stream)
    assert [Path(shard).name for shard in stream.shards] == ["0000.tar", "0001.tar", "0002.tar"]
    assert fetched(stream, stream.shards[1])[0].captions == ("number 1",)


def test_parquet_files_are_fetched(bucket: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    image = io.BytesIO()
    Image.new("RGB", (8, 8)).save(image, "PNG")
    table = pyarrow.table({"image": [image.getvalue()] * 2, "caption": ["one", "two"]})
    (bucket / "tables").mkdir()
    pyarrow.parquet.write_table(table, bucket / "tables" / "a.parquet")
    stream = open_source(f"file://{bucket}/tables")
    assert isinstance(stream, Stream)
    source = fetched(stream, stream.shards[0])
    assert [source[index].captions for index in range(2)] == [("one",), ("two",)]


def test_what_breaks_off_goes_on(bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, opened = (bucket / "0000.tar").read_bytes(), []

    class Cut(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() >= 1000 * len(opened):
                raise OSError("the connection was cut")
            return super().read(500)

    class Files:
        def _strip_protocol(self, address: str) -> str:
            return address

        def open(self, path: str, mode: str) -> Any:
            opened.append(path)
            return Cut(whole)

    monkeypatch.setattr(object_storage, "PAUSE_S", 0)
    monkeypatch.setattr(object_storage, "_file_system", lambda address: ("s3", Files()))
    object_storage.download("s3://bucket/0000.tar", tmp_path / "here", FetchLimits())
    assert (tmp_path / "here").read_bytes() == whole
    assert len(opened) == len(whole) // 1000 + 1

    def refuse(self: Files, path: str, mode: str) -> Any:
        opened.append(path)
        raise OSError("slow down")

    monkeypatch.setattr(Files, "open", refuse)
    opened.clear()
    with pytest.raises(DataError, match=r"could not be read \(slow down"):
        object_storage.download("s3://bucket/0000.tar", tmp_path / "other", FetchLimits())
    assert len(opened) == object_storage.TRIES


def test_what_is_not_there_or_too_large_is_named(bucket: Path, tmp_path: Path) -> None:
    stream = open_source(f"file://{bucket}/0009.tar")
    assert isinstance(stream, Stream)
    with pytest.raises(DataError, match=r"0009\.tar could not be read") as caught:
        fetched(stream, stream.shards[0])
    assert caught.value.reason == "missing"
    with pytest.raises(DataError, match="more than 100 bytes"):
        object_storage.download(f"file://{bucket}/0000.tar", tmp_path / "a", FetchLimits(max_bytes=100))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="neither tar shards nor Parquet"):
        open_source(f"file://{tmp_path}/empty")


def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(scheme: str) -> Any:
        raise ImportError("no module named s3fs")

    monkeypatch.setattr("fsspec.filesystem", missing)
    for address, wanted in {
        "s3://bucket/*.tar": r"s3fs, .*'diptych\[cloud\]'$",
        "az://bucket/*.tar": "install adlfs$",
    }.items():
        with pytest.raises(DataError, match=wanted):
            open_source(address)


def test_a_file_s_version_changes_with_it(bucket: Path) -> None:
    address = f"file://{bucket}/0000.tar"
    before = object_storage.version_of(address)
    assert object_storage.version_of(address) == before
    (bucket / "0000.tar").write_bytes(b"other")
    assert object_storage.version_of(address) != before
