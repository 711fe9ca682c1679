"""The indexes that a command searches: folders, which are updated first, and stores on servers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from diptych.cli.auto_update import FailureReport, update_if_needed
from diptych.cli.options import open_model
from diptych.cli.trusting import opened, report_links_not_remembered
from diptych.index.stores.uri import is_store_uri

if TYPE_CHECKING:
    from diptych.index.local import LocalIndex
    from diptych.index.remote import StoreIndex


class FolderTarget(NamedTuple):
    """An index, and its folder as the user typed it."""

    index: LocalIndex
    folder: str

    def typed(self, path: Path) -> Path | None:
        """A file's path below the folder as the user typed it; None if the file is elsewhere."""
        below = self.index.folder
        return Path(self.folder) / path.relative_to(below) if path.is_relative_to(below) else None


class StoreTarget(NamedTuple):
    """An index on a server, and its address without a password."""

    index: StoreIndex
    folder: str

    def typed(self, path: Path) -> Path | None:
        """None: the user typed no folder."""
        return None


SearchTarget = FolderTarget | StoreTarget


def updated(target: SearchTarget, update: bool | None) -> FailureReport:
    """The failures of `update_if_needed`; a store is searched as it is. Raises UsageError where an update of a store
    was asked for."""
    if isinstance(target, FolderTarget):
        return update_if_needed(*target, update)
    if update:
        raise click.UsageError(f"--update is for folders; `diptych index copy FOLDER ADDRESS` updates {target.folder}.")
    return FailureReport({}, 0)


@contextmanager
def open_targets(folders: Sequence[str], options: Mapping[str, Any]) -> Iterator[list[SearchTarget]]:
    """The indexes at these folders and addresses, all of one model: a missing index of a folder will be made with the
    model of the others."""
    from diptych.index.search.search import check_one_model

    opener = cache(partial(open_model, **{name: options[name] for name in ("device", "activation", "engine")}))
    with ExitStack() as stack:
        targets: list[SearchTarget] = []
        for folder in folders:
            if is_store_uri(folder):
                targets.append(_store_target(stack, folder, options, opener))
            elif target := _folder_target(stack, folder, targets, options, opener):
                targets.append(target)
        existing = [target.index for target in targets if target.index.exists]
        if existing and len(targets) > 1:
            check_one_model(existing)
            for position, (index, folder) in enumerate(targets):
                if not index.exists and not is_store_uri(folder):
                    index = opened(folder, model=existing[0].model_for_reindex, follow_links=options["follow_links"])
                    targets[position] = FolderTarget(stack.enter_context(index), folder)
        yield targets


def _store_target(stack: ExitStack, uri: str, options: Mapping[str, Any], opener: Any) -> StoreTarget:
    from diptych.index.remote import StoreIndex

    index = StoreIndex.at(uri, model=options["model"], open_model=opener, trust=options["trust"])
    return StoreTarget(stack.enter_context(index), index.store.name)


def _folder_target(
    stack: ExitStack, folder: str, others: Sequence[SearchTarget], options: Mapping[str, Any], opener: Any
) -> FolderTarget | None:
    """None where one of the others covers the folder."""
    index = opened(
        folder, model=options["model"], index=options["index_dir"], follow_links=options["follow_links"],
        open_model=opener, trust=options["trust"],
    )  # fmt: skip
    report_links_not_remembered(index, options["follow_links"])
    before = [other.index for other in others if isinstance(other, FolderTarget)]
    if any(index.folder.is_relative_to(other.folder) and index.root == other.root for other in before):
        return None
    return FolderTarget(stack.enter_context(index), folder)
