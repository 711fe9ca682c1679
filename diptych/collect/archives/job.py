"""Many archives: each in a process of this machine or on a Ray cluster, with a record when it is done, so that a run
that was interrupted repeats none."""

from __future__ import annotations

import json
import os
import pickle
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from diptych.collect.archives.reading import FOUND, PAIRS, ArchiveRules, ArchiveSummary, read_archive
from diptych.collect.archives.record_reader import FLAWS
from diptych.collect.output.datasheet import refresh_datasheet
from diptych.collect.output.facts import pair_of
from diptych.collect.output.forgotten import Forgotten
from diptych.collect.output.open_shard import content_of, stored_pairs
from diptych.collect.output.run_log import RunRecord, add_run
from diptych.collect.output.shard_writer import PAIRS_PER_SHARD, ShardWriter, open_path, open_shards, shard_files
from diptych.data.sources.remote import fetch_file
from diptych.data.spooling import DISK_FULL
from diptych.errors import DataError
from diptych.extras import require
from diptych.failures import Failure
from diptych.index.bulk.ray_cluster import RETRIES, connected
from diptych.index.bulk.shard_files import read_record
from diptych.index.bulk.shard_targets import Records
from diptych.index.bulk.sharded_source import version_of
from diptych.storage.atomic import atomic_write, atomic_write_text
from diptych.untrusted.downloading import shown

TABLES, DONE = "found", "archives"  # folders in OUT: tables for `diptych collect list`, and records


class ReadArchive(NamedTuple):
    """What became of an archive: its summary with its table and its tar of pairs, or why it could not be read."""

    archive: str
    summary: ArchiveSummary | None = None
    table: bytes = b""
    pairs: bytes = b""
    failure: Failure | None = None


ReadAll = Callable[[Sequence[str], ArchiveRules, Forgotten], Iterable[ReadArchive]]


@dataclass
class ArchivesResult:
    """What a run did, with what it found from before: `archives` in all, of which `before` were done by earlier runs;
    rows of tables (`found`); `pairs` in shards; what was left out, by reason; archives with flaws, by name; and those
    that could not be read at all (`lost`), which the same call tries again."""

    archives: int = 0
    before: int = 0
    found: int = 0
    pairs: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    flawed: dict[str, dict[str, int]] = field(default_factory=dict)
    lost: dict[str, Failure] = field(default_factory=dict)


def collect_archives(
    archives: Sequence[str],
    out: str | os.PathLike[str],
    *,
    rules: ArchiveRules | None = None,
    read: ReadAll | None = None,
    pairs_per_shard: int = PAIRS_PER_SHARD,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ArchivesResult:
    """Read WARC and WAT files, by path or address, into OUT/found, a table for each archive, and the pictures that they
    have themselves into shards.

    Each archive that was read has a record in OUT/archives; while its size and time stay, it is not read again. `read`
    reads the archives, by default in one process per core. `progress` gets (done, total) archives. Raises
    IndexBusyError while another process writes to `out`, and OSError where the disk is full.
    """
    require("reading archives", "fastwarc", "resiliparse", "pyarrow")
    out, rules, started_s = Path(out), rules or ArchiveRules(), time.time()
    records, result = Records(out / DONE), ArchivesResult(archives=len(archives))
    for folder in (out / TABLES, out / DONE):
        folder.mkdir(parents=True, exist_ok=True)
    with ShardWriter(out, pairs_per_shard=pairs_per_shard) as writer:
        target = _Target(out, records, writer)
        waiting = [archive for archive in archives if not _is_done(archive, records)]
        done = result.before = len(archives) - len(waiting)
        progress(done, len(archives))
        try:
            for each in (read or in_processes())(waiting, rules, Forgotten(out)) if waiting else ():
                if each.failure is not None:
                    result.lost[_name(each.archive)] = each.failure
                else:
                    target.take(each)
                done += 1
                progress(done, len(archives))
        finally:
            _count(archives, records, result)
            if waiting:
                add_run(out, _run(rules, started_s, result))
    refresh_datasheet(out)
    return result


class _Target:
    """Where tables and pairs go. A picture that is in a shard already, as from an archive that was not finished, does
    not come into another one."""

    def __init__(self, out: Path, records: Records, writer: ShardWriter):
        self._out, self._records, self._writer = out, records, writer
        self._urls = set(_urls_in(out))

    def take(self, each: ReadArchive) -> None:
        """Write what an archive gave, and then its record."""
        assert each.summary is not None
        with TemporaryDirectory(prefix="diptych-archive-") as folder:
            tar = Path(folder, PAIRS)
            tar.write_bytes(each.pairs)
            for stored in stored_pairs(tar) if each.pairs else ():
                if (url := str(stored.facts["url"])) not in self._urls:
                    self._writer.add(pair_of(stored.facts, content_of(stored, tar)))
                    self._urls.add(url)
        self._writer.sync()
        table = self._out / TABLES / f"{self._records.stem(each.archive)}.parquet"
        with atomic_write(table) as part:
            part.write_bytes(each.table)
        content = {"archive": _name(each.archive), "version": _version(each.archive), **each.summary._asdict()}
        atomic_write_text(self._records.path(each.archive), json.dumps(content) + "\n")


def _urls_in(out: Path) -> Iterator[str]:
    """The addresses of the pictures in shards."""
    import pyarrow.parquet as pq

    for _, path in shard_files(out):
        if path.suffix == ".parquet":
            yield from pq.read_table(path, columns=["url"])["url"].to_pylist()
    for number in open_shards(out):
        yield from (str(stored.facts["url"]) for stored in stored_pairs(open_path(out, number)))


def _is_done(archive: str, records: Records) -> bool:
    version = records.version(archive)
    return version is not None and version == _version(archive)


def _version(archive: str) -> str:
    try:
        return version_of(archive)
    except (DataError, OSError):
        return "gone"


def _count(archives: Iterable[str], records: Records, result: ArchivesResult) -> None:
    """Add up the records of the archives."""
    left_out = Counter[str]()
    for archive in archives:
        if not records.path(archive).is_file():
            continue
        record = read_record(records.path(archive))
        result.found += int(record["found"])
        result.pairs += int(record["pairs"])
        left_out.update(record["left_out"])
        if flaws := {name: count for name, count in record["left_out"].items() if name in FLAWS}:
            result.flawed[_name(archive)] = flaws
    result.left_out = dict(left_out.most_common())


def _run(rules: ArchiveRules, started_s: float, result: ArchivesResult) -> RunRecord:
    flags = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(rules).items()}
    flags = {name: value for name, value in flags.items() if value}
    found = result.found + result.pairs
    return RunRecord("common-crawl", flags, started_s, time.time(), found, result.pairs, result.left_out)


