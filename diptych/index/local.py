"""Opens the index of a folder: `.diptych/` beside the pictures, with relative paths, so that it moves with them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.deprecation import RenamedAttribute, renamed_arguments
from diptych.errors import IndexDirectoryError, IndexModelError, MessageParts, Setting, warn
from diptych.index.catalog.catalog import Catalog
from diptych.index.catalog.facts import ScanRules
from diptych.index.folder import IndexFolder, locked_directory
from diptych.index.model import (
    IndexModel,
    check_bundled,
    check_fits,
    check_root,
    display_name,
    source_of,
    trusted_model_name,
)
from diptych.index.roots import INDEX_DIR_NAME, find_root
from diptych.index.search.search import in_one, search_all
from diptych.index.stores.local import LocalStore
from diptych.index.stores.uri import is_store_uri
from diptych.index.update.results import Progress, UpdateResult
from diptych.index.update.update import update
from diptych.media.items import IndexCounts, Modality

if TYPE_CHECKING:
    from diptych.embedder import Embedder
    from diptych.index.caches import RebuildingIndex
    from diptych.index.update.precomputed import PrecomputedVectors

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
    notice: Callable[[MessageParts], None] = warn,
) -> LocalIndex:
    """The index of the pictures under `folder`. Nothing is read or written before it is needed.

    `model` is a model or its name; by default the index's own, or the bundled one for a new index. A name is opened
    with `open_model` (None is the bundled model; by default `diptych.load`) when something must be embedded. `index` is
    the index directory, by default `folder`/.diptych; another one serves folders that cannot be written. `exclude`,
    `hidden` and `follow_links` are those of `diptych.media.scanning.scan.scan`; an update stores them, and None keeps
    the stored ones. Raises OSError where `folder` is not a folder.

    An index that this user neither made nor accepted opens only the bundled model or one that is named here; otherwise
    IndexUntrustedError is raised. `trust` accepts the index permanently. `notice` is called with messages to the
    user about that (see `diptych.index.trust.trust`).

    If a folder above has an index that covers `folder`, that index is opened, limited to `folder` (see
    `diptych.index.roots`); `index`=`folder`/.diptych makes a separate one. Raises IndexDirectoryError where `exclude`,
    `hidden` or `follow_links` are given for such a folder.

    The address of a store, such as postgresql://host/database#photos, gives a `diptych.StoreIndex`; `model`, `trust`
    and `open_model` count.
    """
    if is_store_uri(folder):
        return _at_address(os.fspath(folder), model, open_model, trust)
    os.scandir(folder).close()
    path = Path(os.path.abspath(os.fsdecode(folder)))
    root, subfolder = find_root(path, None if index is None else Path(os.path.abspath(os.fsdecode(index))))
    rules = {"exclude": exclude, "hidden": hidden, "follow_links": follow_links}
    settings: dict[str, Any] = {"model": model, "index": index, "open_model": open_model}
    settings |= {"trust": trust, "notice": notice}
    if not subfolder:
        return LocalIndex(folder, **rules, **settings)
    if any(rule is not None for rule in rules.values()):
        own = path / INDEX_DIR_NAME
        raise IndexDirectoryError(
            f"{path} is in the index of {root}, whose rules hold for all of its folders.",
            remedy=[f"Give them for {root}, or make a separate index with ", Setting("index", str(own)), "."],
        )
    opened = LocalIndex(root, subfolder=subfolder, **settings)
    if opened.on_disk.is_apart:
        check_root(opened.on_disk)
    return opened


def _at_address(address: str, model: Any, open_model: OpenModel | None, trust: bool) -> Any:
    """A `StoreIndex`. Its type is not the one of folders, which nearly all callers open; `search` is the same."""
    from diptych.index.remote import StoreIndex

    return StoreIndex.at(address, model=model, open_model=open_model, trust=trust)


class _GivenRule:
    """A rule of `IndexFolder.given`, as an attribute of the index."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, index: LocalIndex, owner: type | None = None) -> Any:
        return getattr(index.on_disk.given, self._name)

    def __set__(self, index: LocalIndex, rule: object) -> None:
        index.on_disk.given = index.on_disk.given._replace(**{self._name: rule})


