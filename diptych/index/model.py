"""The model that an index is of: how its catalog calls it, and opening what a catalog names where that may be done."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych import __version__
from diptych.errors import IndexDamagedError, IndexModelError, Setting
from diptych.index.catalog.recovery import facts_of
from diptych.index.trust.identity import Facts
from diptych.index.trust.untrusted_index import cut, shown, untrusted_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from diptych.embedder import Embedder
    from diptych.index.folder import IndexFolder

BUNDLED = "bundled"  # how the bundled model is called in a catalog: its path is another in each installation
_REINDEX = Setting("reindex", True, "index.update")
_NAME_IT = ["Name where it is now with ", Setting("model"), ", or another model with it and ", _REINDEX, "."]


class IndexModel:
    """The model of an index, opened when it is first asked for: the one that was given or named, else the index's own.

    `name` is the name that was given, `opened` the model itself, None until it is open. `open_model` opens a name; None
    stands for the bundled model.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Embedder | None = None,
        open_model: Callable[[str | None], Any] | None = None,
    ):
        is_name = isinstance(model, str | os.PathLike)
        self.name: str | None = os.fspath(model) if is_name else None  # type: ignore[arg-type]
        self.opened: Embedder | None = None if is_name else model  # type: ignore[assignment]
        self._open = open_model or _load

    @property
    def is_chosen(self) -> bool:
        """Whether it was given or named, or is open."""
        return self.name is not None or self.opened is not None

    def of(self, folder: IndexFolder) -> Embedder:
        """The model, whether it fits the index or not: the one that was chosen, else the index's own as far as the
        catalog can be read, else the bundled one."""
        if self.opened is None:
            self.opened = self._open(self.name) if self.name is not None else own_model(folder, self._open)
        return self.opened  # type: ignore[return-value]

    def fitting(self, folder: IndexFolder) -> Embedder:
        """The model. Raises IndexModelError where the index is of another."""
        catalog = folder.opened()  # a damaged one is reported at once
        model = self.of(folder)
        if catalog:
            check_fits(folder.place, catalog.opened_facts, model)
        return model


def _load(name: str | None) -> Embedder:
    from diptych.embedder import load

    return load(name)


def own_model(folder: IndexFolder, open_model: Callable[[str | None], Any]) -> Embedder:
    """The model that the index was made with; the bundled one for an index to come.

    What a stranger's catalog names is not opened: IndexUntrustedError. Nor is what it names relative to the current
    folder, whoever made it, for no catalog of ours does: IndexModelError, as for a model that cannot be opened.
    """
    source = named(folder)
    if source == BUNDLED:
        return open_model(None)
    try:
        return open_model(_absolute(source))
    except (OSError, ValueError) as error:
        raise IndexModelError(
            f"{folder.place} was made with {shown(source)}, which cannot be opened ({str(error).rstrip('.')}).",
            remedy=_NAME_IT,
        ) from error


def named(folder: IndexFolder) -> str:
    """What the catalog calls its model, where that may be opened. Raises IndexUntrustedError where it may not."""
    trust = folder.trust
    try:
        catalog = folder.opened()
        if catalog is None:
            return BUNDLED
        facts, is_followed = catalog.opened_facts, trust.is_trusted
    except (IndexDamagedError, sqlite3.DatabaseError):
        if known := trust.model:
            return known
        facts, is_followed = facts_of(folder.catalog_path), trust.accepts
    source = facts.get("model", BUNDLED)
    if source != BUNDLED and not is_followed:
        raise untrusted_error(folder.directory, facts, is_altered=trust.is_altered, trouble=trust.trouble)
    return source


def check_root(folder: IndexFolder) -> None:
    """Raises IndexUntrustedError where an index that lies apart says itself of which folder it is, and is not known to
    be."""
    facts, trust = folder.catalog.facts(), folder.trust
    if not trust.has_root(str(folder.root)):
        raise untrusted_error(folder.directory, facts, is_altered=trust.is_altered, trouble=trust.trouble, root=True)


def facts_to_come(model: Embedder, root: Path, *, follow_links: bool) -> Facts:
    """The facts of a new catalog for this model and this folder of pictures."""
    return Facts(source_of(model), model.fingerprint, model.dim, str(root), follow_links)


def _absolute(source: object) -> str:
    """A name that means the same in any working folder: a path from the root, or an id of the hub, whatever lies here
    under that name. Raises ValueError for any other."""
    from diptych.checkpoint.hub import HubId, is_repo_id

    if isinstance(source, str) and os.path.isabs(source):
        return source
    if isinstance(source, str) and is_repo_id(source):
        return HubId(source)
    raise ValueError("it is neither an absolute path nor the id of a model on the hub")


def source_of(model: Embedder) -> str:
    """How a catalog calls a model, so that it can be opened again from any working folder."""
    from diptych import embedder
    from diptych.checkpoint.hub import HubId

    source = model.source
    if isinstance(source, HubId):
        return str(source)
    source = os.fspath(source)
    if Path(source) == embedder.BUNDLED:
        return BUNDLED
    return os.path.abspath(source) if os.path.exists(source) else source


def called(source: object) -> str:
    """What a message calls a catalog's model."""
    return "the bundled model" if source == BUNDLED else cut(str(source))


def check_fits(place: Path, facts: Mapping[str, Any], model: Embedder) -> None:
    """Raises IndexModelError where the vectors of an index are of another model, and IndexDamagedError where they are
    said to be of this one and cannot be: whatever asks them would take the time and memory of what is claimed."""
    if facts["fingerprint"] != model.fingerprint:
        raise _other_model(place, facts, source_of(model))
    if facts["dim"] != model.dim:
        claimed = f"{place} says that its vectors have {facts['dim']} numbers"
        raise IndexDamagedError(f"{claimed}, and those of its model have {model.dim}.")


def _other_model(place: Path, facts: Mapping[str, Any], came: str) -> IndexModelError:
    """What to say of an index and a model that do not go together."""
    if facts["model"] == came == BUNDLED:  # each update has noted which version it was
        made = facts.get("version", "an earlier version")
        whose = "whose bundled model is another" if made != __version__ else "with another state of it"
        return IndexModelError(
            f"{place} was made with the bundled model of {made}; this is {__version__}, {whose}: their vectors cannot "
            "be compared.",
            remedy=[_REINDEX, " embeds all anew."],
        )
    return IndexModelError(
        f"{place} holds vectors of {called(facts['model'])}, and {called(came)} came, which is another model or "
        "another state of it; their vectors cannot be compared.",
        remedy=[
            "Leave out ",
            Setting("model"),
            " to go on with the index's own; ",
            _REINDEX,
            " with it embeds all anew.",
        ],
    )
