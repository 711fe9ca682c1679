"""Bringing an index up to date: what is new or changed is read and embedded, the rest is kept or forgotten.

The steps follow each other: the catalog is read, the folder is scanned, both are compared, files are read, embedded
and written, the facts are noted, and the caches follow.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from diptych import __version__
from diptych.errors import IndexDamagedError, IndexDirectoryError, Setting
from diptych.index import caches
from diptych.index.catalog.catalog import Catalog, Entry
from diptych.index.catalog.facts import Rules, counts
from diptych.index.catalog.validation import Known, State, is_sound_path, named
from diptych.index.model import check_fits, facts_to_come
from diptych.index.update.changes import Changes, changes, compared, is_settled, recognised
from diptych.index.update.encoding import Encoder, Key
from diptych.index.update.folder_state import Found, find
from diptych.index.update.rereading import Again, read_otherwise
from diptych.index.update.results import Progress, Updated
from diptych.media.items import Contents, File
from diptych.media.path_patterns import inside
from diptych.untrusted.links import LEADS_OUT

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from diptych.embedder import Embedder
    from diptych.failures import Failure
    from diptych.index.folder import IndexFolder
    from diptych.index.model import IndexModel
    from diptych.index.update.precomputed import Given

COMMIT_FILES, COMMIT_S = 64, 1.0
_PACKAGES = ("av", "imagecodecs", "pillow_heif", "rawpy", "tifffile")  # without which some files cannot be read
# Why a file cannot be read now and perhaps can later, without a trace of that on the file: tried again each time.
PASSING = frozenset(("no permission", "missing", "unreadable"))
_NOTHING = State({}, {})


class _Wanted(NamedTuple):
    """What an update was asked for, beside the index and its model."""

    progress: Progress | None
    given: Given | None
    processes: int | None


class _Done(NamedTuple):
    """What was done to a catalog: `new` are the paths that it had not known, `refused` the names of its entries that
    are no files of the folder's."""

    todo: Changes
    new: set[str]
    again: Again
    failures: dict[str, Failure]
    refused: tuple[str, ...]


def update(
    folder: IndexFolder,
    model: IndexModel,
    *,
    progress: Progress | None = None,
    reindex: bool = False,
    given: Given | None = None,
    processes: int | None = None,
    arranging: Progress | None = None,
) -> Updated:
    """`LocalIndex.update`, whose docstring has the details. The caller holds the lock of the index."""
    started = time.perf_counter()
    wanted, under = _Wanted(progress, given, processes), "" if reindex else folder.under
    catalog, state = _read(folder, under, reindex)
    rules = folder.given.over(Rules.of(state.facts, is_trusted=folder.trust.is_trusted))
    found = find(folder.root, rules, under, holds_index=not folder.is_apart)
    if reindex:
        _check_mounted(folder, state, found)
        facts = facts_to_come(model.of(folder), folder.root, follow_links=rules.follow_links)
        with folder.begun(facts) or folder.create(facts, folder.new_catalog_path) as new:
            done = _fill(folder, new, new.state(), model, rules, found, wanted)
            new.set_facts(_noted(folder.root, rules, found))
        catalog = folder.replace(facts)
    else:
        if catalog is None:
            catalog = folder.create(facts_to_come(model.of(folder), folder.root, follow_links=rules.follow_links))
        done = _fill(folder, catalog, state, model, rules, found, wanted)
        if not under:
            _note(folder, catalog, state.facts, rules, found)
    after = catalog.summary(*inside(under))
    caches.refresh(catalog, folder.place, after.facts, after.counts, on_build=arranging)
    met = found.failures | done.failures
    unmet = found.files.keys() - met.keys()
    earlier = {path: why for path, why in after.failures.items() if path in unmet}
    todo, again, listed = done.todo, done.again, {file.path for file in done.todo.read}
    return Updated(
        added=len(done.new - done.failures.keys()),
        changed=len(listed - done.new - done.failures.keys()),
        renamed=len(todo.renamed),
        forgotten=len(todo.gone),
        unchanged=todo.same + len(todo.touched) - len(earlier) - len(again.files.keys() & done.failures.keys()),
        failed_before=len(earlier),
        unreachable=len(todo.unreachable),
        failures=met | _as_failures(earlier),
        skipped=found.skipped,
        seconds=time.perf_counter() - started,
        partial=after.partial,
        reread=again.counted(again.files.keys() - done.failures.keys()),
        newly_skipped=bool(Counter(found.skipped) - Counter(counts(state.facts.get("skipped")))),
        refused=done.refused,
    )


