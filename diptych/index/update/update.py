"""Bringing an index up to date: what is new or changed is read and embedded, the rest is kept or forgotten."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

from diptych import __version__
from diptych.errors import Setting
from diptych.index import caches
from diptych.index.catalog.catalog import Catalog, Entry, Known
from diptych.index.catalog.facts import Rules, counts
from diptych.index.catalog.recovery import remove
from diptych.index.catalog.validation import is_sound_path, named
from diptych.index.roots import PLACE
from diptych.index.update.changes import changes, is_settled
from diptych.index.update.encoding import Encoder, Key
from diptych.index.update.rereading import Again, read_otherwise
from diptych.media.items import Contents, File
from diptych.media.path_patterns import inside
from diptych.storage.faults import IndexDamagedError, IndexPlaceError, explained
from diptych.untrusted.links import LEADS_OUT

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from diptych.failures import Failure
    from diptych.index.local import LocalIndex
    from diptych.index.update.precomputed import Given

COMMIT_FILES, COMMIT_S = 64, 1.0
_OWN = "of a program's own"  # what a scan calls it
_PACKAGES = ("av", "imagecodecs", "pillow_heif", "rawpy", "tifffile")  # without which some files cannot be read
# Why a file cannot be read now and perhaps can later, without a trace of that on the file: tried again each time.
PASSING = frozenset(("no permission", "missing", "unreadable"))
Progress = Callable[[int, int], None]


class Updated(NamedTuple):
    """What an update did, in files. `failures` names all that cannot be read (path -> Failure), those that were met
    this time first; the last `failed_before` of them could not be read earlier and have not changed. `partial` names
    those of which a part could be read (path -> what is missing). `unreachable` is the number of files whose folder
    could not be looked into, which are kept. `skipped` counts by reason what was left out by choice, and
    `newly_skipped` says whether some of that was not there at the last update. `reread` counts by
    kind the files that have not changed and were read again, for this version reads them otherwise than the last.
    `refused` names what the catalog held that was no file of the folder's, and is forgotten."""

    added: int
    changed: int
    renamed: int
    forgotten: int
    unchanged: int
    failed_before: int
    unreachable: int
    failures: dict[str, Failure]
    skipped: dict[str, int]
    seconds: float
    partial: dict[str, str] = {}  # noqa: RUF012 (nobody writes to it)
    reread: dict[str, int] = {}  # noqa: RUF012
    newly_skipped: bool = False
    refused: tuple[str, ...] = ()

    @property
    def new_failures(self) -> dict[str, Failure]:
        """Those that were met this time."""
        return dict(islice(self.failures.items(), len(self.failures) - self.failed_before))

    @property
    def is_same(self) -> bool:
        """Whether nothing happened."""
        did = self.added or self.changed or self.renamed or self.forgotten or self.reread
        return not (did or self.new_failures)


class _Found(NamedTuple):
    """What is in the folder now; `now_ns` is when the search for it began."""

    files: dict[str, File]
    failures: dict[str, Failure]
    skipped: dict[str, int]
    now_ns: int


def update(
    index: LocalIndex,
    *,
    progress: Progress | None = None,
    reindex: bool = False,
    given: Given | None = None,
    processes: int | None = None,
    arranging: Progress | None = None,
) -> Updated:
    """`LocalIndex.update`, whose docstring tells all; the index is locked by the caller."""
    started = time.perf_counter()
    rules, under = _rules(index, reindex), "" if reindex else index.under
    found = _find(index, rules, under)
    if reindex and index.exists:
        with contextlib.suppress(IndexDamagedError, sqlite3.DatabaseError):  # which is to be replaced, then
            _check_mounted(index, index.catalog, index.catalog.files(), found)
    with _open(index, reindex) as catalog:
        catalog.upgrade()
        known, refused = _sound(catalog.files(*inside(under)), found)
        catalog.forget(refused)
        _check_mounted(index, catalog, known, found)
        todo = changes(
            index.root, known, found.files,
            digests=catalog.digests, now_ns=found.now_ns, keep=catalog.restamp, progress=progress,
            retry=any(catalog.facts().get(key) != value for key, value in _readers().items()),
            closed=[path for path, failure in found.failures.items() if failure.reason == "unreadable folder"],
        )  # fmt: skip
        if todo.gone:
            catalog.forget(todo.gone)
        again = Again()
        if any(one.outdated for one in known.values()):
            again = read_otherwise(
                catalog, index.root, found.files, {file.path for file in todo.read},
                lambda: index.any_model if reindex else index.model, progress=progress,
            )  # fmt: skip
        files = [*todo.read, *again.files.values()]
        failures = _embed(index, catalog, files, again, found.now_ns, progress, given, processes, rules.follow_links)
        newly_skipped = bool(Counter(found.skipped) - Counter(counts(catalog.facts().get("skipped"))))
        if not under:
            moving = index.trust.moving(catalog.facts(), index.root, follow_links=rules.follow_links)
            with contextlib.nullcontext() if reindex else moving:
                catalog.set_facts(_now(index, rules) | {"skipped": json.dumps(found.skipped)})
    if reindex:
        _swap(index)
    caches.refresh(index.catalog, index.place, arranging=arranging)
    new = {file.path for file in todo.read} - known.keys()
    listed = {file.path for file in todo.read}
    met = found.failures | failures
    earlier = _unread(index.catalog, found.files.keys() - met.keys())
    return Updated(
        added=len(new - failures.keys()),
        changed=len(listed - new - failures.keys()),
        renamed=len(todo.renamed),
        forgotten=len(todo.gone),
        unchanged=todo.same + len(todo.touched) - len(earlier) - len(again.files.keys() & failures.keys()),
        failed_before=len(earlier),
        unreachable=len(todo.unreachable),
        failures=met | earlier,
        skipped=found.skipped,
        seconds=time.perf_counter() - started,
        partial=index.catalog.partial(*inside(under)),
        reread=again.counted(again.files.keys() - failures.keys()),
        newly_skipped=newly_skipped,
        refused=tuple(refused.values()),
    )


