"""The model of an index: its name in the catalog, and opening it where the catalog may be trusted."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych import __version__
from diptych.errors import IndexDamagedError, IndexModelError, MessageParts, Setting
from diptych.index.catalog.recovery import facts_of
from diptych.index.trust.identity import Facts
from diptych.index.trust.untrusted_index import cut, shown, untrusted_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from diptych.embedder import Embedder
    from diptych.index.folder import IndexFolder

BUNDLED = "bundled"  # its name in a catalog: its path differs between installations
_REINDEX = Setting("reindex", True, "index.update")
_NAME_IT = ["Give its path with ", Setting("model"), ", or another model together with ", _REINDEX, "."]


class IndexModel:
    """The model of an index, opened on first use: the one that was given or named, else the index's own.

    `name` is the name that was given; `opened` is the model, None until it is open. `open_model` opens a name; None is
    the bundled model.
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
        """Whether the model was given or named, or is open."""
        return self.name is not None or self.opened is not None

    def open(self, folder: IndexFolder) -> Embedder:
        """The model, whether it fits the index or not: the chosen one, else the one that the catalog names, if it can
        be read, else the bundled one."""
        if self.opened is None:
            self.opened = self._open(self.name) if self.name is not None else own_model(folder, self._open)
        return self.opened  # type: ignore[return-value]

    def open_or(self, own_name: Callable[[], str | None]) -> Embedder:
        """The chosen model, else the one of the name that `own_name` gives."""
        if self.opened is None:
            self.opened = self._open(self.name if self.name is not None else own_name())
        return self.opened  # type: ignore[return-value]

    def open_fitting(self, folder: IndexFolder) -> Embedder:
        """The model. Raises IndexModelError where the index was made with another one."""
        catalog = folder.opened()  # a damaged one is reported first
        model = self.open(folder)
        if catalog:
            check_fits(folder.index_dir, catalog.opened_facts, model)
        return model


def _load(name: str | None) -> Embedder:
    from diptych.embedder import load

    return load(name)


def own_model(folder: IndexFolder, open_model: Callable[[str | None], Any]) -> Embedder:
    """The model that the index was made with; the bundled one where there is no index yet.

    Raises IndexUntrustedError where the index is not trusted and names another model than the bundled one, and
    IndexModelError where the model cannot be opened, or is named relative to the current folder, which no catalog of
    ours does.
    """
    source = trusted_model_name(folder)
    if source == BUNDLED:
        return open_model(None)
    try:
        return open_model(_absolute(source))
    except (OSError, ValueError) as error:
        raise IndexModelError(
            f"{folder.index_dir} was made with {shown(source)}, which cannot be opened ({str(error).rstrip('.')}).",
            remedy=_NAME_IT,
        ) from error


def trusted_model_name(folder: IndexFolder) -> str:
    """The name of the model in the catalog. Raises IndexUntrustedError where that model may not be opened."""
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
    """Raises IndexUntrustedError where an index outside its folder claims to belong to an unconfirmed folder."""
    facts, trust = folder.catalog.facts(), folder.trust
    if not trust.has_root(str(folder.root)):
        raise untrusted_error(folder.directory, facts, is_altered=trust.is_altered, trouble=trust.trouble, root=True)


def next_facts(model: Embedder, root: Path, *, follow_links: bool) -> Facts:
    """The facts of a new catalog for this model and this folder of pictures."""
    return Facts(source_of(model), model.fingerprint, model.dim, str(root), follow_links)


def _absolute(source: object) -> str:
    """A name that means the same in any working folder: an absolute path, or an id on the hub even where a file here
    has that name. Raises ValueError for any other."""
    from diptych.checkpoint.hub import HubId

    if isinstance(source, str) and os.path.isabs(source):
        return source
    if isinstance(source, str) and (hub_id := HubId.parse(source)):
        return hub_id
    raise ValueError("it is neither an absolute path nor the id of a model on the hub")


def source_of(model: Embedder) -> str:
    """The name of a model in a catalog, by which it can be opened from any working folder: owner/name@commit for one of
    the hub, so that it is found again when its repository has changed."""
    from diptych import embedder
    from diptych.checkpoint.hub import HubId

    source = model.source
    if isinstance(source, HubId):
        return f"{source}@{source.revision}" if source.revision else str(source)
    source = os.fspath(source)
    if Path(source) == embedder.BUNDLED:
        return BUNDLED
    return os.path.abspath(source) if os.path.exists(source) else source


