"""Embeds the shards of a source into a target, in this process or on a cluster, and resumes when it was interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from diptych.errors import DataError
from diptych.failures import Failure
from diptych.index.bulk.shard_embedder import Piece, ShardEmbedder, ShardTask
from diptych.index.bulk.shard_files import BulkResult, ModelFacts
from diptych.index.bulk.sharded_source import ShardedSource, version_of

if TYPE_CHECKING:
    from diptych.embedder import Embedder
    from diptych.index.bulk.shard_targets import ShardTarget
    from diptych.index.stores.store import Progress

# Embeds shards and returns their pieces as they come; what never comes was lost with its worker
EmbedShards = Callable[[Sequence[ShardTask]], Iterable[Piece]]


@dataclass
class ShardedResult(BulkResult):
    """What a job has written, with what it found from before. `lost` are the shards that are not complete, by name,
    with the reason: the same call does them again."""

    lost: dict[str, Failure] = field(default_factory=dict)


def embed_here(model: Embedder, *, processes: int | None = None) -> EmbedShards:
    """Embeds shards one after another in this process."""

    def embed(tasks: Sequence[ShardTask]) -> Iterator[Piece]:
        with ShardEmbedder(model, processes=processes) as embedder:
            for task in tasks:
                yield from embedder.embed(task)

    return embed


def embed_sharded(
    source: ShardedSource,
    target: ShardTarget,
    embed: EmbedShards,
    model: ModelFacts,
    *,
    progress: Progress = lambda done, total: None,
    on_build: Progress = lambda done, total: None,
) -> ShardedResult:
    """Embed all shards of a source that the target does not have yet, or has in another version, with `embed`.

    A shard whose bytes have changed replaces the samples of the same names. `progress` gets (done, total) shards,
    `on_build` that of building the target's search structures. Raises DataError where the records are of another job,
    and what the target raises.
    """
    written, total = ShardedResult(), len(source.shards)
    with target.writing(model, source.root):
        tasks = list(_tasks(source, target))
        written.found = total - len(tasks)
        shards = _Shards(target)
        progress(written.found, total)
        for piece in embed(tasks) if tasks else ():
            if shards.take(piece):
                progress(written.found + shards.done, total)
        target.finish(on_build)
        missing = {task.shard: shards.lost.get(task.shard, _UNFINISHED) for task in tasks}
        written.lost = {shard: why for shard, why in missing.items() if target.records.version(shard) is None}
        for shard in source.shards:
            if shard not in written.lost:
                target.records.count(shard, written)
    return written


_UNFINISHED = Failure("lost with its worker", "a worker ended while it was embedded, as often as it was tried.")


def _tasks(source: ShardedSource, target: ShardTarget) -> Iterator[ShardTask]:
    """The shards that are not complete in their present version."""
    for shard, location in zip(source.shards, source.locations, strict=True):
        done = target.records.version(shard)
        if done is None or _has_changed(location, done):
            target.records.path(shard).unlink(missing_ok=True)
            yield ShardTask(shard, location, source.root, source.columns)


def _has_changed(location: str, version: str) -> bool:
    try:
        return version_of(location) != version
    except (DataError, OSError):  # it is gone; what was read of it stays
        return False


class _Shards:
    """Shards of which pieces have come. A shard is complete with its last piece and all before it."""

    def __init__(self, target: ShardTarget):
        self._target = target
        self._numbers: dict[str, set[int]] = {}
        self._failures: dict[str, dict[str, Failure]] = {}
        self._last: dict[str, Piece] = {}
        self.lost: dict[str, Failure] = {}
        self.done = 0

    def take(self, piece: Piece) -> bool:
        """Take a piece; a repeated one replaces itself. Returns whether it is done with its shard."""
        shard = piece.shard
        if piece.lost:
            self.lost[shard] = piece.lost
            self.done += 1
            return True
        numbers = self._numbers.setdefault(shard, set())
        if piece.number not in numbers:
            self._target.take(piece)
            numbers.add(piece.number)
        self._failures.setdefault(shard, {}).update(piece.failures)
        if piece.is_last:
            self._last[shard] = piece
        last = self._last.get(shard)
        if last is None or len(numbers) <= last.number:
            return False
        record = {"shard": shard, "version": last.version, "skipped": last.skipped}
        self._target.complete(shard, record, self._failures.pop(shard))
        del self._last[shard], self._numbers[shard]
        self.done += 1
        return True