def _sound(known: dict[str, Known], found: _Found) -> tuple[dict[str, Known], dict[int, str]]:
    """What is known of files that the folder could hold, and the others, by id: how each is called."""
    missing = known.keys() - found.files.keys()
    bad = sorted(path for path in missing if not is_sound_path(path, known[path].kind))
    refused = {known[path].id: named(path, known[path].id) for path in bad}
    return {path: one for path, one in known.items() if one.id not in refused} if bad else known, refused


def _unread(catalog: Catalog, among: Set[str]) -> dict[str, Failure]:
    """Those of these files that the catalog knows and could not read."""
    from diptych.failures import Failure

    return {path: Failure(*why) for path, why in catalog.failures().items() if path in among}


def _rules(index: LocalIndex, reindex: bool) -> Rules:
    try:
        return index.rules
    except (IndexDamagedError, sqlite3.DatabaseError):
        if reindex:  # what is damaged goes, and its rules with it
            return Rules(tuple(index.exclude or ()), bool(index.hidden), bool(index.follow_links))
        raise


def _find(index: LocalIndex, rules: Rules, under: str) -> _Found:
    from diptych.media.scan import scan

    now_ns = time.time_ns()
    scanned = scan(index.root, **rules._asdict(), under=under)
    files = {file.path: file for file in scanned}
    skipped = dict(scanned.skipped)
    if index.place == index.root / PLACE and not under:  # which the scan, too, leaves out and counts
        skipped[_OWN] = skipped.get(_OWN, 1) - 1
    return _Found(files, dict(scanned.failures), {reason: count for reason, count in skipped.items() if count}, now_ns)


@contextmanager
def _open(index: LocalIndex, reindex: bool) -> Iterator[Catalog]:
    """The catalog to fill. A new one for `reindex`: the one that an interrupted one began, if of the same model."""
    if not reindex:
        yield index.catalog if index.exists else index.create()
        return
    with _begun(index) or index.create(index.new_catalog_path) as catalog:
        yield catalog


def _begun(index: LocalIndex) -> Catalog | None:
    path = index.new_catalog_path
    with contextlib.suppress(IndexDamagedError, IndexPlaceError, sqlite3.DatabaseError):
        catalog = Catalog.open(path, recover=index.recovers)
        if index.facts_to_come.cover(catalog.facts(), is_apart=False):
            return catalog
        catalog.close()
    remove(path)
    return None


def _swap(index: LocalIndex) -> None:
    """Put the new catalog in the place of the old. What a killed process left of a transaction in the old one's journal
    is undone before: SQLite would play it into the new one."""
    try:
        index.catalog.facts()
    except (IndexDamagedError, IndexPlaceError, sqlite3.DatabaseError):
        index.close()
        remove(index.catalog_path)
    index.close()
    with explained(index.catalog_path), index.trust.changing(index.facts_to_come):
        index.directory.rename(index.new_catalog_path.name, index.catalog_path.name)


