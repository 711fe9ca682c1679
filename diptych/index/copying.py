"""Copies an index from a folder to a server, from there to a folder, or between two of either."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

from diptych.errors import ArgumentError, IndexUntrustedError, Setting
from diptych.index.local import LocalIndex, open_index
from diptych.index.model import BUNDLED, IndexModel, check_fingerprint, display_name, source_of
from diptych.index.stores.copying import CopyResult, copy_store
from diptych.index.stores.local import LocalStore
from diptych.index.stores.opening import TIMEOUT_S, open_store
from diptych.index.stores.uri import is_store_uri

if TYPE_CHECKING:
    from diptych.embedder import Embedder
    from diptych.index.stores.store import Progress, Store


def copy_index(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | Embedder | None = None,
    open_model: Callable[[str | None], Embedder] | None = None,
    trust: bool = False,
    timeout_s: float = TIMEOUT_S,
    progress: Progress = lambda done, total: None,
    on_build: Progress = lambda done, total: None,
) -> CopyResult:
    """Make the index `target` the same as the index `source`; each is a folder or the address of a store, such as
    postgresql://host/database#photos.

    The ids stay, and so do the vectors, bit by bit; items that are in the target already are not copied again, and
    those that the source has no more are removed. Both are compared at the end, by number and checksum. Pictures are
    not copied: the paths in the target are those below the source's folder.

    `model` is the model that made the vectors. It is needed where a folder is the target and the source names another
    model than the bundled one, unless the source is a folder's index that this user trusts (`trust` accepts it).
    `progress` and `on_build` are those of `diptych.index.stores.copying.copy_store`, which says what is raised.
    """
    if os.fspath(source) == os.fspath(target):
        raise ArgumentError("the source and the target are the same index.", argument="target")
    with ExitStack() as stack:
        one, own = _opened(stack, source, timeout_s, trust)
        other, _ = _opened(stack, target, timeout_s, False)
        name = _model_name(one, own, model, open_model) if isinstance(other, LocalStore) else None
        return copy_store(one, other, model=name, progress=progress, on_build=on_build)


def _opened(
    stack: ExitStack, index: str | os.PathLike[str], timeout_s: float, trust: bool
) -> tuple[Store, LocalIndex | None]:
    """The store of an index, and the index if it is a folder's."""
    if is_store_uri(index):
        return stack.enter_context(closing(open_store(os.fspath(index), timeout_s=timeout_s))), None
    opened = stack.enter_context(open_index(index, trust=trust))
    if opened.subfolder:
        raise ArgumentError(f"{index} is a part of the index of {opened.root}; wanted a whole index.")
    return opened.store, opened


def _model_name(
    source: Store, index: LocalIndex | None, model: Any, open_model: Callable[[str | None], Embedder] | None
) -> str | None:
    """The name of the model for an index that this user will have made, and so trust; None for that of the source."""
    facts = source.facts()
    if model is not None:
        opened = IndexModel(model, open_model).open_or(lambda: None)
        check_fingerprint(source.name, facts, opened)
        return source_of(opened)
    if facts["model"] == BUNDLED:
        return None
    if index is not None:
        index.check_trusted()
        return None
    raise IndexUntrustedError(
        f"{source.name} names {display_name(facts['model'])} as its model, and a server's word is not enough to make "
        "an index of it.",
        remedy=["Give the model that made the vectors with ", Setting("model"), "."],
    )