class LocalIndex:
    """A folder's index and its model. Made by `open_index`; its methods raise SearchIndexError and its kinds.

    `root` is the folder of the pictures and `index_dir` the index directory, both absolute. Searches and updates cover
    `folder`: `root`, or its `subfolder`. `exclude`, `hidden` and `follow_links` are as given, None for the stored ones
    (see `rules`). `on_disk` is the index without its model, `store` is what searches read of it.
    """

    exclude, hidden, follow_links = _GivenRule(), _GivenRule(), _GivenRule()
    place = RenamedAttribute("place", "index_dir")
    under = RenamedAttribute("under", "subfolder")

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
        subfolder: str = "",
        trust: bool = False,
        notice: Callable[[MessageParts], None] = warn,
    ):
        self.on_disk = IndexFolder(
            folder, index=index, exclude=exclude, hidden=hidden, follow_links=follow_links, subfolder=subfolder,
            trust=trust, notice=notice,
        )  # fmt: skip
        self.root, self.index_dir, self.subfolder = self.on_disk.root, self.on_disk.index_dir, self.on_disk.subfolder
        self.folder, self.directory, self.trust = self.on_disk.folder, self.on_disk.directory, self.on_disk.trust
        self.store = LocalStore(self.on_disk)
        self._model = IndexModel(model, open_model)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies, also in other processes, open the same folder with the same rules and model."""
        model = self._model.opened if self._model.name is None else self._model.name
        options = {"model": model, "index": str(self.index_dir), "exclude": self.exclude, "hidden": self.hidden}
        options |= {"follow_links": self.follow_links, "subfolder": self.subfolder, "trust": self.trust.accepts}
        return _again, (str(self.root), options)

    def __repr__(self) -> str:
        return f"<diptych.LocalIndex of {self.folder} in {self.index_dir}>"

    def __enter__(self) -> LocalIndex:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files. Whatever needs them opens them again."""
        self.on_disk.close()

    # --- contents

    @property
    def exists(self) -> bool:
        """Whether there is a catalog. Raises IndexUnsafeError where its name belongs to something other than a file."""
        return self.on_disk.exists

    @property
    def catalog(self) -> Catalog:
        """The current catalog. Raises IndexDirectoryError where there is none yet."""
        return self.on_disk.catalog

    @property
    def catalog_path(self) -> Path:
        """The catalog's path, whether it exists or not."""
        return self.on_disk.catalog_path

    @property
    def damage(self) -> str | None:
        """Why the catalog cannot be opened; None where it can be, or where there is none."""
        return self.on_disk.damage

    @property
    def rules(self) -> ScanRules:
        """The scan's rules: as given, else as the last update stored them."""
        return self.on_disk.rules

    def path_of(self, path: str) -> Path:
        """The absolute path of a file of the index."""
        return self.on_disk.path_of(path)

    def nearest(self, modality: Modality) -> RebuildingIndex:
        """The search structure of a modality; see `IndexFolder.nearest`."""
        return self.on_disk.nearest(modality)

    def counts(self) -> IndexCounts:
        """How many files and items of `folder` the index holds."""
        return self.on_disk.counts()

    def failures(self) -> dict[str, tuple[str, str]]:
        """The files of `folder` that could not be read: path from `root` -> (reason, message)."""
        return self.on_disk.failures()

    @property
    def display_name(self) -> str:
        """The name of the folder."""
        return self.folder.name

    @property
    def pictures_root(self) -> Path:
        """The folder whose pictures may be shown."""
        return self.root

    def steady(self) -> AbstractContextManager[None]:
        """As `IndexFolder.steady`."""
        return self.on_disk.steady()

    # --- the model

    @property
    def model(self) -> Embedder:
        """The model, opened on first use. Raises IndexModelError where the index was made with another one."""
        return self._model.open_fitting(self.on_disk)

    @property
    def model_for_reindex(self) -> Embedder:
        """The model, whether it fits the index or not: the chosen one, else the one that the catalog names, if it can
        be read, else the bundled one."""
        return self._model.open(self.on_disk)

    def check_trusted(self) -> None:
        """Raises IndexUntrustedError where the model would be that of an untrusted index. With `trust`, accepts it."""
        if not self._model.is_chosen and self.exists and not self.damage:
            trusted_model_name(self.on_disk)

    # --- search

    search = in_one(search_all)

    # --- changes

    def locked(
        self, *, wait_s: float | None = 0.0, on_wait: Callable[[str], None] | None = None
    ) -> AbstractContextManager[None]:
        """The lock of the index for writers. Creates the index directory if necessary."""
        return self.on_disk.locked(wait_s=wait_s, on_wait=on_wait)

    @renamed_arguments(given="precomputed", arranging="on_build")
    def update(
        self,
        *,
        progress: Progress | None = None,
        reindex: bool = False,
        precomputed: PrecomputedVectors | None = None,
        wait_s: float | None = 0.0,
        on_wait: Callable[[str], None] | None = None,
        processes: int | None = None,
        on_build: Progress | None = None,
    ) -> UpdateResult:
        """Embed new and changed files, follow renamed ones, and remove deleted ones from the index.

        Size and time of change tell whether a file may have changed, and its bytes decide: a file that was touched,
        renamed or copied is not embedded again. Everything that belongs to a file is committed at once, a few files at
        a time, so an interrupted update loses at most its last second, and the next one continues. `progress` is called
        with (done, total) files: first those whose bytes are compared, if any, then those that must be read.

        `reindex` embeds everything again with the given model; the old vectors serve until the new ones are complete.
        `precomputed` vectors (see `diptych.index.update.precomputed.open_precomputed`) replace the model's own for the
        pictures that they name. `wait_s` is how long to wait while another process updates (None: without end), after
        a call of `on_wait`. `processes` is the number of reader processes, by default one per core. `on_build` is
        called with (done, total) rows while the search structure of a large index is built, which reads them three
        times.

        Raises IndexModelError, IndexBusyError, IndexDirectoryError (the index cannot be written, the disk is full, or
        the folder is suddenly empty) and IndexDamagedError; OSError where the folder does not exist.
        """
        os.scandir(self.folder).close()
        folder, model = self.on_disk, self._model
        if not reindex and (catalog := folder.opened()):  # a model that does not fit is refused before anything changes
            if model.is_chosen:
                check_fits(folder.index_dir, catalog.opened_facts, model.open(folder))
            else:
                check_bundled(folder.index_dir, catalog.opened_facts)
        if precomputed is not None:
            self._check_precomputed(precomputed)
        with locked_directory(self.directory, wait_s=wait_s, on_wait=on_wait):
            return update(
                folder, model, progress=progress, reindex=reindex, precomputed=precomputed, processes=processes,
                on_build=on_build,
            )  # fmt: skip

    def _check_precomputed(self, precomputed: PrecomputedVectors) -> None:
        model = self.model_for_reindex
        if precomputed.dim != model.dim or precomputed.fingerprint not in (None, model.fingerprint):
            raise IndexModelError(
                f"the vectors are of {precomputed.model or 'another model'} ({precomputed.dim} dimensions), the index "
                f"of {display_name(source_of(model))} ({model.dim} dimensions).",
                remedy=["Name the model that made them with ", Setting("model"), "."],
            )


def _again(folder: str, options: dict[str, Any]) -> LocalIndex:
    return LocalIndex(folder, **options)