def _check_mounted(index: LocalIndex, catalog: Catalog, known: Iterable[str], found: _Found) -> None:
    """Refuse to forget everything where the disk is rather not mounted, or another folder came in its place."""
    known = set(known)
    if known and not found.files:
        gone = f"index {index.root} anew" if index.under else f"remove {index.place}"
        left_out = f" but {count:,} that are left out" if (count := found.skipped.get("excluded", 0)) else ""
        problem = f"{index.folder} holds nothing to index{left_out}, and its index knows {len(known):,} files."
        if links := found.skipped.get(LEADS_OUT):
            follow = Setting("follow_links", True, "diptych.open_index")
            raise IndexPlaceError(
                f"{problem} {links:,} links lead out of it.",
                remedy=["If you trust where they lead, ", follow, f" follows them; else {gone}."],
            )
        raise IndexPlaceError(
            f"{problem} Is its disk mounted? If they are gone for good, or are to be left out, {gone}."
        )
    made_for = catalog.facts().get("root")
    if made_for != str(index.root) and known.isdisjoint(found.files) and not index.is_inside and known:
        raise IndexPlaceError(
            f"{index.place} is the index of {made_for}, and knows no file of {index.root}.",
            remedy=["Name another place with ", Setting("index", "DIR"), "."],
        )


def _now(index: LocalIndex, rules: Rules) -> dict[str, str]:
    return {
        "updated_at": time.strftime("%Y-%m-%dT%H:%M:%S"),
        **_readers(),
        "root": str(index.root),
        "exclude": json.dumps(rules.exclude),
        "hidden": "yes" if rules.hidden else "no",
        "follow_links": "yes" if rules.follow_links else "no",
    }


def _readers() -> dict[str, str]:
    """What decides which files can be read: what could not be is tried again when it changes."""
    from importlib.util import find_spec

    from diptych.media import memory

    packages = " ".join(name for name in _PACKAGES if find_spec(name))
    return {"version": __version__, "packages": packages, "picture_bytes": str(memory.allowed())}


def _embed(
    index: LocalIndex,
    catalog: Catalog,
    files: list[File],
    again: Again,
    now_ns: int,
    progress: Progress | None,
    given: Given | None,
    processes: int | None,
    follow_links: bool,
) -> dict[str, Failure]:
    """Read the files, embed their parts and commit them; those that could not be read, by path."""
    from diptych.media.reading.readers import Readers

    if not files:
        return {}
    failures: dict[str, Failure] = {}
    model = index.any_model if catalog.path == index.new_catalog_path else index.model
    with (
        _Writer(catalog, now_ns) as writer,
        Encoder(model) as encoder,
        Readers(index.root, model.preprocessing, processes=processes, follow_links=follow_links) as readers,
    ):
        done = 0
        for contents in chain(readers.read(files), [None]):
            if contents is not None:
                encoder.add(contents, _known_vectors(index.root, catalog, contents, again, given))
            for finished, vectors in encoder.finished(all=contents is None):
                writer.put(finished, vectors)
                if finished.failure:
                    failures[finished.file.path] = finished.failure
                done += 1
                if progress:
                    progress(done, len(files))
    return failures


def _known_vectors(
    root: Path, catalog: Catalog, contents: Contents, again: Again, given: Given | None
) -> dict[Key, np.ndarray]:
    """The vectors of parts that need not be made: that were made elsewhere, that are in the catalog under another name
    with the same bytes, or that are paragraphs which did not change."""
    file = contents.file
    known: dict[Key, np.ndarray] = {
        (modality, at_s if modality == "picture" else None, text if modality == "text" else None): vector
        for modality, at_s, text, vector in catalog.parts_of(contents, again.wrong.get(file.path, ()))
    }
    is_given = given is not None and file.kind == "picture" and given.is_of_today(root, file)
    vector = given.vector(file.path) if given and is_given else None
    return known if vector is None else known | {("picture", None, None): vector}


class _Writer:
    """Commits files in small transactions. What was given is kept also where the block ends by an error or Ctrl-C."""

    def __init__(self, catalog: Catalog, now_ns: int):
        self._catalog, self._now_ns = catalog, now_ns
        self._entries: list[Entry] = []
        self._last = time.monotonic()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is not None and issubclass(kind, (IndexPlaceError, IndexDamagedError)):
            return  # a full disk takes no more
        self._commit()

    def put(self, contents: Contents, vectors: np.ndarray) -> None:
        is_passing = contents.failure is not None and contents.failure.reason in PASSING
        settled = is_settled(contents.file, self._now_ns) and not is_passing
        self._entries.append(Entry(contents, vectors, settled))
        if len(self._entries) >= COMMIT_FILES or time.monotonic() - self._last > COMMIT_S:
            self._commit()

    def _commit(self) -> None:
        if self._entries:
            self._catalog.put(self._entries)
        self._entries, self._last = [], time.monotonic()
