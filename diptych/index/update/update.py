"""Updates an index: embeds new and changed files, keeps the others, and removes the entries of deleted files.

The steps are in order: read the catalog, scan the folder, compare both, read and embed files, write them, store the
facts, refresh the caches.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any, NamedTuple

from diptych import __version__
from diptych.display.counting import counted
from diptych.errors import IndexDamagedError, IndexDirectoryError, Setting
from diptych.index import caches
from diptych.index.catalog.catalog import Catalog
from diptych.index.catalog.facts import ScanRules, counts, paths
from diptych.index.catalog.validation import KnownFile, State, Summary, display_path, is_valid_path
from diptych.index.model import check_fits, next_facts
from diptych.index.update.batched_embedder import BatchedEmbedder, Key
from diptych.index.update.changes import Changes, changes_of, compare, is_settled, recognise
from diptych.index.update.folder_state import FolderState, scan_folder
from diptych.index.update.outdated import OutdatedFiles, find_outdated
from diptych.index.update.results import Progress, UpdateResult
from diptych.media.items import CatalogEntry, File, FileContents
from diptych.media.scanning.path_patterns import inside
from diptych.untrusted.links import LEADS_OUT

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from diptych.embedder import Embedder
    from diptych.failures import Failure
    from diptych.index.folder import IndexFolder
    from diptych.index.model import IndexModel
    from diptych.index.trust.identity import Facts
    from diptych.index.update.precomputed import PrecomputedVectors

COMMIT_FILES, COMMIT_S = 64, 1.0
_PACKAGES = ("av", "imagecodecs", "pillow_heif", "rawpy", "tifffile")  # without which some files cannot be read
# Failures that may pass without any change of the file: it is tried again at each update
TRANSIENT_REASONS = frozenset(("no permission", "missing", "unreadable"))
_UNSCANNED_CHARACTERS = 2**16  # of paths that the scan cannot read; those beyond are reported as new each time
_EMPTY = State({}, {})


class _Options(NamedTuple):
    """The options of an update that concern reading and embedding."""

    progress: Progress | None
    precomputed: PrecomputedVectors | None
    processes: int | None


class _Done(NamedTuple):
    """The changes made to a catalog. `new` are the paths that were not in it; `refused` are the names of its entries
    that are not valid files of the folder."""

    changes: Changes
    new: set[str]
    outdated: OutdatedFiles
    failures: dict[str, Failure]
    refused: tuple[str, ...]


def update(
    folder: IndexFolder,
    model: IndexModel,
    *,
    progress: Progress | None = None,
    reindex: bool = False,
    precomputed: PrecomputedVectors | None = None,
    processes: int | None = None,
    on_build: Progress | None = None,
) -> UpdateResult:
    """Update an index; see `LocalIndex.update`. The caller holds the lock of the index."""
    started = time.perf_counter()
    options, subfolder = _Options(progress, precomputed, processes), "" if reindex else folder.subfolder
    catalog, state = _read(folder, subfolder, reindex)
    if source := state.facts.get("source"):
        return _kept(folder, str(source), len(state.files), reindex or precomputed is not None)
    rules = folder.given.over(ScanRules.of(state.facts, is_trusted=folder.trust.is_trusted))
    scanned = scan_folder(folder.root, rules, subfolder, holds_index=not folder.is_apart)
    if reindex:
        _check_mounted(folder, state, scanned)
        facts = next_facts(model.open(folder), folder.root, follow_links=rules.follow_links)
        with folder.resumed_catalog(facts) or _next_catalog(folder, facts, catalog) as new:
            done = _fill(folder, new, new.state(), model, rules, scanned, options)
            new.set_facts(_current_facts(folder.root, rules, scanned))
        catalog, state = folder.replace(facts), _EMPTY
    else:
        if catalog is None:
            catalog = folder.create(next_facts(model.open(folder), folder.root, follow_links=rules.follow_links))
        done = _fill(folder, catalog, state, model, rules, scanned, options)
        if not subfolder:
            _store_facts(folder, catalog, state.facts, _current_facts(folder.root, rules, scanned), rules.follow_links)
    after = catalog.summary(*inside(subfolder))
    caches.refresh(catalog, folder.index_dir, after.facts, after.counts, on_build=on_build)
    return _result(done, state, after, scanned, time.perf_counter() - started)


def _kept(folder: IndexFolder, source: str, files: int, is_asked: bool) -> UpdateResult:
    """Nothing is done for pictures that are not in the folder but in shards elsewhere."""
    if is_asked:
        raise IndexDirectoryError(f"{folder.index_dir} has the pictures of {source}; index those again.")
    return UpdateResult(0, 0, 0, 0, files, 0, 0, {}, {}, 0.0)


def _next_catalog(folder: IndexFolder, facts: Facts, last: Catalog | None) -> Catalog:
    """An empty catalog that will replace the `last`, whose ids it does not give again."""
    new = folder.create(facts, folder.reindex_catalog_path)
    if last is not None and (ids := last.rows("SELECT seq FROM sqlite_sequence WHERE name = 'items'")):
        with new.writing() as db:
            db.execute("INSERT INTO sqlite_sequence(name, seq) VALUES ('items', ?)", ids[0])
    return new


def _result(done: _Done, before: State, after: Summary, scanned: FolderState, seconds: float) -> UpdateResult:
    from diptych.failures import Failure

    changes, outdated = done.changes, done.outdated
    failed_now = scanned.failures | done.failures
    others = scanned.files.keys() - failed_now.keys()
    untried = {path: Failure(*why) for path, why in after.failures.items() if path in others}
    again = _failed_again(failed_now, before, scanned)
    new = {path: failure for path, failure in failed_now.items() if path not in again}
    listed, failed = {file.path for file in changes.read}, done.failures.keys()
    return UpdateResult(
        added=len(done.new - failed),
        changed=len(listed - done.new - failed),
        renamed=len(changes.renamed),
        forgotten=len(changes.removed),
        unchanged=changes.unchanged_count + len(changes.restamped) - len(untried)
        - len(outdated.files.keys() & failed),
        failed_before=len(again) + len(untried),
        unreachable=len(changes.unreachable),
        failures=new | again | untried,
        skipped=scanned.skipped,
        seconds=seconds,
        partial=after.partial,
        reread=outdated.counted(outdated.files.keys() - failed),
        newly_skipped=bool(Counter(scanned.skipped) - Counter(counts(before.facts.get("skipped")))),
        refused=done.refused,
    )  # fmt: skip


def _failed_again(failures: Mapping[str, Failure], before: State, scanned: FolderState) -> dict[str, Failure]:
    """Those that failed at an earlier update, too, and have not changed since."""
    unscanned = frozenset(paths(before.facts.get("unscanned")))

    def is_known(path: str) -> bool:
        known, file = before.files.get(path), scanned.files.get(path)
        if known is None or file is None:
            return path in unscanned
        return bool(known.failed) and known.size == file.size and known.mtime_ns in (None, file.mtime_ns)

    return {path: failure for path, failure in failures.items() if is_known(path)}


def _read(folder: IndexFolder, subfolder: str, reindex: bool) -> tuple[Catalog | None, State]:
    """The catalog, if there is one, and its state. A reindexing takes a damaged one for none: it is replaced, and its
    rules are lost."""
    try:
        catalog = folder.opened()
        if catalog is None:
            return None, _EMPTY
        if catalog.is_earlier and not reindex:
            catalog.upgrade()
        return catalog, catalog.state(*inside(subfolder))
    except (IndexDamagedError, sqlite3.DatabaseError):
        if not reindex:
            raise
        return None, _EMPTY


def _fill(
    folder: IndexFolder,
    catalog: Catalog,
    state: State,
    model: IndexModel,
    rules: ScanRules,
    scanned: FolderState,
    options: _Options,
) -> _Done:
    """Bring a catalog from this state to that of the scanned folder."""
    known, refused = _valid_known(state.files, scanned)
    if refused:
        catalog.forget(refused)
    state = State(state.facts, known)
    _check_mounted(folder, state, scanned)

    def open_model() -> Embedder:
        """As late as possible: an update that embeds nothing needs no model."""
        embedder = model.opened or model.open(folder)
        check_fits(folder.index_dir, catalog.opened_facts, embedder)
        return embedder

    changes = _changes(folder.root, catalog, state, scanned, options.progress)
    read = {file.path for file in changes.read}
    outdated = OutdatedFiles()
    if any(file.outdated for file in known.values()):
        outdated = find_outdated(
            catalog, folder.root, scanned.files, read, open_model, progress=options.progress
        )  # fmt: skip
    failures: dict[str, Failure] = {}
    if files := [*changes.read, *outdated.files.values()]:
        failures = _embed_files(
            folder.root, catalog, open_model(), files, outdated=outdated, removed=changes.removed,
            scanned_ns=scanned.scanned_ns, follow_links=rules.follow_links, options=options,
        )  # fmt: skip
    elif changes.removed:
        catalog.forget(changes.removed)
    return _Done(changes, read - known.keys(), outdated, failures, tuple(refused.values()))


def _changes(root: Path, catalog: Catalog, state: State, scanned: FolderState, progress: Progress | None) -> Changes:
    """The changes in the folder. Files that were only touched or renamed are written to the catalog at once."""
    retry = any(state.facts.get(key) != now for key, now in _reading_facts().items())
    comparison = compare(state.files, scanned.files, retry=retry)
    recognised = []
    digests = catalog.digests(ids) if (ids := comparison.ids) else {}
    for some in recognise(root, comparison, digests, scanned_ns=scanned.scanned_ns, progress=progress):
        catalog.restamp(some)
        recognised += some
    return changes_of(root, comparison, recognised, unreadable_folders=scanned.unreadable_folders)


def _valid_known(known: dict[str, KnownFile], scanned: FolderState) -> tuple[dict[str, KnownFile], dict[int, str]]:
    """The entries that can be files of the folder, and the names of the others by id."""
    missing = known.keys() - scanned.files.keys()
    invalid = sorted(path for path in missing if not is_valid_path(path, known[path].kind))
    refused = {known[path].id: display_path(path, known[path].id) for path in invalid}
    return {path: file for path, file in known.items() if file.id not in refused} if invalid else known, refused


def _check_mounted(folder: IndexFolder, state: State, scanned: FolderState) -> None:
    """Refuses to empty the index where the disk is probably not mounted, or where it is the index of another folder."""
    known = state.files.keys()
    if known and not scanned.files:
        remedy = f"index {folder.root} again" if folder.subfolder else f"remove {folder.index_dir}"
        count = scanned.skipped.get("excluded", 0)
        excluded = f" but {counted(count, 'excluded file')}" if count else ""
        problem = f"{folder.folder} holds nothing to index{excluded}, but its index has {counted(len(known), 'file')}."
        if links := scanned.skipped.get(LEADS_OUT):
            follow = Setting("follow_links", True, "diptych.open_index")
            raise IndexDirectoryError(
                f"{problem} {counted(links, 'link')} {'leads' if links == 1 else 'lead'} out of it.",
                remedy=["If you trust where they lead, ", follow, f" follows them; otherwise {remedy}."],
            )
        raise IndexDirectoryError(
            f"{problem} Is its disk mounted? If the files are gone for good, or should be left out, {remedy}."
        )
    made_for = state.facts.get("root")
    is_inside = folder.index_dir.is_relative_to(folder.root)
    if made_for != str(folder.root) and known.isdisjoint(scanned.files) and not is_inside and known:
        raise IndexDirectoryError(
            f"{folder.index_dir} is the index of {made_for} and has no file of {folder.root}.",
            remedy=["Name another directory with ", Setting("index", "DIR"), "."],
        )


def _store_facts(
    folder: IndexFolder, catalog: Catalog, before: Mapping[str, Any], facts: Mapping[str, str], follow_links: bool
) -> None:
    """Store the facts of an update. Where the root or the following of links changes, the index is signed again."""
    if folder.trust.is_changing or any(before.get(key) != facts[key] for key in ("root", "follow_links")):
        with folder.trust.signing_root(catalog.opened_facts, folder.root, follow_links=follow_links):
            catalog.set_facts(facts)
    else:
        catalog.set_facts(facts)


def _current_facts(root: Path, rules: ScanRules, scanned: FolderState) -> dict[str, str]:
    return {
        "updated_at": time.strftime("%Y-%m-%dT%H:%M:%S"),
        **_reading_facts(),
        "root": str(root),
        "exclude": json.dumps(rules.exclude),
        "hidden": "yes" if rules.hidden else "no",
        "follow_links": "yes" if rules.follow_links else "no",
        "skipped": json.dumps(scanned.skipped),
        "unscanned": json.dumps(_first(sorted(scanned.failures))),
    }


def _first(paths: Sequence[str]) -> list[str]:
    """As many of the paths as a fact may hold."""
    lengths = accumulate(len(json.dumps(path)) for path in paths)
    return [path for path, length in zip(paths, lengths, strict=True) if length <= _UNSCANNED_CHARACTERS]


def _reading_facts() -> dict[str, str]:
    """The facts that decide which files can be read. When they change, files that failed are tried again."""
    from importlib.util import find_spec

    from diptych.media import memory

    packages = " ".join(name for name in _PACKAGES if find_spec(name))
    return {"version": __version__, "packages": packages, "picture_bytes": str(memory.memory_limit())}


def _embed_files(
    root: Path,
    catalog: Catalog,
    model: Embedder,
    files: Sequence[File],
    *,
    outdated: OutdatedFiles,
    removed: Sequence[int],
    scanned_ns: int,
    follow_links: bool,
    options: _Options,
) -> dict[str, Failure]:
    """Read the files, embed their parts and commit them. Returns the failures by path."""
    from diptych.media.reading.readers import ReaderPool

    failures: dict[str, Failure] = {}
    with (
        _Writer(catalog, scanned_ns, removed) as writer,
        BatchedEmbedder(model) as embedder,
        ReaderPool(root, model.preprocessing, processes=options.processes, follow_links=follow_links) as readers,
    ):
        done = 0
        for contents in chain(readers.read(files), [None]):
            if contents is not None:
                embedder.add(contents, _known_vectors(root, catalog, contents, outdated, options.precomputed))
            for finished, vectors in embedder.finished(all=contents is None):
                writer.put(finished, vectors)
                if finished.failure:
                    failures[finished.file.path] = finished.failure
                done += 1
                if options.progress:
                    options.progress(done, len(files))
    return failures


def _known_vectors(
    root: Path,
    catalog: Catalog,
    contents: FileContents,
    outdated: OutdatedFiles,
    precomputed: PrecomputedVectors | None,
) -> dict[Key, np.ndarray]:
    """The vectors of parts that need no embedding: precomputed ones, those of another file with the same bytes, and
    those of unchanged paragraphs."""
    file = contents.file
    known: dict[Key, np.ndarray] = {
        (modality, at_s if modality == "picture" else None, text if modality == "text" else None): vector
        for modality, at_s, text, vector in catalog.parts_of(contents, outdated.stale.get(file.path, ()))
    }
    is_precomputed = precomputed is not None and file.kind == "picture" and precomputed.is_current(root, file)
    vector = precomputed.vector(file.path) if precomputed and is_precomputed else None
    return known if vector is None else known | {("picture", None, None): vector}


class _Writer:
    """Commits files in small transactions; the first one drops the `removed` entries. An error or Ctrl-C in the block
    loses nothing that was put before.
    """

    def __init__(self, catalog: Catalog, scanned_ns: int, removed: Sequence[int]):
        self._catalog, self._scanned_ns = catalog, scanned_ns
        self._entries: list[CatalogEntry] = []
        self._removed = removed
        self._last = time.monotonic()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is not None and issubclass(kind, (IndexDirectoryError, IndexDamagedError)):
            return  # a full disk accepts no more
        self._commit()

    def put(self, contents: FileContents, vectors: np.ndarray) -> None:
        is_transient = contents.failure is not None and contents.failure.reason in TRANSIENT_REASONS
        settled = is_settled(contents.file, self._scanned_ns) and not is_transient
        self._entries.append(CatalogEntry(contents, vectors, settled))
        if len(self._entries) >= COMMIT_FILES or time.monotonic() - self._last > COMMIT_S:
            self._commit()

    def _commit(self) -> None:
        if self._entries or self._removed:
            self._catalog.put(self._entries, removed=self._removed)
        self._entries, self._removed, self._last = [], (), time.monotonic()