def _name(archive: str) -> str:
    return shown(archive) if "://" in archive else archive


# --- one archive


def read_one(archive: str, rules: ArchiveRules, forgotten: Forgotten) -> ReadArchive:
    """Read an archive, which is fetched into a temporary folder if it is elsewhere: over http(s) by ranges, so that a
    transfer that breaks off goes on where it was. Raises OSError where the disk is full; any other error costs this
    archive."""
    try:
        with TemporaryDirectory(prefix="diptych-archive-") as name:
            folder = Path(name)
            path = fetch_file(archive, folder) if "://" in archive else Path(archive)
            summary = read_archive(path, _name(archive), folder, rules, forgotten)
            tar = folder / PAIRS
            return ReadArchive(
                archive, summary, (folder / FOUND).read_bytes(), tar.read_bytes() if tar.exists() else b""
            )
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise
        reason = getattr(error, "reason", type(error).__name__)
        return ReadArchive(archive, failure=Failure(str(reason), f"{_name(archive)}: {error}"))


def in_this_process(archives: Sequence[str], rules: ArchiveRules, forgotten: Forgotten) -> Iterator[ReadArchive]:
    """Read archives one after another."""
    return (read_one(archive, rules, forgotten) for archive in archives)


def in_processes(number: int | None = None) -> ReadAll:
    """Reads archives in several processes, by default one per core. One that ends costs its archive alone."""

    def read(archives: Sequence[str], rules: ArchiveRules, forgotten: Forgotten) -> Iterator[ReadArchive]:
        workers, left = min(number or os.cpu_count() or 1, len(archives)), iter(archives)
        suspects = [""]
        while suspects:
            suspects = list[str]()
            yield from _in_pool(left, rules, forgotten, workers, suspects)
            for archive in suspects:
                alone = list[str]()
                yield from _in_pool(iter([archive]), rules, forgotten, 1, alone)
                if alone:
                    message = f"{_name(archive)}: the process that read it ended, as for lack of memory."
                    yield ReadArchive(archive, failure=Failure("its process ended", message))

    return read


def _in_pool(
    left: Iterator[str], rules: ArchiveRules, forgotten: Forgotten, workers: int, suspects: list[str]
) -> Iterator[ReadArchive]:
    """What processes read, until one of them ends: then the archives that were being read are added to `suspects`."""
    with _pool(workers) as pool:
        running = dict[Future[ReadArchive], str]()
        while True:
            while not suspects and len(running) < 2 * workers and (archive := next(left, None)) is not None:
                try:
                    running[pool.submit(read_one, archive, rules, forgotten)] = archive
                except BrokenProcessPool:
                    suspects.append(archive)
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                archive = running.pop(future)
                try:
                    yield future.result()
                except BrokenProcessPool:
                    suspects.append(archive)


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes, which end with this one, and at once where the block is left by an error."""
    before = {*active_children()}
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent)
    try:
        yield pool
    except BaseException:
        for process in {*active_children()} - before:
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    def watch() -> None:
        if (parent := parent_process()) is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


# --- on Ray


def on_ray(cluster: str) -> ReadAll:
    """Reads archives on the Ray cluster at an address (see `index.bulk.ray_cluster`). Every machine must reach the
    archives by the same names."""
    require("a cluster", "ray")

    def read(archives: Sequence[str], rules: ArchiveRules, forgotten: Forgotten) -> Iterator[ReadArchive]:
        with connected(cluster) as ray:
            task = ray.remote(num_cpus=1, max_retries=RETRIES)(_pickled)
            cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
            left, running = iter(archives), {}
            while True:
                while len(running) < 2 * cores and (archive := next(left, None)) is not None:
                    running[task.remote(archive, rules, forgotten)] = archive
                if not running:
                    return
                (done, *_), _ = ray.wait(list(running))
                archive = running.pop(done)
                try:
                    yield pickle.loads(ray.get(done))
                except ray.exceptions.RayError as error:
                    message = f"{_name(archive)}: its worker failed ({type(error).__name__})."
                    yield ReadArchive(archive, failure=Failure("its worker failed", message))

    return read


def _pickled(archive: str, rules: ArchiveRules, forgotten: Forgotten) -> bytes:
    return pickle.dumps(read_one(archive, rules, forgotten))
