"""Many archives: each once, also after an interruption; a bad one costs itself."""

import gzip
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from collect.archives.test_reading import picture
from drawn_archives import page, response, zipped
from untrusted.test_downloading import Server, server  # noqa: F401

from diptych.collect.archives import job
from diptych.collect.archives.job import ReadArchive, collect_archives, in_processes, in_this_process
from diptych.collect.archives.listing import archives_in
from diptych.collect.archives.reading import ArchiveRules
from diptych.collect.lists.tables import list_files, read_list
from diptych.collect.output.forgotten import Forgotten
from diptych.collect.output.open_shard import stored_pairs
from diptych.collect.output.run_log import read_runs
from diptych.errors import ArgumentError, DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three archives, each with a page whose picture it has, and one whose picture it has not."""
    made = tmp_path / "archives"
    made.mkdir()
    for number in range(3):
        parts = [page(2 * number), page(2 * number + 1)]
        parts.append(response(f"https://example.org/{2 * number}.jpg", picture(number), "image/jpeg"))
        (made / f"{number}.warc.gz").write_bytes(zipped(parts))
    return made


def rows(out: Path) -> list[str]:
    return [row.url for table in list_files(out / "found") for row in read_list(table, {})]


def shard_urls(out: Path) -> list[str]:
    return [str(stored.facts["url"]) for tar in sorted(out.glob("*.tar")) for stored in stored_pairs(tar)]


def test_each_archive_is_read_once(folder: Path, tmp_path: Path) -> None:
    out, archives = tmp_path / "out", archives_in([str(folder)])
    result = collect_archives(archives, out, read=in_this_process)
    assert (result.archives, result.before, result.found, result.pairs) == (3, 0, 3, 3)
    assert sorted(rows(out)) == [f"https://example.org/{number}.jpg" for number in (1, 3, 5)]
    assert shard_urls(out) == [f"https://example.org/{number}.jpg" for number in (0, 2, 4)]
    asked = []

    def read(archives: Sequence[str], rules: ArchiveRules, forgotten: Forgotten) -> Iterator[ReadArchive]:
        asked.extend(archives)
        return in_this_process(archives, rules, forgotten)

    again = collect_archives(archives, out, read=read)
    assert (again.before, again.found, again.pairs, asked) == (3, 3, 3, [])
    os.utime(folder / "1.warc.gz", ns=(1, 1))
    collect_archives(archives, out, read=read)
    assert asked == [str(folder / "1.warc.gz")]
    assert len(shard_urls(out)) == 3
    assert [run.command for run in read_runs(out)] == ["common-crawl"] * 2


def test_an_interrupted_run_goes_on_and_repeats_no_pair(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it ended between a pair and the record of its archive."""
    out, archives = tmp_path / "out", archives_in([str(folder)])
    written = job.atomic_write_text

    def interrupted(path: Path, text: str) -> None:
        if path.parent.name == "archives" and path.name.startswith("1"):
            raise KeyboardInterrupt
        written(path, text)

    with monkeypatch.context() as patched:
        patched.setattr(job, "atomic_write_text", interrupted)
        with pytest.raises(KeyboardInterrupt):
            collect_archives(archives, out, read=in_this_process)
    assert len(shard_urls(out)) == 2
    result = collect_archives(archives, out, read=in_this_process)
    assert (result.before, result.pairs) == (1, 3)
    assert shard_urls(out) == [f"https://example.org/{number}.jpg" for number in (0, 2, 4)]


def test_bad_archives_are_counted_and_end_nothing(folder: Path, tmp_path: Path) -> None:
    content = (folder / "0.warc.gz").read_bytes()
    (folder / "cut.warc.gz").write_bytes(content[: len(content) * 2 // 3])
    (folder / "mixed.warc.gz").write_bytes(zipped([page(7)]) + b"rubbish" * 99 + page(8) + zipped([page(9)]))
    (folder / "text.warc").write_bytes(b"no archive")
    archives = [*archives_in([str(folder)]), str(tmp_path / "missing.warc")]
    result = collect_archives(archives, tmp_path / "out", read=in_this_process)
    assert {Path(name).name: flaws for name, flaws in result.flawed.items()} == {
        "cut.warc.gz": {"cut": 1}, "mixed.warc.gz": {"damaged": 2}, "text.warc": {"damaged": 1},
    }  # fmt: skip
    assert [Path(name).name for name in result.lost] == ["missing.warc"]
    assert {f"https://example.org/{number}.jpg" for number in (1, 3, 5, 7, 8, 9)} <= {*rows(tmp_path / "out")}


_read_one = job.read_one


def _dying(archive: str, rules: ArchiveRules, forgotten: Forgotten) -> ReadArchive:
    if archive.endswith("1.warc.gz"):
        os.kill(os.getpid(), signal.SIGKILL)
    return _read_one(archive, rules, forgotten)


def test_a_process_that_dies_costs_its_archive(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "read_one", _dying)
    result = collect_archives(archives_in([str(folder)]), tmp_path / "out", read=in_processes(1))
    assert [(Path(name).name, failure.reason) for name, failure in result.lost.items()] == [
        ("1.warc.gz", "its process ended")
    ]
    assert (result.found, result.pairs) == (2, 2)


def test_archives_are_listed(folder: Path, tmp_path: Path) -> None:
    first, second, third = (str(folder / f"{number}.warc.gz") for number in range(3))
    (folder / "notes.txt").touch()
    assert archives_in([str(folder), first]) == [first, second, third]
    assert archives_in([str(folder / "*.warc.gz")]) == [first, second, third]
    assert archives_in([str(folder / "{0..1}.warc.gz")]) == [first, second]
    assert archives_in(["https://a.org/{00..01}.warc.gz"]) == [f"https://a.org/0{n}.warc.gz" for n in range(2)]
    (tmp_path / "warc.paths.gz").write_bytes(gzip.compress(b"crawl-data/a.warc.gz\ncrawl-data/b.warc.gz\n"))
    assert archives_in([str(tmp_path / "warc.paths.gz")])[1] == "https://data.commoncrawl.org/crawl-data/b.warc.gz"
    with pytest.raises(DataError, match="contains no archives"):
        archives_in([str(tmp_path / "nothing*.warc")])
    with pytest.raises(DataError, match="nothere does not exist"):
        archives_in([str(tmp_path / "nothere")])


def test_unknown_rules_are_refused_before_anything_is_read(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="no rule"):
        collect_archives([str(folder)], tmp_path / "out", rules=ArchiveRules(disabled=("wrong",)))


def test_an_archive_at_an_address_goes_on_by_range(folder: Path, tmp_path: Path, server: Server) -> None:  # noqa: F811
    content, half = (folder / "0.warc.gz").read_bytes(), 200

    def answer(request: str, handler: Any) -> None:
        start = half if f"Range: bytes={half}-" in request else 0
        status = "206 Partial Content" if start else "200 OK"
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content) - start}", 'ETag: "1"', "Accept-Ranges: bytes"]
        lines += [f"Content-Range: bytes {start}-{len(content) - 1}/{len(content)}"] if start else []
        body = content[start:] if start else content[:half]  # the connection breaks off
        handler.wfile.write("\r\n".join([*lines, "Connection: close", "", ""]).encode() + body)

    server.answers["/0.warc.gz"] = answer
    result = collect_archives([server.address("/0.warc.gz")], tmp_path / "out", read=in_this_process)
    assert (result.found, result.pairs, result.lost, result.flawed) == (1, 1, {}, {})
    gets = [request for request in server.asked if request.startswith("GET")]
    assert [f"bytes={half}-" in request for request in gets] == [False, True]
