"""Removes from a collection what someone asks to have removed: from shards, tables and indexes, and for later runs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from diptych.collect.output.address_ledgers import forget_addresses
from diptych.collect.output.facts import table_of
from diptych.collect.output.forgotten import FORGOTTEN, Forgotten, Kind, name_of, names_of
from diptych.collect.output.index_removal import opened_index, remove_from_index
from diptych.collect.output.open_shard import END, OpenShard, StoredPair, all_pairs, content_of
from diptych.collect.output.removed import RemovedPairs, add_removed, read_removed
from diptych.collect.output.shard_writer import finish_shard, open_path, open_shards, shard_files
from diptych.collect.output.trained_models import TrainedModel, trained_on
from diptych.data.sources.provenance import mark_of
from diptych.data.sources.shards import DAMAGE
from diptych.errors import DataError
from diptych.failures import Failure
from diptych.media.reading.file import DIGEST_SIZE
from diptych.storage.atomic import atomic_write, sync_folder
from diptych.storage.lock import locked

Request = tuple[Kind, str]
_COPY = 1 << 20  # bytes at a time


@dataclass
class ForgetResult:
    """What was removed: `pairs` from `shards` now; by index how many items, those of earlier requests too; the `models`
    that were trained on any of it; and the shards that could not be read, in which something may be left."""

    pairs: int = 0
    shards: list[str] = field(default_factory=list)
    indexes: dict[str, int] = field(default_factory=dict)
    models: list[TrainedModel] = field(default_factory=list)
    unread: dict[str, Failure] = field(default_factory=dict)


class _Doomed(NamedTuple):
    """A shard, its pairs that stay, those that go, and where each begins and ends in the tar."""

    tar: Path
    kept: list[StoredPair]
    gone: list[StoredPair]
    spans: list[tuple[int, int]]  # of those that stay


def forget(
    out: str | os.PathLike[str],
    requests: Sequence[Request] = (),
    *,
    indexes: Sequence[str] = (),
    runs: Sequence[str | os.PathLike[str]] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ForgetResult:
    """Remove pairs from the collection in `out`, remember the requests for later runs, remove the pairs from `indexes`
    (folders and addresses), and name the models in `runs` that were trained on them.

    A request is an address (of a picture, or of a page with all its pictures), a domain with those below it, or the
    SHA-256 of a picture, as it came or as it is in a shard. With an address or a digest, copies of the same file from
    elsewhere go, too; with a domain they stay, for they are not its owner's alone. Indexes are looked through for all
    that was ever removed, and so are runs if there is nothing to remove now.

    Shards are rewritten last, so that a call that was interrupted may be repeated. `progress` gets (done, total)
    shards. Raises DataError where `out` is no collection, ArgumentError for what is no request, IndexBusyError while
    pairs are written to it, and SearchIndexError and its kinds where an index cannot be changed.
    """
    out = Path(out)
    names = {name_of(kind, text) for kind, text in requests}
    if not any(shard_files(out)) and not open_shards(out) and not (out / FORGOTTEN).exists():
        raise DataError(f"{out} is no collection: it has no shards. Name the folder that `diptych collect` wrote.")
    result = ForgetResult()
    with ExitStack() as stack:
        stores = [
            stack.enter_context(opened_index(index)) for index in indexes
        ]  # first: one that is none costs nothing
        stack.enter_context(_alone(out))
        _finish_open(out)
        forgotten = Forgotten(out)
        copies = _digests(out, {name for name in names if name.startswith("url ")})
        if requests:
            forgotten.remember([*requests, *(("sha256", digest) for digest in copies)])
        names |= {f"sha256 {digest}" for digest in copies}
        doomed = list(_doomed(out, names, result, progress)) if names else []
        removed = add_removed(out, (_removed(each, forgotten) for each in doomed)) if doomed else read_removed(out)
        result.indexes = dict(remove_from_index(store, out, removed, forgotten) for store in stores)
        concerned = [removed[each.tar.name] for each in doomed] or removed.values()
        marks = {mark for each in concerned for mark in each.marks}
        result.models = trained_on(map(Path, runs), marks, out) if marks else []
        for each in doomed:
            _rewrite(each)
            result.pairs += len(each.gone)
            result.shards.append(each.tar.name)
        _clean_found(out, names)
        forget_addresses(out, names)
    return result


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """No one writes pairs meanwhile."""
    with ExitStack() as stack:
        for lock in sorted({*out.glob(".shards-*.lock"), out / ".shards-0.lock"}):
            stack.enter_context(locked(lock, does=f"is writing pairs to {out}", remedy="Wait for it, then try again."))
        yield


def _finish_open(out: Path) -> None:
    for number in open_shards(out):
        finish_shard(OpenShard(open_path(out, number)), out, number)


def _tars(out: Path) -> list[Path]:
    return [path for _, path in shard_files(out) if path.suffix == ".tar"]


def _digests(out: Path, names: set[str]) -> set[str]:
    """The digests of the pictures that an address names."""
    found = set[str]()
    for tar in _tars(out) if names else ():
        try:
            found |= {str(each.facts["sha256"]) for each in all_pairs(tar) if _is_named(each, names)}
        except (DataError, *DAMAGE):  # counted when it is read again
            continue
    return {digest for digest in found if len(digest) == 64}


def _doomed(
    out: Path, names: set[str], result: ForgetResult, progress: Callable[[int, int], None]
) -> Iterator[_Doomed]:
    tars = _tars(out)
    for done, tar in enumerate(tars, start=1):
        try:
            each = _divided(tar, names)
        except (DataError, *DAMAGE) as error:
            result.unread[tar.name] = Failure("damaged shard", f"{tar}: {error}")
        else:
            if each.gone:
                yield each
        progress(done, len(tars))


def _divided(tar: Path, names: set[str]) -> _Doomed:
    by_content = any(name.startswith("sha256 ") for name in names)
    each, start = _Doomed(tar, [], [], []), 0
    for stored in all_pairs(tar):
        if _is_named(stored, names) or (by_content and f"sha256 {_sha256(stored, tar)}" in names):
            each.gone.append(stored)
        else:
            each.kept.append(stored)
            each.spans.append((start, stored.end))
        start = stored.end
    return each


def _is_named(stored: StoredPair, names: set[str]) -> bool:
    url, page, digest = (str(stored.facts[name]) for name in ("url", "page_url", "sha256"))
    return not names.isdisjoint([*names_of(url, sha256=digest), *names_of(page)])


def _sha256(stored: StoredPair, tar: Path) -> str:
    return hashlib.sha256(content_of(stored, tar)).hexdigest()


def _removed(each: _Doomed, forgotten: Forgotten) -> RemovedPairs:
    pictures = {}
    for stored in each.gone:
        digest = hashlib.blake2b(content_of(stored, each.tar), digest_size=DIGEST_SIZE).digest()
        pictures[f"{stored.facts['key']}{stored.facts['suffix']}"] = forgotten.blinded(digest)
    return RemovedPairs(each.tar.name, frozenset({mark_of(each.tar)}), pictures)


def _rewrite(each: _Doomed) -> None:
    """Replace the table, then the tar: while the tar has a pair, a repeated call finds it. An empty shard has only a
    table, so that its number is not used again."""
    import pyarrow.parquet as pq

    table = table_of([stored.facts for stored in each.kept], each.tar.name)
    with atomic_write(each.tar.with_suffix(".parquet")) as part:
        pq.write_table(table, part, compression="zstd")
    if not each.kept:
        each.tar.unlink()
        sync_folder(each.tar.parent)
        return
    with atomic_write(each.tar) as part, part.open("wb") as new, each.tar.open("rb") as old:
        for start, end in each.spans:
            _copy(old, new, start, end)
        new.write(END)


def _clean_found(out: Path, names: set[str]) -> None:
    """Remove the rows of tables of what archives named and is not downloaded yet."""
    import pyarrow.parquet as pq

    for path in sorted((out / "found").glob("*.parquet")) if names else ():
        table = pq.read_table(path)
        addresses = zip(table["url"].to_pylist(), table["page_url"].to_pylist(), strict=True)
        kept = [names.isdisjoint([*names_of(url), *names_of(page)]) for url, page in addresses]
        if not all(kept):
            with atomic_write(path) as part:
                pq.write_table(table.filter(kept), part, compression="zstd")


def _copy(old: BinaryIO, new: BinaryIO, start: int, end: int) -> None:
    old.seek(start)
    while start < end:
        piece = old.read(min(_COPY, end - start))
        if not piece:
            raise OSError(f"{getattr(old, 'name', 'the shard')} ends too early")
        new.write(piece)
        start += len(piece)
