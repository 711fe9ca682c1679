"""Damage in sources: what is lost is named and counted, and costs nothing beside it."""

import csv
import errno
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.data import spooling
from diptych.data.loading.stream import fetched
from diptych.data.samples import Source, Stream
from diptych.data.sources.opening import all_captions, open_source
from diptych.data.sources.shards import ShardSource
from diptych.data.spooling import unpacking
from diptych.data.tables.spooled import TableRow, picture_bytes
from diptych.data.tables.tsv import tab_separated
from diptych.errors import DataError
from tests.conftest import write_tar


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
    with pytest.raises(DataError, match=r"1 of the 4 files that it names are missing \(\S+s-0002\.tar\)"):
        open_source(f"{tmp_path}/s-{{0000..0003}}.tar")
    with pytest.raises(DataError, match=r"5 of the 8 .* \(\S+s-0002\.tar, \S+s-0004\.tar, \S+s-0005\.tar, \.\.\.\)"):
        open_source(f"{tmp_path}/s-{{0000..0007}}.tar")
    assert len(source_of(f"{tmp_path}/{{s,t}}-*.tar")) == 12  # a pattern may match nothing
    with pytest.raises(DataError, match=r"neither a folder, nor a file"):
        open_source(f"{tmp_path}/t.tar")


# --- tab-separated lines


def rows_of(text: str) -> list[list[str]]:
    return list(tab_separated(io.StringIO(text, newline="")))


HEADER = ["image", "caption"]


def test_a_quote_that_is_never_closed_costs_no_other_row(tmp_path: Path) -> None:
    lines = ["image\tcaption", '0.jpg\t"Hello, she said', "1.jpg\ttwo", '2.jpg\tthree"', '3.jpg\t"four" men']
    wanted = [["0.jpg", '"Hello, she said'], ["1.jpg", "two"], ["2.jpg", 'three"'], ["3.jpg", '"four" men']]
    assert rows_of("\n".join(lines)) == [HEADER, *wanted]
    (tmp_path / "0.jpg").write_bytes(b"x")
    (tmp_path / "a.tsv").write_text("\r\n".join(lines))
    assert captions_of(tmp_path / "a.tsv") == ['"Hello, she said', "two", 'three"', '"four" men']


def test_quoted_cells_go_on_over_lines_and_tabs() -> None:
    text = 'image\tcaption\n0.jpg\t"one\n\ntwo"\n1.jpg\t"a\tb"\n2.jpg\t"say ""x"""\n\n3.jpg\tlast'
    assert rows_of(text) == [
        HEADER, ["0.jpg", "one\n\ntwo"], ["1.jpg", "a\tb"], ["2.jpg", 'say "x"'], ["3.jpg", "last"],
    ]  # fmt: skip
    assert rows_of('caption\timage\n"one\ntwo"\t0.jpg\nthree\t1.jpg') == [
        HEADER[::-1], ["one\ntwo", "0.jpg"], ["three", "1.jpg"],
    ]  # fmt: skip


def test_lines_that_make_no_whole_row_together_are_read_alone() -> None:
    text = 'image\tcaption\n"torn\n0.jpg\tone"\n1.jpg\ttwo\n'
    assert rows_of(text) == [HEADER, ['"torn'], ["0.jpg", 'one"'], ["1.jpg", "two"]]


def test_an_open_quote_is_not_looked_for_without_end() -> None:
    """Short lines, each with a quote that is never closed: each is read alone, in time that grows with their number."""
    lines = [f'"{number}' for number in range(3000)]
    assert rows_of("\n".join(["image\tcaption", *lines])) == [HEADER, *([line] for line in lines)]


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\t\0"), min_size=1).filter(str.strip)


@given(st.lists(st.tuples(CELL, CELL), max_size=6))
def test_what_a_csv_writer_quotes_comes_back(rows: list[tuple[str, str]]) -> None:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter="\t").writerows([("image", "caption"), *rows])
    assert rows_of(file.getvalue()) == [HEADER, *map(list, rows)]


@given(st.lists(st.tuples(*[st.text('ab "', min_size=1)] * 2), max_size=6))
def test_plain_lines_keep_their_number_and_their_pictures(rows: list[tuple[str, str]]) -> None:
    """Whatever quotes stand in the captions."""
    found = rows_of("".join(f"{image}\t{caption}\n" for image, caption in [("image", "caption"), *rows]))
    assert len(found) == 1 + len(rows)
    assert [len(row) for row in found] == [2] * len(found)


# --- folders


