"""Writes what arrives: pairs into shards, outcomes into the ledger, in a thread beside the event loop."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from diptych.collect.lists.downloader import Delivery
from diptych.collect.lists.ledger import Ledger, Outcome, State, Waiting
from diptych.collect.lists.room import Room
from diptych.collect.output.open_shard import stored_pairs
from diptych.collect.output.shard_writer import ShardWriter, open_path, open_shards, shard_files
from diptych.collect.pairs import Pair

_TOGETHER_S = 0.05  # what arrives meanwhile is written at once: a call of the thread costs as much as a picture
COMMIT_S = 1.0  # so much is asked again after a crash of the machine; a killed process loses nothing


class Recorder:
    """One thread that alone uses the ledger and the writer."""

    def __init__(self, ledger: Ledger, writer: ShardWriter, room: Room, is_refused: Callable[[str], bool]):
        """`is_refused` says of a picture's SHA-256 that someone asked to have it removed."""
        self._ledger, self._writer, self._room, self._is_refused = ledger, writer, room, is_refused
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recorder")
        self._arrived: list[Delivery] = []
        self._has_arrived = asyncio.Event()
        self._is_ending = False
        self._noted: list[Outcome] = []
        self._last_commit_s = time.monotonic()
        self.ended = Counter[State]()

    def deliver(self, delivery: Delivery) -> None:
        """Take what became of an address; it is written soon."""
        self._arrived.append(delivery)
        self._has_arrived.set()

    async def run(self) -> None:
        """Write what arrives, until `end` was called. Raises OSError if that fails."""
        while not self._is_ending or self._arrived:
            await self._has_arrived.wait()
            if not self._is_ending:
                await asyncio.sleep(_TOGETHER_S)
            await self._write_arrived()

    def end(self) -> None:
        """Nothing arrives any more."""
        self._is_ending = True
        self._has_arrived.set()

    async def _write_arrived(self) -> None:
        self._has_arrived.clear()
        batch, self._arrived = self._arrived, []
        writing = asyncio.get_running_loop().run_in_executor(self._thread, self._write, batch)
        try:
            await asyncio.shield(writing)  # whoever cancels this waits for the thread in `finish`
        finally:
            for delivery in batch:
                self._room.release(delivery.held)

    async def waiting(self, after: int, limit: int) -> list[Waiting]:
        """Addresses of the ledger that wait."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._ledger.waiting, after, limit)

    def finish(self) -> None:
        """Write what has arrived and commit it. Call it where no event loop runs."""
        self._thread.shutdown(wait=True)
        batch, self._arrived = self._arrived, []
        self._write(batch)
        self._commit()

    def _write(self, batch: list[Delivery]) -> None:
        for delivery in batch:
            outcome = delivery.outcome if delivery.picture is None else self._stored(delivery)
            self._noted.append(outcome)
            self.ended[outcome.state] += 1
        if time.monotonic() - self._last_commit_s > COMMIT_S:
            self._commit()

    def _stored(self, delivery: Delivery) -> Outcome:
        assert delivery.picture is not None
        number, picture = delivery.outcome.id, delivery.picture
        if self._is_refused(picture.sha256):
            return Outcome(number, State.REFUSED, "forgotten", "someone asked to have this picture removed")
        found = self._ledger.found(number, delivery.url)
        path = self._writer.add(Pair(picture, found.words, found))
        return Outcome(number, State.DONE, shard=int(path.partition(".")[0]))

    def _commit(self) -> None:
        """The pairs are on the disk before the ledger says so."""
        if self._noted:
            self._writer.sync()
            self._ledger.note(self._noted)
            self._noted = []
        self._last_commit_s = time.monotonic()


def recover(out: Path, ledger: Ledger) -> int:
    """Note the pairs that a killed run wrote into shards and did not note; return how many these were."""
    known, found = ledger.written_by_shard(), 0
    unfinished = {*open_shards(out)}
    for number in unfinished:
        urls = [str(stored.facts["url"]) for stored in stored_pairs(open_path(out, number))]
        if len(urls) != known.get(number, 0):
            found += ledger.note_written(urls, number)
    for number, path in shard_files(out):
        if path.suffix == ".parquet" and number not in unfinished:
            found += _recover_shard(path, number, known.get(number, 0), ledger)
    return found


def _recover_shard(table: Path, number: int, known: int, ledger: Ledger) -> int:
    import pyarrow.parquet as pq

    if pq.read_metadata(table).num_rows == known:
        return 0
    return ledger.note_written(pq.read_table(table, columns=["url"])["url"].to_pylist(), number)