def display_name(source: object) -> str:
    """The name of a catalog's model in a message."""
    return "the bundled model" if source == BUNDLED else cut(re.sub(r"(@[0-9a-f]{7})[0-9a-f]{33}$", r"\1", str(source)))


def check_fits(index_dir: Path, facts: Mapping[str, Any], model: Embedder) -> None:
    """Raises IndexModelError where the index was made with another model. Raises IndexDamagedError where it claims this
    model and another dimension: any use of its vectors would take the time and memory that the claim implies."""
    if facts["fingerprint"] != model.fingerprint:
        raise _other_model(index_dir, facts, source_of(model))
    if facts["dim"] != model.dim:
        claimed = f"{index_dir} claims vectors of {facts['dim']} numbers"
        raise IndexDamagedError(f"{claimed}; those of its model have {model.dim}.")


def check_fingerprint(store: str, facts: Mapping[str, Any], model: Embedder) -> None:
    """Raises IndexModelError where a store has vectors of another model."""
    if (facts["fingerprint"], facts["dim"]) != (model.fingerprint, model.dim):
        raise IndexModelError(
            f"{store} holds vectors of {display_name(facts['model'])}; {display_name(source_of(model))} is another "
            "model or another state of it, and their vectors cannot be compared.",
            remedy=["Name the model that made them with ", Setting("model"), "."],
        )


def check_same_model(store: str, facts: Mapping[str, Any], others: Mapping[str, Any]) -> None:
    """Raises IndexModelError where a store with `facts` is to get items whose vectors are of another model."""
    if (facts["fingerprint"], facts["dim"]) != (
        others.get("fingerprint", facts["fingerprint"]),
        others.get("dim", facts["dim"]),
    ):
        raise IndexModelError(
            f"{store} holds vectors of {display_name(facts['model'])} ({facts['dim']} dimensions); those of "
            f"{display_name(others.get('model', 'another model'))} cannot be added."
        )


def check_bundled(index_dir: Path, facts: Mapping[str, Any]) -> None:
    """Raises IndexModelError where the index was made with a former bundled model. No engine is opened for this."""
    if facts["model"] == BUNDLED and facts["fingerprint"] != _bundled_fingerprint():
        raise _former_model(index_dir, facts)


def _bundled_fingerprint() -> str:
    from diptych.checkpoint.arrays import read_arrays
    from diptych.checkpoint.finding import find
    from diptych.checkpoint.fingerprint import fingerprint, legacy_config
    from diptych.checkpoint.state import Checkpoint, preprocessing_of

    read, arrays = read_arrays(find(None))  # type: ignore[misc]
    spec = preprocessing_of(Checkpoint(read.config, arrays, read.preprocess, read.tokenizer_json, BUNDLED))
    config = legacy_config(read.config, read.text_preprocessing)
    return fingerprint(config, spec, read.tokenizer_json, arrays.first_row)


def _former_model(index_dir: Path, facts: Mapping[str, Any]) -> IndexModelError:
    """The error for an index of a former bundled model. Each update has noted its version."""
    made = facts.get("version", "an earlier version")
    whose = f"the bundled model of {made}" if made != __version__ else "a former bundled model"
    remedy: MessageParts = [_REINDEX, " embeds everything again, and keeps the index as it is until then."]
    if not os.access(index_dir, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        elsewhere = Setting("index", "DIR", "diptych.open_index")
        remedy = ["It cannot be written; ", elsewhere, " makes a new one elsewhere."]
    return IndexModelError(
        f"{index_dir} was made with {whose}, which this Diptych, {__version__}, has replaced: their vectors cannot be "
        "compared.",
        remedy=remedy,
    )


def _other_model(index_dir: Path, facts: Mapping[str, Any], given: str) -> IndexModelError:
    """The error for an index and a model that do not fit."""
    if facts["model"] == given == BUNDLED:
        return _former_model(index_dir, facts)
    return IndexModelError(
        f"{index_dir} holds vectors of {display_name(facts['model'])}; {display_name(given)} is another model or "
        "another state of it, and their vectors cannot be compared.",
        remedy=[
            "Leave out ",
            Setting("model"),
            " to use the index's own; ",
            _REINDEX,
            " with it embeds everything again.",
        ],
    )