def _as_failures(known: Mapping[str, tuple[str, str]]) -> dict[str, Failure]:
    from diptych.failures import Failure

    return {path: Failure(*why) for path, why in known.items()}


def _read(folder: IndexFolder, under: str, reindex: bool) -> tuple[Catalog | None, State]:
    """The catalog, if there is one, and its state. To a reindexing, a damaged one is none: it goes, and its rules with
    it."""
    try:
        catalog = folder.opened()
        if catalog is None:
            return None, _NOTHING
        if catalog.is_earlier and not reindex:
            catalog.upgrade()
        return catalog, catalog.state(*inside(under))
    except (IndexDamagedError, sqlite3.DatabaseError):
        if not reindex:
            raise
        return None, _NOTHING


def _fill(
    folder: IndexFolder,
    catalog: Catalog,
    state: State,
    model: IndexModel,
    rules: Rules,
    found: Found,
    wanted: _Wanted,
) -> _Done:
    """Make a catalog, whose state this was, one of what was found in the folder."""
    known, refused = _sound(state.files, found)
    if refused:
        catalog.forget(refused)
    _check_mounted(folder, State(state.facts, known), found)

    def fitting() -> Embedder:
        """Opened as late as this: an update that embeds nothing needs no model."""
        embedder = model.opened or model.of(folder)
        check_fits(folder.place, catalog.opened_facts, embedder)
        return embedder

    todo = _compare(folder.root, catalog, State(state.facts, known), found, wanted.progress)
    again = Again()
    if any(one.outdated for one in known.values()):
        paths = {file.path for file in todo.read}
        again = read_otherwise(catalog, folder.root, found.files, paths, fitting, progress=wanted.progress)
    failures: dict[str, Failure] = {}
    if files := [*todo.read, *again.files.values()]:
        failures = _embed(
            folder.root, catalog, fitting(), files, again=again, gone=todo.gone, now_ns=found.now_ns,
            follow_links=rules.follow_links, wanted=wanted,
        )  # fmt: skip
    elif todo.gone:
        catalog.forget(todo.gone)
    return _Done(todo, {file.path for file in todo.read} - known.keys(), again, failures, tuple(refused.values()))


def _compare(root: Path, catalog: Catalog, state: State, found: Found, progress: Progress | None) -> Changes:
    """What has changed; what is only touched or renamed is written to the catalog at once."""
    seen = compared(state.files, found.files, retry=any(state.facts.get(key) != now for key, now in _readers().items()))
    known_by_bytes = []
    digests = catalog.digests(ids) if (ids := seen.ids) else {}
    for some in recognised(root, seen, digests, now_ns=found.now_ns, progress=progress):
        catalog.restamp(some)
        known_by_bytes += some
    return changes(root, seen, known_by_bytes, closed=found.closed)


def _sound(known: dict[str, Known], found: Found) -> tuple[dict[str, Known], dict[int, str]]:
    """The files that the folder could hold, and the others, by id with what they are called."""
    missing = known.keys() - found.files.keys()
    bad = sorted(path for path in missing if not is_sound_path(path, known[path].kind))
    refused = {known[path].id: named(path, known[path].id) for path in bad}
    return {path: one for path, one in known.items() if one.id not in refused} if bad else known, refused


