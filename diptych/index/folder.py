"""The files of one folder's index, without any model: where they lie, who may write to them, and what they hold."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

from diptych import __version__
from diptych.errors import IndexDamagedError, IndexDirectoryError, MessageParts, warn
from diptych.index import caches
from diptych.index.catalog.catalog import Catalog, Counts
from diptych.index.catalog.facts import GivenRules, Rules
from diptych.index.catalog.recovery import remove
from diptych.index.roots import CATALOG, PLACE
from diptych.index.trust.identity import Facts
from diptych.index.trust.trust import Trust
from diptych.media.items import Modality
from diptych.media.path_patterns import inside
from diptych.storage.directory import IndexDirectory
from diptych.storage.error_translation import translated_errors
from diptych.storage.lock import is_held_elsewhere, locked
from diptych.untrusted.links import Inside

NEW_CATALOG = "catalog-new.sqlite"  # where a reindexing gathers what will replace the catalog


class IndexFolder:
    """A folder of pictures and the directory of its index.

    `root` is the folder of the pictures and `place` the directory of the index, both absolute. `folder` is the part
    that is searched and updated: `root`, or the folder `under` it. `given` are the rules that were given; the others
    are those of the last update. The methods raise SearchIndexError and its kinds.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        index: str | os.PathLike[str] | None = None,
        exclude: Sequence[str] | None = None,
        hidden: bool | None = None,
        follow_links: bool | None = None,
        under: str = "",
        trust: bool = False,
        notice: Callable[[MessageParts], None] = warn,
    ):
        self.root = Path(os.path.abspath(os.fsdecode(folder)))
        self.place = self.root / PLACE if index is None else Path(os.path.abspath(os.fsdecode(index)))
        self.under, self.folder = under, self.root / under
        self.given = GivenRules(exclude if exclude is None else tuple(exclude), hidden, follow_links)
        self.directory = IndexDirectory(self.place)
        self.is_apart = self.place != self.root / PLACE
        self.trust = Trust(self.directory, is_apart=self.is_apart, accept=trust, notice=notice)
        self._catalog: Catalog | None = None
        self._opened: tuple[int, int] | None = None  # device and inode of its file
        self._nearest: dict[Modality, tuple[str, caches.RebuildingIndex]] = {}

    def __repr__(self) -> str:
        return f"<IndexFolder of {self.folder} in {self.place}>"

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
    def new_catalog_path(self) -> Path:
        """The path of the catalog that a reindexing fills."""
        return self.directory.path / NEW_CATALOG

    @property
    def exists(self) -> bool:
        """Whether there is a catalog. Raises IndexUnsafeError where something else than a file has its name."""
        return bool(self.directory.size(CATALOG))

    def path_of(self, path: str) -> Path:
        """The absolute path of a file of the index."""
        return self.root / path

    # --- the lock

    def locked(
        self, *, wait_s: float | None = 0.0, on_wait: Callable[[str], None] | None = None
    ) -> AbstractContextManager[None]:
        """`locked_directory` of this index."""
        return locked_directory(self.directory, wait_s=wait_s, on_wait=on_wait)

    # --- the catalog

    @property
    def catalog(self) -> Catalog:
        """The catalog that exists now: another process may have replaced it by a new one. Raises IndexDirectoryError
        where there is none yet."""
        if self._catalog is None or self._identity() != self._opened:
            self.close()
            self.directory.check()
            self._opened = self._identity()
            catalog = Catalog.open(self.catalog_path, recover=self.recovers)
            try:
                self.trust.confirm(catalog.opened_facts)
            except BaseException:
                catalog.close()
                raise
            self._catalog, catalog.inside = catalog, self._inside
        return self._catalog

    def opened(self) -> Catalog | None:
        """The catalog; None where there is none yet."""
        return self.catalog if self.exists else None

    @property
    def recovers(self) -> bool:
        """Whether the unfinished transaction of a killed process is rolled back: in an index of this user's, and while
        another process updates it."""
        return self.trust.is_known() or is_held_elsewhere(self.place / caches.LOCK)

    def _inside(self) -> Inside | None:
        # as `rules` has it, which takes longer: the patterns of what is left out may be many
        is_noted = self.trust.is_trusted and self.catalog.facts().get("follow_links") == "yes"
        follows = is_noted if self.given.follow_links is None else self.given.follow_links
        return None if follows else Inside(self.root)

    def _identity(self) -> tuple[int, int] | None:
        status = self.directory.status(CATALOG)
        return None if status is None else (status.st_dev, status.st_ino)

    @property
    def damage(self) -> str | None:
        """What is wrong with a catalog that cannot be opened; None where it can be, or where there is none."""
        try:
            self.catalog.facts()
        except IndexDirectoryError:
            pass
        except (IndexDamagedError, sqlite3.DatabaseError) as error:
            return str(getattr(error, "problem", None) or error)
        return None

    def create(self, facts: Facts, path: Path | None = None) -> Catalog:
        """A new catalog with these facts. One at another `path` is closed, and put in place, by the caller."""
        self.directory.create()
        with self.trust.signing_catalog(facts) if path is None else nullcontext():
            catalog = Catalog.create(
                path or self.catalog_path, fingerprint=facts.fingerprint, model=facts.model, dim=facts.dim
            )
        catalog.set_facts({"version": __version__})  # by which the bundled model is told from that of other versions
        if path is None:
            self.close()
            self._catalog, self._opened = catalog, self._identity()
        return catalog

    def begun(self, facts: Facts) -> Catalog | None:
        """The new catalog of a reindexing that was interrupted, where it has these facts; any other is removed."""
        with suppress(IndexDamagedError, IndexDirectoryError, sqlite3.DatabaseError):
            catalog = Catalog.open(self.new_catalog_path, recover=self.recovers)
            if facts.matches(catalog.opened_facts, is_apart=False):
                return catalog
            catalog.close()
        remove(self.new_catalog_path)
        return None

    def replace(self, facts: Facts) -> Catalog:
        """Put the new catalog, which has these facts, in the place of the old one. The unfinished transaction of a
        killed process is rolled back in the old one before: SQLite would apply its journal to the new one."""
        try:
            self.catalog.facts()
        except (IndexDamagedError, IndexDirectoryError, sqlite3.DatabaseError):
            self.close()
            remove(self.catalog_path)
        self.close()
        with translated_errors(self.catalog_path), self.trust.signing_catalog(facts):
            self.directory.rename(NEW_CATALOG, CATALOG)
        return self.catalog

    # --- what it holds

    def nearest(self, modality: Modality) -> caches.RebuildingIndex:
        """The search structure of a modality, brought up to date or built again where necessary.

        While another process updates the index, it may still hold items that are gone (`Catalog.items` leaves these
        out) and lack the newest.
        """
        stamp = self.catalog.stamp(modality)
        held = self._nearest.get(modality)
        if held is None or held[0] != stamp:
            opened = caches.opened(self.catalog, self.place, modality)
            rebuild = partial(caches.rebuilt, self.catalog, self.place, modality)
            held = self._nearest[modality] = stamp, caches.RebuildingIndex(opened, rebuild)
        return held[1]

    def counts(self) -> Counts:
        """How many files and items of `folder` the index holds."""
        return self.catalog.counts(*inside(self.under))

    def failures(self) -> dict[str, tuple[str, str]]:
        """The files of `folder` that could not be read: path from `root` -> (reason, message)."""
        return self.catalog.failures(*inside(self.under))

    def facts(self) -> dict[str, Any]:
        """The facts of the catalog; none where there is no catalog yet."""
        catalog = self.opened()
        return catalog.facts() if catalog else {}

    @property
    def rules(self) -> Rules:
        """What is left out: as given, else as the last update noted it."""
        return self.given.over(self.noted_rules if None in self.given else Rules())

    @property
    def noted_rules(self) -> Rules:
        """What the last update left out; nothing before the first."""
        return Rules.of(self.facts(), is_trusted=self.trust.is_trusted)


def locked_directory(
    directory: IndexDirectory,
    *,
    wait_s: float | None = 0.0,
    on_wait: Callable[[str], None] | None = None,
) -> AbstractContextManager[None]:
    """The lock of those who write to an index: one process or thread at a time. Its directory is made where there is
    none."""
    with translated_errors(directory.path):
        directory.create()
        directory.check()
        directory.add(".gitignore", b"*\n")
    return locked(directory.path / caches.LOCK, wait_s=wait_s, on_wait=on_wait)
