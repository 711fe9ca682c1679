"""Shards that are whole or absent, and say the same as the tables beside them."""

import errno
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from drawn_pairs import drawn_pair

from diptych.collect.output.facts import facts_of, json_of, pair_of, parsed_facts
from diptych.collect.output.open_shard import content_of, stored_pairs
from diptych.collect.output.shard_writer import ShardWriter
from diptych.collect.pairs import Found, Pair, Words
from diptych.data.sources.opening import open_source
from diptych.errors import DataError, IndexBusyError


def read_back(path: Path) -> list[Pair]:
    return [pair_of(stored.facts, content_of(stored, path)) for stored in stored_pairs(path)]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith((".lock", ".json")))


def test_shards_hold_what_was_given(tmp_path: Path) -> None:
    pairs = [drawn_pair(number, scores={"agreement": 0.25}, flags=("nsfw", "small")) for number in range(5)]
    with ShardWriter(tmp_path, pairs_per_shard=2) as writer:
        paths = [writer.add(pair) for pair in pairs]
    assert names(tmp_path) == [f"0000{n}.{kind}" for n in range(3) for kind in ("parquet", "tar")]
    assert (writer.pairs, writer.shards) == (5, 3)
    assert paths[3] == "00001.tar/00001000001.jpg"
    assert [pair for n in range(3) for pair in read_back(tmp_path / f"0000{n}.tar")] == pairs


def test_training_reads_all_captions(tmp_path: Path) -> None:
    with ShardWriter(tmp_path) as writer:
        writer.add(drawn_pair(7))
    sample = open_source(tmp_path)[0]  # type: ignore[index]
    assert sample.captions == ("a square of colour 7", "colour number 7")
    assert sample.image == drawn_pair(7).picture.content
    with tarfile.open(tmp_path / "00000.tar") as tar:
        assert tar.getnames() == [f"00000000000{suffix}" for suffix in (".jpg", ".txt", ".json")]
        assert tar.extractfile("00000000000.txt").read() == b"a square of colour 7"  # type: ignore[union-attr]


def test_the_table_says_what_the_shard_says(tmp_path: Path) -> None:
    with ShardWriter(tmp_path) as writer:
        writer.add(drawn_pair(3, scores={"opennsfw": 0.5}, flags=("nsfw",)))
        writer.add(drawn_pair(4))
    first, second = pq.read_table(tmp_path / "00000.parquet").to_pylist()
    assert first["key"] == "00000000000"
    assert first["shard"] == "00000.tar"
    assert first["caption"] == "a square of colour 3"
    assert first["origins"] == ["alt", "figcaption"]
    assert first["scores"] == [{"name": "opennsfw", "value": 0.5}]
    assert first["flags"] == ["nsfw"]
    assert first["time"].timestamp() == 1_790_000_003
    assert first["perceptual_hash"] == "0000000000000003"
    assert second["scores"] == []
    assert second["flags"] == []
    assert second["sha256"] == drawn_pair(4).picture.sha256


def test_odd_facts_come_through(tmp_path: Path) -> None:
    pair = drawn_pair(1)
    words = (Words("two\nlines \ud800", "title"),)
    found = Found("https://example.org/ü?a=1&b=\x1b[2J", words, columns={"ключ": "значение", "": ""})
    with ShardWriter(tmp_path) as writer:
        writer.add(Pair(pair.picture, words, found, {"agreement": float("nan"), "other": 1.0}))
    (back,) = read_back(tmp_path / "00000.tar")
    assert back.captions == (Words("two lines ?", "title"),)
    assert back.found.picture_url == found.picture_url
    assert back.found.columns == found.columns
    assert back.scores == {"other": 1.0}
    assert back.found.time_s == 0
    assert pq.read_table(tmp_path / "00000.parquet")["time"].to_pylist() == [None]
    assert pq.read_table(tmp_path / "00000.parquet")["columns"].to_pylist() == [
        [{"name": "ключ", "value": "значение"}, {"name": "", "value": ""}]
    ]


def test_an_empty_run_leaves_no_shard(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "out"):
        pass
    assert names(tmp_path / "out") == []


def test_no_pair_is_without_a_caption(tmp_path: Path) -> None:
    with ShardWriter(tmp_path) as writer, pytest.raises(ValueError, match="no caption"):
        writer.add(Pair(drawn_pair(1).picture, (), drawn_pair(1).found))


