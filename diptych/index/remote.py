"""An index that a server keeps, and its model."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.errors import IndexUntrustedError, Setting
from diptych.index.catalog.facts import ScanRules
from diptych.index.model import BUNDLED, IndexModel, check_fingerprint, display_name
from diptych.index.search.search import in_one, search_all
from diptych.index.stores.opening import TIMEOUT_S, open_store

if TYPE_CHECKING:
    from diptych.embedder import Embedder
    from diptych.index.stores.store import Store
    from diptych.media.items import IndexCounts


class StoreIndex:
    """An index at an address, such as postgresql://host/database#photos, and its model. Made by `diptych.open_index`.

    It is searched as a folder's index is, but nothing updates it from a folder: `diptych index copy` does. The paths of
    its hits are those of the folder that it was copied from. `pictures_root` is the folder whose pictures may be shown,
    None where nobody gave one: a server's word is not enough to read files.
    """

    subfolder = ""
    rules = ScanRules()

    def __init__(
        self,
        store: Store,
        *,
        model: str | os.PathLike[str] | Embedder | None = None,
        open_model: Callable[[str | None], Embedder] | None = None,
        trust: bool = False,
        pictures: str | os.PathLike[str] | None = None,
    ):
        self.store, self._trust = store, trust
        self._model = IndexModel(model, open_model)
        self.pictures_root = None if pictures is None else Path(os.path.abspath(os.fsdecode(pictures)))

    @classmethod
    def at(
        cls,
        uri: str,
        *,
        model: str | os.PathLike[str] | Embedder | None = None,
        open_model: Callable[[str | None], Embedder] | None = None,
        trust: bool = False,
        pictures: str | os.PathLike[str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> StoreIndex:
        """The index at this address. Nothing is read before it is needed."""
        store = open_store(uri, timeout_s=timeout_s)
        return cls(store, model=model, open_model=open_model, trust=trust, pictures=pictures)

    def __repr__(self) -> str:
        return f"<diptych.StoreIndex at {self.store.name}>"

    def __enter__(self) -> StoreIndex:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Whatever needs them opens them again."""
        self.store.close()

    @property
    def exists(self) -> bool:
        """Whether there is an index at this address."""
        return self.store.exists

    def counts(self) -> IndexCounts:
        """How many files and items the index holds."""
        return self.store.counts()

    @property
    def root(self) -> Path:
        """The folder of the pictures, as the index names it; nothing is read there."""
        return Path(str(self.store.facts().get("root") or "/")) if self.exists else Path("/")

    @property
    def folder(self) -> Path:
        """The root: all of the index is searched."""
        return self.root

    @property
    def display_name(self) -> str:
        """The address, without a password."""
        return self.store.name

    def failures(self) -> dict[str, tuple[str, str]]:
        """None: files that could not be read are not copied."""
        return {}

    def steady(self) -> AbstractContextManager[None]:
        """A block of one use; what another process commits may be seen in it."""
        return nullcontext()

    @property
    def model(self) -> Embedder:
        """The model, opened on first use: the one that was given, else the bundled one. Raises IndexModelError where
        the index has vectors of another one, and IndexUntrustedError where it names a model that nobody gave here."""
        facts = self.store.facts()
        model = self._model.open_or(lambda: self._own_name(facts["model"]))
        check_fingerprint(self.store.name, facts, model)
        return model

    @property
    def model_for_reindex(self) -> Embedder:
        """The same; a store is not embedded again."""
        return self.model

    def _own_name(self, name: str) -> str | None:
        """The model that the server names, which whoever may write there has chosen."""
        if name == BUNDLED or self._trust:
            return None if name == BUNDLED else name
        raise IndexUntrustedError(
            f"{self.store.name} names {display_name(name)} as its model, and a server's word is not enough to open it.",
            remedy=[
                "Give the model with ",
                Setting("model"),
                ", or accept the name with ",
                Setting("trust", True),
                ".",
            ],
        )

    search = in_one(search_all)