def test_a_text_stands_in_for_json_without_captions(tmp_path: Path) -> None:
    """As in shards; JSON that is damaged is said to be."""
    sidecars = {"a": '{"url": "x"}', "b": '{"caption": "from JSON"}', "c": "nonsense"}
    for name, content in sidecars.items():
        (tmp_path / f"{name}.jpg").write_bytes(b"x")
        (tmp_path / f"{name}.json").write_text(content)
        (tmp_path / f"{name}.txt").write_text("from text")
    source = source_of(tmp_path)
    assert [source.captions(0), source[1].captions] == [("from text",), ("from JSON",)]
    with pytest.raises(DataError, match=r"the JSON beside \S+c\.jpg is 'nonsense'"):
        source.captions(2)
    (tmp_path / "a.txt").unlink()
    with pytest.raises(DataError, match=r"a\.jpg has no caption"):
        source.captions(0)


# --- paths that no file can have


def test_a_path_with_a_nul_breaks_its_row_alone(tmp_path: Path) -> None:
    (tmp_path / "0.jpg").write_bytes(b"x")
    rows = [{"image": name, "caption": "x"} for name in ("0.jpg", "a\0b.jpg", "\ud800.jpg")]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = source_of(tmp_path / "a.jsonl")
    assert source[0].image == b"x"
    for index, row, name in ((1, 2, "a\\x00b"), (2, 3, "\\ud800")):
        with pytest.raises(DataError, match=rf"^row {row} of a\.jsonl names .*{re.escape(name)}\.jpg") as caught:
            source[index]
        assert caught.value.reason == "damaged path"
    with pytest.raises(DataError, match=r"row 7 names a picture by 'a\\x00b'"):
        picture_bytes(TableRow("row 7", "a\0b", ["x"]), tmp_path)


# --- temporary folders


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


class FullDisk(io.FileIO):
    """A file on a disk without room: some of what is written to it has a place, and the rest has none."""

    def write(self, _: object) -> int:
        super().write(b"part")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_named_and_what_was_unpacked_goes(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"image": [b"x"] * 3, "caption": ["one"] * 3}), tmp_path / "a.parquet")
    monkeypatch.setattr(spooling, "open", FullDisk, raising=False)
    with pytest.raises(DataError, match=rf"no room for {temporary}/diptych-unpacked-[\w.-]+; set TMPDIR"):
        open_source(tmp_path / "a.parquet")
    assert not [*temporary.iterdir()]
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    source = source_of(tmp_path / "a.parquet")
    assert (len(source), len([*temporary.iterdir()])) == (3, 1)
    del source
    assert not [*temporary.iterdir()]


def test_a_shard_that_cannot_be_fetched_leaves_nothing(temporary: Path) -> None:
    def fetch(shard: str, folder: Path) -> Source:
        (folder / "part").write_bytes(b"x")
        raise {"full": OSError(errno.ENOSPC, "full"), "other": KeyboardInterrupt()}[shard]

    stream = Stream(["full", "other"], fetch, "a test")
    with pytest.raises(DataError, match=rf"no room for {temporary}/diptych-"):
        fetched(stream, "full")
    with pytest.raises(KeyboardInterrupt):
        fetched(stream, "other")
    assert not [*temporary.iterdir()]


def test_a_program_that_ends_leaves_no_folder(temporary: Path) -> None:
    """Neither of a source that is held to the last, nor of one that a thread still fetches, nor by a fork's end."""
    script = """
import os, sys, threading
from diptych.data.samples import Stream
from diptych.data.loading.stream import fetched, in_background

class Held:
    pass

started = threading.Event()
def fetch(shard, folder):
    (folder / "part").write_bytes(b"x")
    if shard == "slow":
        started.set()
        threading.Event().wait()
    return Held()

held = fetched(Stream([], fetch, ""), "quick")
if (child := os.fork()) == 0:
    sys.exit()
os.waitpid(child, 0)
in_background(fetched, Stream([], fetch, ""), "slow")
started.wait()
print(*os.listdir(os.environ["TMPDIR"]))
"""
    environment = {**os.environ, "TMPDIR": str(temporary)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert len(done.stdout.split()) == 2
    assert not [*temporary.iterdir()]


def test_what_a_killed_program_left_goes_with_the_next(temporary: Path) -> None:
    """And nothing else does: neither what a program still uses, nor a folder of another name."""
    script = "from diptych.data.spooling import unpacking\nwith unpacking(): print(flush=True), input()"
    start = [sys.executable, "-c", script]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    (temporary / "diptych-of-mine").mkdir()
    with subprocess.Popen(start, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as killed:
        assert killed.stdout
        killed.stdout.readline()
        [left] = temporary.glob("diptych-unpacked-*")
        with unpacking() as first:
            assert left.exists()
            killed.kill()
            killed.wait()
            with unpacking() as second:
                assert not left.exists()
                assert first.exists()
        assert (temporary / "diptych-of-mine").exists()
        assert second.exists()
