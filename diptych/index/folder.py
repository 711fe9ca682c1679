"""An index without its model: its paths, its lock, its catalog, its search structures and the trust in it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from diptych import __version__
from diptych.errors import IndexDamagedError, IndexDirectoryError, MessageParts, warn
from diptych.index import caches
from diptych.index.catalog.catalog import Catalog
from diptych.index.catalog.facts import GivenRules, ScanRules
from diptych.index.catalog.known_items import KnownItems
from diptych.index.catalog.recovery import remove
from diptych.index.roots import CATALOG, INDEX_DIR_NAME
from diptych.index.trust.identity import Facts
from diptych.index.trust.trust import Trust
from diptych.media.items import IndexCounts, Modality
from diptych.media.scanning.path_patterns import inside
from diptych.storage.directory import IndexDirectory
from diptych.storage.error_translation import translated_errors
from diptych.storage.lock import is_held_elsewhere, locked
from diptych.untrusted.links import RootBoundary

REINDEX_CATALOG = "catalog-new.sqlite"  # the catalog that a reindexing fills, and that then replaces the old one


class IndexFolder:
    """A folder of pictures and the directory of its index.

    `root` is the folder of the pictures and `index_dir` the index directory, both absolute. `folder` is the part
    that is searched and updated: `root`, or its `subfolder`. `given` are the rules as given; the last update stored the
    others. `known` keeps items that the catalog has returned; None keeps none. The methods raise SearchIndexError and
    its kinds.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        index: str | os.PathLike[str] | None = None,
        exclude: Sequence[str] | None = None,
        hidden: bool | None = None,
        follow_links: bool | None = None,
        subfolder: str = "",
        trust: bool = False,
        notice: Callable[[MessageParts], None] = warn,
    ):
        self.root = Path(os.path.abspath(os.fsdecode(folder)))
        self.index_dir = self.root / INDEX_DIR_NAME if index is None else Path(os.path.abspath(os.fsdecode(index)))
        self.subfolder, self.folder = subfolder, self.root / subfolder
        self.given = GivenRules(exclude if exclude is None else tuple(exclude), hidden, follow_links)
        self.directory = IndexDirectory(self.index_dir)
        self.is_apart = self.index_dir != self.root / INDEX_DIR_NAME
        self.trust = Trust(self.directory, is_apart=self.is_apart, accept=trust, notice=notice)
        self._catalog: Catalog | None = None
        self._opened: tuple[int, int] | None = None  # device and inode of its file
        self._nearest: dict[Modality, tuple[str, caches.RebuildingIndex]] = {}
        self.known: KnownItems | None = None
        self._is_steady = False

    def __repr__(self) -> str:
        return f"<IndexFolder of {self.folder} in {self.index_dir}>"

    def close(self) -> None:
        """Close the files. Whatever needs them opens them again."""
        if self._catalog is not None:
            self._catalog.close()
        self._catalog, self._nearest = None, {}

    # --- paths

    @property
    def catalog_path(self) -> Path:
        """The catalog's path, whether it exists or not."""
        return self.directory.path / CATALOG

    @property
    def reindex_catalog_path(self) -> Path:
        """The path of the catalog that a reindexing fills."""
        return self.directory.path / REINDEX_CATALOG

    @property
    def exists(self) -> bool:
        """Whether there is a catalog. Raises IndexUnsafeError where its name belongs to something other than a file."""
        return self._is_steady or bool(self.directory.size(CATALOG))

    @contextmanager
    def steady(self) -> Iterator[None]:
        """Within this block the catalog, if there is one, is taken for one that nobody changes: its file is looked for
        once, and its facts are read once."""
        if not self.exists or self._is_steady:
            yield
            return
        catalog = self.catalog
        catalog.steady_facts, self._is_steady = catalog.facts(), True
        try:
            yield
        finally:
            catalog.steady_facts, self._is_steady = None, False

    def path_of(self, path: str) -> Path:
        """The absolute path of a file of the index."""
        return _joined(self.root, path)

    # --- the lock

    def locked(
        self, *, wait_s: float | None = 0.0, on_wait: Callable[[str], None] | None = None
    ) -> AbstractContextManager[None]:
        """`locked_directory` of this index."""
        return locked_directory(self.directory, wait_s=wait_s, on_wait=on_wait)

    # --- the catalog

    @property
    def catalog(self) -> Catalog:
        """The current catalog; it is opened again where another process has replaced it. Raises IndexDirectoryError
        where there is none yet."""
        if self._catalog is None or not (self._is_steady or self._identity() == self._opened):
            self.close()
            self.directory.check()
            self._opened = self._identity()
            catalog = Catalog.open(self.catalog_path, recover=self.recovers)
            try:
                self.trust.confirm(catalog.opened_facts)
            except BaseException:
                catalog.close()
                raise
            self._catalog, catalog.inside, catalog.known = catalog, self._inside, self.known
        return self._catalog

    def opened(self) -> Catalog | None:
        """The catalog; None where there is none yet."""
        return self.catalog if self.exists else None

    @property
    def recovers(self) -> bool:
        """Whether to roll back the unfinished transaction of a killed process: in a trusted index, and while another
        process updates it."""
        return self.trust.is_known() or is_held_elsewhere(self.index_dir / caches.LOCK)

    def _inside(self) -> RootBoundary | None:
        # the same as `rules.follow_links`, without parsing the patterns, which may be many
        is_stored = self.trust.is_trusted and self.catalog.facts().get("follow_links") == "yes"
        follows = is_stored if self.given.follow_links is None else self.given.follow_links
        return None if follows else RootBoundary(self.root)

    def _identity(self) -> tuple[int, int] | None:
        status = self.directory.status(CATALOG)
        return None if status is None else (status.st_dev, status.st_ino)

    @property
    def damage(self) -> str | None:
        """Why the catalog cannot be opened; None where it can be, or where there is none."""
        try:
            self.catalog.facts()
        except IndexDirectoryError:
            pass
        except (IndexDamagedError, sqlite3.DatabaseError) as error:
            return str(getattr(error, "problem", None) or error)
        return None

    def create(self, facts: Facts, path: Path | None = None) -> Catalog:
        """A new catalog with these facts. The caller closes one that is created at another `path`."""
        self.directory.create()
        with self.trust.signing_catalog(facts) if path is None else nullcontext():
            catalog = Catalog.create(
                path or self.catalog_path, fingerprint=facts.fingerprint, model=facts.model, dim=facts.dim
            )
        catalog.set_facts({"version": __version__})  # tells which bundled model it is
        if path is None:
            self.close()
            self._catalog, self._opened = catalog, self._identity()
        return catalog

    def resumed_catalog(self, facts: Facts) -> Catalog | None:
        """The catalog of an interrupted reindexing, if it has these facts; any other one is removed."""
        with suppress(IndexDamagedError, IndexDirectoryError, sqlite3.DatabaseError):
            catalog = Catalog.open(self.reindex_catalog_path, recover=self.recovers)
            if facts.matches(catalog.opened_facts, is_apart=False):
                return catalog
            catalog.close()
        remove(self.reindex_catalog_path)
        return None

    def replace(self, facts: Facts) -> Catalog:
        """Replace the old catalog by the new one, which has these facts. The unfinished transaction of a killed process
        is first rolled back in the old one, because SQLite would apply its journal to the new one."""
        try:
            self.catalog.facts()
        except (IndexDamagedError, IndexDirectoryError, sqlite3.DatabaseError):
            self.close()
            remove(self.catalog_path)
        self.close()
        with translated_errors(self.catalog_path), self.trust.signing_catalog(facts):
            self.directory.rename(REINDEX_CATALOG, CATALOG)
        return self.catalog

    # --- contents

    def nearest(self, modality: Modality) -> caches.RebuildingIndex:
        """The search structure of a modality, updated or built again if necessary.

        While another process updates the index, it may still hold removed items (`Catalog.items` skips these) and lack
        the newest ones.
        """
        stamp = self.catalog.stamp(modality)
        held = self._nearest.get(modality)
        if held is None or held[0] != stamp:
            self.catalog.steady_facts = None  # it follows what another process records
            opened = caches.opened(self.catalog, self.index_dir, modality)
            rebuild = partial(caches.rebuilt, self.catalog, self.index_dir, modality)
            held = self._nearest[modality] = stamp, caches.RebuildingIndex(opened, rebuild)
        return held[1]

    def counts(self) -> IndexCounts:
        """How many files and items of `folder` the index holds."""
        return self.catalog.counts(*inside(self.subfolder))

    def failures(self) -> dict[str, tuple[str, str]]:
        """The files of `folder` that could not be read: path from `root` -> (reason, message)."""
        return self.catalog.failures(*inside(self.subfolder))

    def facts(self) -> dict[str, Any]:
        """The facts of the catalog; none where there is no catalog yet."""
        catalog = self.opened()
        return catalog.facts() if catalog else {}

    @property
    def rules(self) -> ScanRules:
        """The scan's rules: as given, else as the last update stored them."""
        return self.given.over(self.stored_rules if None in self.given else ScanRules())

    @property
    def stored_rules(self) -> ScanRules:
        """The rules of the last update; nothing is left out before the first."""
        return ScanRules.of(self.facts(), is_trusted=self.trust.is_trusted)


@lru_cache(4096)  # to make a Path takes as long as to read the file's row
def _joined(root: Path, path: str) -> Path:
    return root / path


def locked_directory(
    directory: IndexDirectory,
    *,
    wait_s: float | None = 0.0,
    on_wait: Callable[[str], None] | None = None,
) -> AbstractContextManager[None]:
    """The lock of an index for writers: one process or thread at a time. Creates the directory if necessary."""
    with translated_errors(directory.path):
        directory.create()
        directory.check()
        directory.add(".gitignore", b"*\n")
    return locked(directory.path / caches.LOCK, wait_s=wait_s, on_wait=on_wait)
