"""Marks of files: the same for copies, different for what was changed."""

from pathlib import Path

import pytest

from diptych.data.sources.provenance import MarkedFile, mark_of, marked_files


def test_a_copy_has_the_same_mark(tmp_path: Path) -> None:
    content = bytes(range(256)) * 2000
    for name, data in (("a.tar", content), ("b.tar", content), ("c.tar", content[:-1]), ("d.tar", b"x" + content[1:])):
        (tmp_path / name).write_bytes(data)
    marks = [mark_of(tmp_path / f"{name}.tar") for name in "abcd"]
    assert marks[0] == marks[1]
    assert len({*marks}) == 3


@pytest.mark.parametrize("at", [0, 256_000, 511_999])
def test_a_change_at_either_end_or_in_the_middle_is_seen(tmp_path: Path, at: int) -> None:
    content = bytearray(512_000)
    (tmp_path / "a.tar").write_bytes(content)
    content[at] = 1
    (tmp_path / "b.tar").write_bytes(content)
    assert mark_of(tmp_path / "a.tar") != mark_of(tmp_path / "b.tar")


def test_shards_and_tables_of_a_source_are_marked(tmp_path: Path) -> None:
    for name in ("train/00000.tar", "train/00000.parquet", "train/1.jpg", "00001.tar.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    found = marked_files(str(tmp_path))
    assert [each.path.relative_to(tmp_path).as_posix() for each in found] == [
        "00001.tar.gz", "train/00000.parquet", "train/00000.tar",
    ]  # fmt: skip
    tar = tmp_path / "train" / "00000.tar"
    assert marked_files(str(tmp_path / "train" / "*.tar")) == [MarkedFile(tar, mark_of(tar))]
    assert marked_files("https://example.org/{00..99}.tar") == []
    assert marked_files(str(tmp_path / "missing")) == []
