"""`diptych collect list`: lists into a ledger, the ledger's addresses into shards."""

from __future__ import annotations

import asyncio
import csv
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from diptych.collect.addresses import host_of
from diptych.collect.captions.rules import RULES, CaptionRules
from diptych.collect.lists.addresses import Lookup, Reach, Resolver, listed
from diptych.collect.lists.downloader import Downloader, Limits
from diptych.collect.lists.ledger import Ledger, ListedRow, State
from diptych.collect.lists.preparers import Preparers
from diptych.collect.lists.recorder import Recorder, recover
from diptych.collect.lists.room import Room
from diptych.collect.lists.tables import list_files, read_list
from diptych.collect.lists.transport import Transport
from diptych.collect.output.datasheet import refresh_datasheet
from diptych.collect.output.forgotten import Forgotten
from diptych.collect.output.run_log import RunRecord, add_run
from diptych.collect.output.shard_writer import PAIRS_PER_SHARD, ShardWriter
from diptych.collect.pairs import Words
from diptych.collect.permission.agent import user_agent
from diptych.collect.permission.permissions import Permissions
from diptych.collect.pictures.rules import PICTURE_RULES
from diptych.errors import ArgumentError, FetchError
from diptych.extras import require
from diptych.storage.atomic import atomic_write
from diptych.storage.output_files import subfolder

FAILED_NAME = "failed.csv"
_SPARE_FILES = 128  # open files for everything but connections
Progress = Callable[[int, int], None]


class ListResult(NamedTuple):
    """What is known after a run.

    `rows` of the lists were kept and `left_out` were not, by reason. Of the addresses in them (`urls`), `pairs` were
    written into shards by this run, `recovered` by a killed one that had not noted it; in all runs together, `done` are
    in shards, `failed` and `refused` are not, by reason, and `waiting` were not asked for yet. `peak_bytes` of pictures
    were in memory at once."""

    out: Path
    rows: int
    left_out: dict[str, int]
    urls: int
    pairs: int
    recovered: int
    done: int
    failed: dict[str, int]
    refused: dict[str, int]
    waiting: int
    seconds: float
    peak_bytes: int


def collect_list(
    lists: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    contact: str,
    size: int | None = None,
    retry: bool = False,
    owned: Sequence[str] = (),
    networks: Sequence[str] = (),
    disabled: Collection[str] = (),
    limits: Limits | None = None,
    processes: int | None = None,
    pairs_per_shard: int = PAIRS_PER_SHARD,
    url_column: str | None = None,
    caption_column: str | None = None,
    progress: Progress | None = None,
    on_read: Progress | None = None,
    lookup: Lookup | None = None,
) -> ListResult:
    """Download the pictures of `lists` (tables of addresses and captions, or folders of them) into shards in `out`.

    Each address is asked for once, as its host permits: robots.txt with its pauses, tdm-reservation and noai, under a
    name that says who asks (`contact`: a mail or web address). Only public addresses are asked, besides those of
    `networks` (such as 10.0.0.0/8) and of the hosts that are `owned`, whose rules are not asked for either. `size` is
    the shorter side in px to which pictures are made smaller, `disabled` are names of rules on captions and pictures,
    `processes` decode (by default one per core). With `retry` what failed or was refused is asked for again.

    The same call goes on where an earlier one was interrupted. Raises DataError for a list without such columns,
    OSError where the disk is full, KeyboardInterrupt after Ctrl-C; what has arrived is kept.
    """
    require("downloading a list", "aiohttp", "h2", "protego", "pyarrow", "resiliparse")
    agent, reach, chosen = user_agent(contact), Reach.of(networks, owned), limits or Limits()
    chosen = replace(chosen, requests=min(chosen.requests, _most_connections()))
    if unknown := sorted({*disabled} - {*RULES, *PICTURE_RULES}):
        names = ", ".join((*RULES, *PICTURE_RULES))
        raise ArgumentError(f"no rule is called {unknown[0]!r:.60}; there are {names}.", argument="disabled")
    rules = CaptionRules({*disabled} & {*RULES})
    files = [file for path in lists for file in list_files(Path(path))]
    folder, began = subfolder(Path(out)), time.monotonic()
    room = Room(chosen.memory_bytes)
    with ShardWriter(folder, pairs_per_shard=pairs_per_shard) as writer, Ledger(folder) as ledger:
        recovered = recover(folder, ledger)
        for at, file in enumerate(files):
            if on_read:
                on_read(at, len(files))
            if not ledger.has_read(file):
                left_out: Counter[str] = Counter()
                rows = _usable_rows(file, url_column, caption_column, rules, left_out)
                ledger.add(file, rows, left_out)
        if retry:
            ledger.wait_again()
        run = _Run(ledger, writer, room, reach, agent, chosen, Forgotten(folder), progress)
        try:
            run.go(Preparers(processes or _cores(), size=size, disabled=disabled), Resolver(reach, lookup))
        finally:
            run.recorder.finish()
            flags = {"size": size, "retry": retry, "disabled": sorted(disabled)}
            add_run(folder, run.record(writer.pairs, {name: value for name, value in flags.items() if value}))
        _write_failed(ledger, folder)
        result = _result(folder, ledger, writer.pairs, recovered, time.monotonic() - began, room.peak)
    refresh_datasheet(folder)
    return result


