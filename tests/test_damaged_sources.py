"""Damage in sources: what is lost is named and counted, and costs nothing beside it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import write_tar

from diptych.data.samples import DataError, Source, Stream
from diptych.data.shards import ShardSource
from diptych.data.sources import all_captions, open_source


def source_of(spec: object) -> Source:
    source = open_source(str(spec))
    assert not isinstance(source, Stream)
    return source


def captions_of(spec: object) -> list[str]:
    return list(all_captions(source_of(spec)))


# --- tar shards whose end is not one


def shard(path: Path, keys: str = "abcd") -> Path:
    """A picture and a caption for each key, both of one block behind a header of one."""
    return write_tar(path, {f"{key}.{kind}": kind.encode() * 170 for key in keys for kind in ("jpg", "txt")})


SAMPLE = 512 * 4


def overwritten(data: bytes, at: int) -> bytes:
    return data[:at] + b"\xa5" * 512 + data[at + 512 :]


def zeroed(data: bytes, at: int) -> bytes:
    return data[:at] + bytes(512) + data[at + 512 :]


def cut(data: bytes, at: int) -> bytes:
    return data[:at]


def cut_inside(data: bytes, at: int) -> bytes:
    return data[: at + 200]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (overwritten, f"the header at byte {2 * SAMPLE} is damaged"),
        (zeroed, f"data follows its end at byte {2 * SAMPLE}"),
        (cut, "may be cut"),
        (cut_inside, "may be cut"),
    ],
)
def test_a_damaged_header_is_no_end(tmp_path: Path, damage: Callable[[bytes, int], bytes], words: str) -> None:
    whole = shard(tmp_path / "0.tar").read_bytes()
    assert source_of(tmp_path).skipped == {}
    (tmp_path / "0.tar").write_bytes(damage(whole, 2 * SAMPLE))
    source = ShardSource([tmp_path / "0.tar"])
    assert [source.key(i) for i in range(len(source))] == ["a in 0.tar", "b in 0.tar"]
    assert source.skipped == {"damage in 0.tar": 1}
    assert words in source._damage[0]


def test_an_end_of_one_block_or_of_many_is_one(tmp_path: Path) -> None:
    """The standard wants two blocks of zeros, some writers leave one, GNU tar fills up to 10,240 bytes."""
    data = shard(tmp_path / "0.tar").read_bytes()[: 4 * SAMPLE]
    for zeros in (512, 1024, 3 << 20):
        (tmp_path / "0.tar").write_bytes(data + bytes(zeros))
        assert (len(source_of(tmp_path)), source_of(tmp_path).skipped) == (4, {})
    for rest in (b"", bytes(511), bytes(3 << 20) + b"x"):
        (tmp_path / "0.tar").write_bytes(data + rest)
        assert (len(source_of(tmp_path)), source_of(tmp_path).skipped) == (4, {"damage in 0.tar": 1})


def test_a_shard_that_braces_spell_out_must_be_there(tmp_path: Path) -> None:
    for number in (0, 1, 3):
        shard(tmp_path / f"s-{number:04}.tar")
    with pytest.raises(DataError, match=r"1 of the 4 files that it names are not there \(\S+s-0002\.tar\)"):
        open_source(f"{tmp_path}/s-{{0000..0003}}.tar")
    with pytest.raises(DataError, match=r"5 of the 8 .* \(\S+s-0002\.tar, \S+s-0004\.tar, \S+s-0005\.tar, \.\.\.\)"):
        open_source(f"{tmp_path}/s-{{0000..0007}}.tar")
    assert len(source_of(f"{tmp_path}/{{s,t}}-*.tar")) == 12  # a pattern may match nothing
    with pytest.raises(DataError, match=r"neither a folder, nor a file"):
        open_source(f"{tmp_path}/t.tar")