def _check_mounted(folder: IndexFolder, state: State, found: Found) -> None:
    """Refuse to forget everything where the disk is rather not mounted, or another folder came in its place."""
    known = state.files.keys()
    if known and not found.files:
        gone = f"index {folder.root} anew" if folder.under else f"remove {folder.place}"
        left_out = f" but {count:,} that are left out" if (count := found.skipped.get("excluded", 0)) else ""
        problem = f"{folder.folder} holds nothing to index{left_out}, and its index knows {len(known):,} files."
        if links := found.skipped.get(LEADS_OUT):
            follow = Setting("follow_links", True, "diptych.open_index")
            raise IndexDirectoryError(
                f"{problem} {links:,} links lead out of it.",
                remedy=["If you trust where they lead, ", follow, f" follows them; else {gone}."],
            )
        raise IndexDirectoryError(
            f"{problem} Is its disk mounted? If they are gone for good, or are to be left out, {gone}."
        )
    made_for = state.facts.get("root")
    is_inside = folder.place.is_relative_to(folder.root)
    if made_for != str(folder.root) and known.isdisjoint(found.files) and not is_inside and known:
        raise IndexDirectoryError(
            f"{folder.place} is the index of {made_for}, and knows no file of {folder.root}.",
            remedy=["Name another place with ", Setting("index", "DIR"), "."],
        )


def _note(folder: IndexFolder, catalog: Catalog, before: Mapping[str, Any], rules: Rules, found: Found) -> None:
    """Note the facts of an update. Where the root or the following of links changes, the index is signed again."""
    facts = _noted(folder.root, rules, found)
    if folder.trust.is_changing or any(before.get(key) != facts[key] for key in ("root", "follow_links")):
        with folder.trust.signing_root(catalog.opened_facts, folder.root, follow_links=rules.follow_links):
            catalog.set_facts(facts)
    else:
        catalog.set_facts(facts)


def _noted(root: Path, rules: Rules, found: Found) -> dict[str, str]:
    return {
        "updated_at": time.strftime("%Y-%m-%dT%H:%M:%S"),
        **_readers(),
        "root": str(root),
        "exclude": json.dumps(rules.exclude),
        "hidden": "yes" if rules.hidden else "no",
        "follow_links": "yes" if rules.follow_links else "no",
        "skipped": json.dumps(found.skipped),
    }


def _readers() -> dict[str, str]:
    """What decides which files can be read: what could not be is tried again when it changes."""
    from importlib.util import find_spec

    from diptych.media import memory

    packages = " ".join(name for name in _PACKAGES if find_spec(name))
    return {"version": __version__, "packages": packages, "picture_bytes": str(memory.allowed())}


def _embed(
    root: Path,
    catalog: Catalog,
    model: Embedder,
    files: Sequence[File],
    *,
    again: Again,
    gone: Sequence[int],
    now_ns: int,
    follow_links: bool,
    wanted: _Wanted,
) -> dict[str, Failure]:
    """Read the files, embed their parts and commit them; those that could not be read, by path."""
    from diptych.media.reading.readers import Readers

    failures: dict[str, Failure] = {}
    with (
        _Writer(catalog, now_ns, gone) as writer,
        Encoder(model) as encoder,
        Readers(root, model.preprocessing, processes=wanted.processes, follow_links=follow_links) as readers,
    ):
        done = 0
        for contents in chain(readers.read(files), [None]):
            if contents is not None:
                encoder.add(contents, _known_vectors(root, catalog, contents, again, wanted.given))
            for finished, vectors in encoder.finished(all=contents is None):
                writer.put(finished, vectors)
                if finished.failure:
                    failures[finished.file.path] = finished.failure
                done += 1
                if wanted.progress:
                    wanted.progress(done, len(files))
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
    """Commits files in small transactions, the first of which drops those that are `gone`. What was given is kept also
    where the block ends by an error or Ctrl-C."""

    def __init__(self, catalog: Catalog, now_ns: int, gone: Sequence[int]):
        self._catalog, self._now_ns = catalog, now_ns
        self._entries: list[Entry] = []
        self._gone = gone
        self._last = time.monotonic()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is not None and issubclass(kind, (IndexDirectoryError, IndexDamagedError)):
            return  # a full disk takes no more
        self._commit()

    def put(self, contents: Contents, vectors: np.ndarray) -> None:
        is_passing = contents.failure is not None and contents.failure.reason in PASSING
        settled = is_settled(contents.file, self._now_ns) and not is_passing
        self._entries.append(Entry(contents, vectors, settled))
        if len(self._entries) >= COMMIT_FILES or time.monotonic() - self._last > COMMIT_S:
            self._commit()

    def _commit(self) -> None:
        if self._entries or self._gone:
            self._catalog.put(self._entries, gone=self._gone)
        self._entries, self._gone, self._last = [], (), time.monotonic()