_KILLED = """
import os, sys
from pathlib import Path
from drawn_pairs import drawn_pair
from diptych.collect.output.shard_writer import ShardWriter
writer = ShardWriter(Path(sys.argv[1]), pairs_per_shard=4).__enter__()
for number in range(6):
    writer.add(drawn_pair(number))
writer.sync()
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("torn", [b"", b"x" * 700, b"00001000002.jpg".ljust(512, b"\0"), bytes(1024)])
def test_a_killed_run_is_continued(tmp_path: Path, torn: bytes) -> None:
    """Also where it left a part of a pair, or the end of the tar."""
    tests = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)])}
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert names(tmp_path) == [".00001.tar.open", "00000.parquet", "00000.tar"]
    with (tmp_path / ".00001.tar.open").open("ab") as file:
        file.write(torn)
    with ShardWriter(tmp_path, pairs_per_shard=4) as writer:
        writer.add(drawn_pair(6))
    assert names(tmp_path) == [f"0000{n}.{kind}" for n in range(2) for kind in ("parquet", "tar")]
    found = [*read_back(tmp_path / "00000.tar"), *read_back(tmp_path / "00001.tar")]
    assert found == [drawn_pair(number) for number in range(7)]
    assert len(open_source(tmp_path)) == 7  # type: ignore[arg-type]


def test_the_next_run_starts_a_new_shard(tmp_path: Path) -> None:
    for number in range(2):
        with ShardWriter(tmp_path) as writer:
            writer.add(drawn_pair(number))
    assert [read_back(tmp_path / f"0000{n}.tar") for n in range(2)] == [[drawn_pair(0)], [drawn_pair(1)]]


def test_a_number_whose_shard_was_emptied_is_not_used_again(tmp_path: Path) -> None:
    (tmp_path / "00000.parquet").touch()
    with ShardWriter(tmp_path) as writer:
        assert writer.add(drawn_pair(0)).startswith("00001.tar/")


class FullDisk:
    """A file on a disk that has room for so many more bytes."""

    def __init__(self, file, room: int):  # type: ignore[no-untyped-def]
        self._file, self._room = file, room

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)

    def write(self, data: memoryview) -> int:
        if not self._room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self._file.write(data[: self._room])
        self._room -= written
        return written


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.fdopen

    def small(handle: int, mode: str, buffering: int = -1) -> object:
        file = opened(handle, mode, buffering)
        return file if buffering else FullDisk(file, 10_000)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdopen", small)
        writer = ShardWriter(tmp_path)
        with pytest.raises(OSError, match="No space left"), writer:
            [writer.add(drawn_pair(number)) for number in range(100)]
    written = writer.pairs
    assert 2 <= written < 10
    assert names(tmp_path) == [".00000.tar.open"]
    assert (tmp_path / ".00000.tar.open").stat().st_size % 512 == 0
    with ShardWriter(tmp_path) as writer:
        writer.add(drawn_pair(99))
    assert read_back(tmp_path / "00000.tar") == [drawn_pair(number) for number in [*range(written), 99]]


def test_a_table_that_cannot_be_written_keeps_the_shard_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(pq, "write_table", full)
        with pytest.raises(OSError, match="No space left"), ShardWriter(tmp_path, pairs_per_shard=1) as writer:
            writer.add(drawn_pair(0))
    assert names(tmp_path) == [".00000.tar.open"]
    with ShardWriter(tmp_path, pairs_per_shard=1) as writer:
        writer.add(drawn_pair(1))
    assert [read_back(tmp_path / f"0000{n}.tar") for n in range(2)] == [[drawn_pair(0)], [drawn_pair(1)]]


def test_processes_write_shards_of_their_own(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, pairs_per_shard=1, start=0, step=2) as even:
        with ShardWriter(tmp_path, pairs_per_shard=1, start=1, step=2) as odd:
            assert [even.add(drawn_pair(0)), odd.add(drawn_pair(1)), even.add(drawn_pair(2))] == [
                f"{number:05}.tar/{number:05}000000.jpg" for number in range(3)
            ]
        with pytest.raises(IndexBusyError, match="writing pairs to"):
            ShardWriter(tmp_path).__enter__()


def test_another_number_of_processes_finishes_what_is_open(tmp_path: Path) -> None:
    writers = [ShardWriter(tmp_path, start=start, step=4) for start in range(4)]
    for number, writer in enumerate(writers):
        writer.__enter__()
        writer.add(drawn_pair(number))
        writer.__exit__(OSError)
    with ShardWriter(tmp_path) as writer:
        writer.add(drawn_pair(9))
    assert names(tmp_path) == [f"0000{n}.{kind}" for n in range(4) for kind in ("parquet", "tar")]
    assert read_back(tmp_path / "00000.tar") == [drawn_pair(0), drawn_pair(9)]


def test_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".00000.tar.open").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"00000\.tar\.open"), ShardWriter(tmp_path / "out") as writer:
        writer.add(drawn_pair(0))
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    "change",
    [{"captions": []}, {"captions": "one"}, {"origins": ["alt"]}, {"origins": ["alt", "elsewhere"]}, {"width": "24"},
     {"scores": "{"}, {"perceptual_hash": "not a number"}, {"time": None}],
)  # fmt: skip
def test_foreign_facts_are_refused(change: dict[str, object]) -> None:
    facts = facts_of(drawn_pair(1), "a")
    assert parsed_facts(json_of(facts), "a") == facts
    with pytest.raises(DataError, match=r"a\.json is not of a collected pair"):
        parsed_facts(json_of({**facts, **change}), "a")  # type: ignore[dict-item]