class _Run:
    """The part of a run in which addresses are asked for."""

    def __init__(
        self, ledger: Ledger, writer: ShardWriter, room: Room, reach: Reach, agent: str, limits: Limits,
        forgotten: Forgotten, progress: Progress | None,
    ):  # fmt: skip
        self._room, self._reach, self._agent, self._limits = room, reach, agent, limits
        self._forgotten, self._progress = forgotten, progress
        self._started_s, self._ledger, self._before = time.time(), ledger, self._left_out(ledger)
        self._total = sum(ledger.counts()[State.WAITING].values())
        self.recorder = Recorder(ledger, writer, room, lambda sha256: forgotten.covers(sha256=sha256))

    def go(self, preparers: Preparers, resolver: Resolver) -> None:
        """Ask for all that waits. Raises what ended it."""
        try:
            asyncio.run(self._all(preparers, resolver))
        except BaseExceptionGroup as group:
            raise _first(group) from group

    def record(self, pairs: int, flags: Mapping[str, bool | int | Sequence[str]]) -> RunRecord:
        """What this run did, for the datasheet; what earlier runs into the same folder left out is in their records."""
        left_out = dict(self._left_out(self._ledger) - self._before)
        found = self.recorder.ended.total()
        return RunRecord("list", flags, self._started_s, time.time(), found, pairs, left_out)

    @staticmethod
    def _left_out(ledger: Ledger) -> Counter[str]:
        counts = ledger.counts()
        return Counter(counts[State.FAILED]) + Counter(counts[State.REFUSED])

    async def _all(self, preparers: Preparers, resolver: Resolver) -> None:
        permissions = Permissions(own_hosts=self._reach.owned)
        try:
            async with asyncio.TaskGroup() as group, Transport(resolver, self._room, self._agent) as transport:
                group.create_task(self.recorder.run())
                beside = [group.create_task(self._report())]
                if self._total:
                    beside.append(group.create_task(preparers.start()))
                downloader = Downloader(
                    transport, resolver, permissions, preparers, self._limits, self.recorder.deliver,
                    lambda url: self._forgotten.covers(url=url, domain=host_of(url)),
                )  # fmt: skip
                await downloader.run(lambda after: self.recorder.waiting(after, self._limits.portion))
                self.recorder.end()
                for task in beside:
                    task.cancel()
        finally:
            resolver.close()
            await preparers.close()

    async def _report(self) -> None:
        """Tell `progress` how many are done, ten times a second."""
        if self._progress is None:
            return
        while True:
            self._progress(self.recorder.ended.total(), self._total)
            await asyncio.sleep(0.1)


def summary(out: str | os.PathLike[str]) -> ListResult:
    """What is known of an earlier run, such as an interrupted one."""
    with Ledger(Path(out)) as ledger:
        return _result(Path(out), ledger, 0, 0, 0.0, 0)


def _usable_rows(
    file: Path, url_column: str | None, caption_column: str | None, rules: CaptionRules, left_out: Counter[str]
) -> Iterator[ListedRow]:
    skipped: dict[str, int] = {}
    for row in read_list(file, skipped, url_column, caption_column):
        try:
            url = listed(row.url)
        except FetchError as error:
            left_out[error.reason] += 1
            continue
        words = [Words.of(caption, "list") for caption in row.captions]
        refusals = [rules.judge(each) for each in words]
        kept = [each.text for each, refusal in zip(words, refusals, strict=True) if refusal is None]
        if kept:
            yield ListedRow(url, kept, row.licence, row.columns)
        else:
            left_out[f"caption: {refusals[0]}"] += 1
    left_out.update(skipped)


def _result(out: Path, ledger: Ledger, pairs: int, recovered: int, seconds: float, peak_bytes: int) -> ListResult:
    counts = ledger.counts()
    number = {state: sum(by_reason.values()) for state, by_reason in counts.items()}
    rows, left_out = ledger.rows()
    return ListResult(
        out, rows, left_out, sum(number.values()), pairs, recovered, number[State.DONE], counts[State.FAILED],
        counts[State.REFUSED], number[State.WAITING], seconds, peak_bytes,
    )  # fmt: skip


def _write_failed(ledger: Ledger, out: Path) -> None:
    """A table of what failed or was refused, for people; `--retry` reads the ledger."""
    with atomic_write(out / FAILED_NAME, durable=False) as part, open(part, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("url", "reason", "detail"))
        writer.writerows(ledger.failed())


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _most_connections() -> int:
    """As many as there may be open files, with one more for each that waits to be closed."""
    if sys.platform == "win32":
        return 400
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else max(8, (soft - _SPARE_FILES) // 2)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first of the errors that ended a group of tasks."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
