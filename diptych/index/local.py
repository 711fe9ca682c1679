"""The index of a folder: `.diptych/` beside the pictures, with relative paths, so that it moves with them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych import __version__
from diptych.errors import Setting, Words, as_warning
from diptych.index import caches
from diptych.index.catalog.catalog import Catalog, Counts
from diptych.index.catalog.facts import Rules
from diptych.index.model import called, check_fits, check_root, named, own_model, source_of
from diptych.index.roots import CATALOG, PLACE, root_of
from diptych.index.trust.identity import Facts
from diptych.index.trust.trust import Trust
from diptych.index.update.update import Progress, Updated, update
from diptych.media.items import Modality
from diptych.media.path_patterns import inside
from diptych.storage.directory import IndexDirectory
from diptych.storage.faults import IndexDamagedError, IndexModelError, IndexPlaceError, explained
from diptych.storage.lock import is_held_elsewhere, locked
from diptych.untrusted.links import Inside

if TYPE_CHECKING:
    from diptych.embedder import Embedder
    from diptych.index.search.filters import Filters
    from diptych.index.search.search import Found, Wanted
    from diptych.index.update.precomputed import Given

OpenModel = Callable[[str | None], Any]


def open_index(
    folder: str | os.PathLike[str] = ".",
    *,
    model: str | os.PathLike[str] | Embedder | None = None,
    index: str | os.PathLike[str] | None = None,
    exclude: Sequence[str] | None = None,
    hidden: bool | None = None,
    follow_links: bool | None = None,
    open_model: OpenModel | None = None,
    trust: bool = False,
    notice: Callable[[Words], None] = as_warning,
) -> LocalIndex:
    """The index of the pictures under `folder`; nothing is read or made before it is needed.

    `model` is a model or the name of one, by default that of the index, or the bundled one for a new index; a name is
    opened with `open_model` (None stands for the bundled model), by default `diptych.load`, as soon as something must
    be embedded. `index` names another place than `folder`/.diptych, for pictures that can only be read. `exclude`,
    `hidden` and `follow_links` are those of `diptych.media.scan.scan`; an update writes them down, and None stands for
    what was written down last. Raises OSError where `folder` is none.

    An index that was neither made nor accepted by this user opens no model but the bundled one and one that is named
    here: anything else raises IndexUntrustedError. `trust` accepts it as it is, for good. `notice` is told what the
    user should know of that (see `diptych.index.trust.trust`).

    Where a folder above has an index that covers `folder`, it is that one, and all that is asked of it is asked of
    `folder` alone (see `diptych.index.roots`); `index`=`folder`/.diptych makes one of its own. Raises IndexPlaceError
    where `exclude`, `hidden` or `follow_links` come for such a folder.
    """
    os.scandir(folder).close()
    path = Path(os.path.abspath(os.fsdecode(folder)))
    root, under = root_of(path, None if index is None else Path(os.path.abspath(os.fsdecode(index))))
    rules = {"exclude": exclude, "hidden": hidden, "follow_links": follow_links}
    settings: dict[str, Any] = {"model": model, "index": index, "open_model": open_model}
    settings |= {"trust": trust, "notice": notice}
    if not under:
        return LocalIndex(folder, **rules, **settings)
    if any(rule is not None for rule in rules.values()):
        raise IndexPlaceError(
            f"{path} is in the index of {root}, and what is left out is said for all of that.",
            remedy=[f"Say it of {root}, or keep an index apart with ", Setting("index", str(path / PLACE)), "."],
        )
    opened = LocalIndex(root, under=under, **settings)
    if opened.is_apart:
        check_root(opened)
    return opened


class LocalIndex:
    """A folder's index. Made by `open_index`; its methods raise the errors of `diptych.storage.faults`.

    `root` is the folder of the pictures and `place` that of the index, both absolute; searches and updates are of the
    files in `folder`, which is `root`, or a folder `under` it that the index serves as well. `exclude`, `hidden`
    and `follow_links` are as they were given, None for what the index remembers (see `rules`).
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        model: str | os.PathLike[str] | Embedder | None = None,
        index: str | os.PathLike[str] | None = None,
        exclude: Sequence[str] | None = None,
        hidden: bool | None = None,
        follow_links: bool | None = None,
        open_model: OpenModel | None = None,
        under: str = "",
        trust: bool = False,
        notice: Callable[[Words], None] = as_warning,
    ):
        self.root = Path(os.path.abspath(os.fsdecode(folder)))
        self.place = self.root / PLACE if index is None else Path(os.path.abspath(os.fsdecode(index)))
        self.under = under
        self.exclude, self.hidden, self.follow_links = exclude, hidden, follow_links
        is_name = model is None or isinstance(model, (str, os.PathLike))
        self._name = os.fspath(model) if isinstance(model, (str, os.PathLike)) else None
        self._model: Embedder | None = None if is_name else model  # type: ignore[assignment]
        self._open_model = open_model or _load
        self._catalog: Catalog | None = None
        self._opened: tuple[int, int] | None = None  # which file it is
        self._nearest: dict[Modality, tuple[str, caches.Sound]] = {}
        self._accepts = trust
        self.trust = Trust(self.directory, is_apart=self.is_apart, accept=trust, notice=notice)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, in this process or another, opens the same folder with the same rules and model."""
        model = self._model if self._name is None else self._name
        options = {"model": model, "index": str(self.place), "exclude": self.exclude, "hidden": self.hidden}
        options |= {"follow_links": self.follow_links, "under": self.under, "trust": self._accepts}
        return _again, (str(self.root), options)

    def __repr__(self) -> str:
        return f"<diptych.LocalIndex of {self.folder} in {self.place}>"

    def __enter__(self) -> LocalIndex:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files; whatever needs them opens them again."""
        if self._catalog is not None:
            self._catalog.close()
        self._catalog, self._nearest = None, {}

    # --- places

    @property
    def folder(self) -> Path:
        """What is searched and updated: all of `root`, or a folder in it."""
        return self.root / self.under

    @property
    def directory(self) -> IndexDirectory:
        """The files of the index."""
        return IndexDirectory(self.place)

    @property
    def catalog_path(self) -> Path:
        """Where the catalog is, or will be."""
        return self.directory.path / CATALOG

    @property
    def new_catalog_path(self) -> Path:
        """Where a reindexing gathers what will take the catalog's place."""
        return self.directory.path / "catalog-new.sqlite"

    @property
    def is_inside(self) -> bool:
        """Whether the index lies in the folder of its pictures, and moves with it."""
        return self.place.is_relative_to(self.root)

    @property
    def is_apart(self) -> bool:
        """Whether the index lies elsewhere than `folder`/.diptych, and says itself which folder it is of."""
        return self.place != self.root / PLACE

    @property
    def exists(self) -> bool:
        """Whether there is a catalog. Raises IndexUnsafeError where something else than a file has its name."""
        return bool(self.directory.size(CATALOG))

    def path_of(self, path: str) -> Path:
        """Where a file of the index lies."""
        return self.root / path

    @contextmanager
    def locked(self, *, wait_s: float | None = 0.0, on_wait: Callable[[str], None] | None = None) -> Iterator[None]:
        """Be the only one who writes to the index; its folder is made if need be."""
        directory = self.directory
        with explained(self.place):
            directory.create()
            directory.check()
            directory.add(".gitignore", b"*\n")
        with locked(self.place / caches.LOCK, wait_s=wait_s, on_wait=on_wait):
            yield

    # --- what is in it

    @property
    def catalog(self) -> Catalog:
        """The catalog: that which lies there now, for another process may have replaced it by a new one. Raises
        IndexPlaceError where there is none yet."""
        if self._catalog is None or self._identity() != self._opened:
            self.close()
            self.directory.check()
            self._opened = self._identity()
            with ExitStack() as until_confirmed:
                catalog = until_confirmed.enter_context(Catalog.open(self.catalog_path, recover=self.recovers))
                self.trust.confirm(catalog.facts())
                until_confirmed.pop_all()
            self._catalog, catalog.inside = catalog, self._inside
        return self._catalog

    @property
    def recovers(self) -> bool:
        """Whether what a killed process left of a transaction is undone: in an index of this user's, and where another
        process is at work on it."""
        return self.trust.known() or is_held_elsewhere(self.place / caches.LOCK)

    def _inside(self) -> Inside | None:
        # as `rules` has it, which takes longer: what is left out may be many patterns
        is_noted = self.trust.holds and self.catalog.facts().get("follow_links") == "yes"
        return None if (is_noted if self.follow_links is None else self.follow_links) else Inside(self.root)

    def _identity(self) -> tuple[int, int] | None:
        status = self.directory.status(CATALOG)
        return None if status is None else (status.st_dev, status.st_ino)

    def create(self, path: Path | None = None) -> Catalog:
        """A new catalog for the model at hand; one at another `path` is the caller's to close, and to put in place."""
        facts = self.facts_to_come
        self.directory.create()
        with self.trust.changing(facts) if path is None else nullcontext():
            catalog = Catalog.create(
                path or self.catalog_path, fingerprint=facts.fingerprint, model=facts.model, dim=facts.dim
            )
        catalog.set_facts({"version": __version__})  # whose bundled model it is
        if path is None:
            self.close()
            self._catalog, self._opened = catalog, self._identity()
        return catalog

    @property
    def facts_to_come(self) -> Facts:
        """What a new catalog will say of the model at hand and of its folder."""
        model = self.any_model
        follow_links = bool(self.follow_links if self.damage else self.rules.follow_links)
        return Facts(source_of(model), model.fingerprint, model.dim, str(self.root), follow_links)

    def nearest(self, modality: Modality) -> caches.Sound:
        """The search structure of a modality, brought up to date or built anew where that is needed.

        While another process updates the index, it may still hold items that are gone (`Catalog.items` leaves these
        out) and lack the newest.
        """
        stamp = self.catalog.stamp(modality)
        held = self._nearest.get(modality)
        if held is None or held[0] != stamp:
            opened = caches.opened(self.catalog, self.place, modality)
            rebuild = partial(caches.rebuilt, self.catalog, self.place, modality)
            held = self._nearest[modality] = stamp, caches.Sound(opened, rebuild)
        return held[1]

    def counts(self) -> Counts:
        """How much of `folder` the index holds."""
        return self.catalog.counts(*inside(self.under))

    def failures(self) -> dict[str, tuple[str, str]]:
        """The files of `folder` that could not be read: path from `root` -> (reason, message)."""
        return self.catalog.failures(*inside(self.under))

    @property
    def rules(self) -> Rules:
        """What is left out: as given, else as the last update wrote it down."""
        given = {"exclude": self.exclude, "hidden": self.hidden, "follow_links": self.follow_links}
        given = {name: rule for name, rule in given.items() if rule is not None}
        rules = (self.remembered if len(given) < len(Rules._fields) else Rules())._replace(**given)
        return rules._replace(exclude=tuple(filter(str.strip, rules.exclude)))

    @property
    def remembered(self) -> Rules:
        """What the last update left out; nothing before the first. That links be followed out of the folder is nothing
        that a stranger's index may ask."""
        rules = Rules.of(self.catalog.facts()) if self.exists else Rules()
        return rules if self.trust.holds else rules._replace(follow_links=False)

    # --- the model

    @property
    def model(self) -> Embedder:
        """The model, opened when first asked for. Raises IndexModelError where the index is of another."""
        facts = self.catalog.facts() if self.exists else None  # one that is damaged says so at once
        model = self.any_model
        if facts:
            check_fits(self.place, facts, model)
        return model

    @property
    def damage(self) -> str | None:
        """What is wrong with the catalog where it cannot be opened; None where it can, or there is none."""
        try:
            self.catalog.facts()
        except IndexPlaceError:
            pass
        except (IndexDamagedError, sqlite3.DatabaseError) as error:
            return str(getattr(error, "problem", None) or error)
        return None

    @property
    def any_model(self) -> Embedder:
        """The model, whether it fits the index or not: the one that was named, else that which the catalog names, as
        far as it can be read, else the bundled one."""
        if self._model is None:
            is_named = self._name is not None
            self._model = self._open_model(self._name) if is_named else own_model(self, self._open_model)
        return self._model  # type: ignore[return-value]

    def check_trusted(self) -> None:
        """Raises IndexUntrustedError where the model at hand would be that of a stranger's index; accepts the index
        where that is wanted."""
        if self.exists and not self.damage and self._name is None and self._model is None:
            named(self)

    # --- what is asked of it

    def search(
        self,
        query: Any,
        *,
        limit: int = 10,
        modality: Wanted = "picture",
        filters: Filters | None = None,
        relevant: bool = False,
        diverse: float = 0.0,
        truncate: bool = False,
        copies: bool = False,
    ) -> Found:
        """The best hits for a sentence, a picture, a vector or a `Query`; see `diptych.index.search.search.search`."""
        from diptych.index.search.search import search

        return search(
            self, query, limit=limit, modality=modality, filters=filters, relevant=relevant, diverse=diverse,
            truncate=truncate, copies=copies,
        )  # fmt: skip

    # --- what changes it

    def update(
        self,
        *,
        progress: Progress | None = None,
        reindex: bool = False,
        given: Given | None = None,
        wait_s: float | None = 0.0,
        on_wait: Callable[[str], None] | None = None,
        processes: int | None = None,
        arranging: Progress | None = None,
    ) -> Updated:
        """Embed what is new or changed, follow what was renamed, forget what is gone.

        A file counts as changed by size or time of change, and then by its bytes: one that was only touched, renamed or
        copied is not embedded again. All that belongs to a file is committed together, some files at a time, so that
        whatever ends an update costs the last second alone; the next one goes on from there. `progress` is told (done,
        total) of the files whose bytes are compared with what is known, if any, and then of those that must be read.
        `reindex` makes all vectors anew, with the model at hand, beside the old ones, which serve until the new are
        whole. `given` are vectors made elsewhere (`given.open_given`), taken in place of the model's own for the
        pictures that they name. `wait_s` is how long to wait while another process updates (None: for ever), after
        telling `on_wait` so. `processes` read files, by default one a core. `arranging` is told (done, total) rows
        where a large index is arranged anew for searching, which reads them three times.

        Raises IndexModelError, IndexBusyError, IndexPlaceError (nothing can be written, the disk is full, or the
        folder is suddenly empty) and IndexDamagedError; OSError where the folder is gone.
        """
        os.scandir(self.folder).close()
        if self._name is not None or self._model is not None:
            _ = self.any_model if reindex else self.model  # another model is refused before anything is changed
        if given is not None:
            self._check_given(given)
        with self.locked(wait_s=wait_s, on_wait=on_wait):
            return update(
                self, progress=progress, reindex=reindex, given=given, processes=processes, arranging=arranging
            )

    def _check_given(self, given: Given) -> None:
        model = self.any_model
        if given.dim != model.dim or given.fingerprint not in (None, model.fingerprint):
            raise IndexModelError(
                f"the vectors are of {given.model or 'another model'} ({given.dim} dimensions), the index is of "
                f"{called(source_of(model))} ({model.dim} dimensions).",
                remedy=["Name the model that made them with ", Setting("model"), "."],
            )


def _again(folder: str, options: dict[str, Any]) -> LocalIndex:
    return LocalIndex(folder, **options)


def _load(name: str | None) -> Embedder:
    from diptych.embedder import load

    return load(name)
