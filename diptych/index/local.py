"""The index of a folder: `.diptych/` beside the pictures, with relative paths, so that it moves with them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.errors import IndexDirectoryError, IndexModelError, MessageParts, Setting, warn
from diptych.index.catalog.catalog import Catalog, Counts
from diptych.index.catalog.facts import Rules
from diptych.index.folder import IndexFolder, locked_directory
from diptych.index.model import IndexModel, called, check_fits, check_root, named, source_of
from diptych.index.roots import PLACE, root_of
from diptych.index.search.search import in_one, search_all
from diptych.index.update.results import Progress, Updated
from diptych.index.update.update import update
from diptych.media.items import Modality

if TYPE_CHECKING:
    from diptych.embedder import Embedder
    from diptych.index.caches import RebuildingIndex
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
    notice: Callable[[MessageParts], None] = warn,
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
    `folder` alone (see `diptych.index.roots`); `index`=`folder`/.diptych makes one of its own. Raises
    IndexDirectoryError where `exclude`, `hidden` or `follow_links` come for such a folder.
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
        raise IndexDirectoryError(
            f"{path} is in the index of {root}, and what is left out is said for all of that.",
            remedy=[f"Say it of {root}, or keep an index apart with ", Setting("index", str(path / PLACE)), "."],
        )
    opened = LocalIndex(root, under=under, **settings)
    if opened.on_disk.is_apart:
        check_root(opened.on_disk)
    return opened


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

    `root` is the folder of the pictures and `place` that of the index, both absolute; searches and updates are of the
    files in `folder`, which is `root`, or a folder `under` it that the index serves as well. `exclude`, `hidden` and
    `follow_links` are as they were given, None for what the index remembers (see `rules`). `on_disk` is the index
    without its model.
    """

    exclude, hidden, follow_links = _GivenRule(), _GivenRule(), _GivenRule()

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
        notice: Callable[[MessageParts], None] = warn,
    ):
        self.on_disk = IndexFolder(
            folder, index=index, exclude=exclude, hidden=hidden, follow_links=follow_links, under=under, trust=trust,
            notice=notice,
        )  # fmt: skip
        self.root, self.place, self.under = self.on_disk.root, self.on_disk.place, self.on_disk.under
        self.folder, self.directory, self.trust = self.on_disk.folder, self.on_disk.directory, self.on_disk.trust
        self._model = IndexModel(model, open_model)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, in this process or another, opens the same folder with the same rules and model."""
        model = self._model.opened if self._model.name is None else self._model.name
        options = {"model": model, "index": str(self.place), "exclude": self.exclude, "hidden": self.hidden}
        options |= {"follow_links": self.follow_links, "under": self.under, "trust": self.trust.accepts}
        return _again, (str(self.root), options)

    def __repr__(self) -> str:
        return f"<diptych.LocalIndex of {self.folder} in {self.place}>"

    def __enter__(self) -> LocalIndex:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files. Whatever needs them opens them again."""
        self.on_disk.close()

    # --- what is in it

    @property
    def exists(self) -> bool:
        """Whether there is a catalog. Raises IndexUnsafeError where something else than a file has its name."""
        return self.on_disk.exists

    @property
    def catalog(self) -> Catalog:
        """The catalog that exists now. Raises IndexDirectoryError where there is none yet."""
        return self.on_disk.catalog

    @property
    def catalog_path(self) -> Path:
        """The catalog's path, whether it exists or not."""
        return self.on_disk.catalog_path

    @property
    def damage(self) -> str | None:
        """What is wrong with a catalog that cannot be opened; None where it can be, or where there is none."""
        return self.on_disk.damage

    @property
    def rules(self) -> Rules:
        """What is left out: as given, else as the last update noted it."""
        return self.on_disk.rules

    def path_of(self, path: str) -> Path:
        """The absolute path of a file of the index."""
        return self.on_disk.path_of(path)

    def nearest(self, modality: Modality) -> RebuildingIndex:
        """The search structure of a modality; see `IndexFolder.nearest`."""
        return self.on_disk.nearest(modality)

    def counts(self) -> Counts:
        """How many files and items of `folder` the index holds."""
        return self.on_disk.counts()

    def failures(self) -> dict[str, tuple[str, str]]:
        """The files of `folder` that could not be read: path from `root` -> (reason, message)."""
        return self.on_disk.failures()

    # --- the model

    @property
    def model(self) -> Embedder:
        """The model, opened when it is first asked for. Raises IndexModelError where the index is of another."""
        return self._model.fitting(self.on_disk)

    @property
    def any_model(self) -> Embedder:
        """The model, whether it fits the index or not: the one that was named, else that which the catalog names, as
        far as it can be read, else the bundled one."""
        return self._model.of(self.on_disk)

    def check_trusted(self) -> None:
        """Raises IndexUntrustedError where the model at hand would be that of a stranger's index; accepts the index
        where that is wanted."""
        if not self._model.is_chosen and self.exists and not self.damage:
            named(self.on_disk)

    # --- what is asked of it

    search = in_one(search_all)

    # --- what changes it

    def locked(
        self, *, wait_s: float | None = 0.0, on_wait: Callable[[str], None] | None = None
    ) -> AbstractContextManager[None]:
        """The lock of those who write to the index: one process or thread at a time. Its directory is made where there
        is none."""
        return self.on_disk.locked(wait_s=wait_s, on_wait=on_wait)

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

        Raises IndexModelError, IndexBusyError, IndexDirectoryError (nothing can be written, the disk is full, or the
        folder is suddenly empty) and IndexDamagedError; OSError where the folder is gone.
        """
        os.scandir(self.folder).close()
        folder, model = self.on_disk, self._model
        if model.is_chosen:  # another model is refused before anything is changed
            catalog = None if reindex else folder.opened()
            chosen = model.opened or model.of(folder)
            if catalog:
                check_fits(folder.place, catalog.opened_facts, chosen)
        if given is not None:
            self._check_given(given)
        with locked_directory(self.directory, wait_s=wait_s, on_wait=on_wait):
            return update(
                folder, model, progress=progress, reindex=reindex, given=given, processes=processes,
                arranging=arranging,
            )  # fmt: skip

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
