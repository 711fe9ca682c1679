"""What can be said of an index that came from elsewhere: whose it is, since when it is here, what it asks for."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from diptych.display.escaping import harmless
from diptych.errors import Setting, Words
from diptych.index.trust.own_indexes import told
from diptych.storage.directory import IndexDirectory
from diptych.storage.faults import IndexFault, IndexUntrustedError

_CATALOG = "catalog.sqlite"
_LONGEST = 200  # letters of what it says of itself


def is_here_before(directory: IndexDirectory, until_ns: int) -> bool:
    """Whether the index is the user's own and its catalog's status has not changed since this time, which no archive
    and no download can set back."""
    if not hasattr(os, "geteuid"):
        return False
    with suppress(OSError, IndexFault):
        catalog = directory.plain(_CATALOG)
        if catalog is not None and catalog.st_ctime_ns < until_ns:
            return os.geteuid() == catalog.st_uid == directory.owner
    return False


def untrusted(
    directory: IndexDirectory,
    said: Mapping[str, Any],
    *,
    altered: bool = False,
    trouble: Exception | None = None,
    root: bool = False,
) -> IndexUntrustedError:
    """What to say of an index that was not made here, whose facts are `said`, and which asks for a model, or with
    `root` for the folder that it says it is of."""
    asks = f"the pictures in {shown(said.get('root'))}" if root else f"the model {shown(said.get('model'))}"
    why = "has changed since it was made or accepted here" if altered else "was neither made nor accepted here"
    unknown = f" (your configuration cannot be read: {told(trouble)})" if trouble else ""
    return IndexUntrustedError(
        f"the index in {directory} {why}{unknown}, and asks for {asks} ({_origin(directory, said)}).",
        remedy=_remedy(root),
    )


def _remedy(root: bool) -> Words:
    accepts = [Setting("trust", True), " accepts it as it is, for good"]
    if root:
        return [*accepts, "."]
    return [
        *accepts, "; ", Setting("model", "MODEL", "diptych.open_index"), " opens it with your own copy of that model; ",
        Setting("reindex", True, "index.update"), " with a model named, such as bundled, reads the pictures anew.",
    ]  # fmt: skip


def _origin(directory: IndexDirectory, said: Mapping[str, Any]) -> str:
    words = []
    if catalog := directory.status(_CATALOG):
        words.append(f"dated {(dated := _day(catalog.st_mtime))}")
        here = _day(catalog.st_ctime)
        if hasattr(os, "geteuid") and here != dated:  # elsewhere it is no time of a change
            words.append(f"here, or changed, since {here}")
        words += _owner(catalog.st_uid)
    return ", ".join([*words, f"made by diptych {shown(said.get('version'))} as it says"])


def _owner(uid: int) -> list[str]:
    """Whose it is, where that is somebody else."""
    if not hasattr(os, "geteuid") or uid == os.geteuid():
        return []
    with suppress(ImportError, KeyError):
        import pwd

        return [f"belonging to {pwd.getpwuid(uid).pw_name}"]
    return [f"belonging to user {uid}"]


def _day(seconds: float) -> str:
    with suppress(OverflowError, ValueError, OSError):
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
    return "no day of ours"


def shown(value: object) -> str:
    """What a stranger's file says, in quotes, with escapes for what is not seen."""
    return cut(harmless(repr(value))) if value is not None else "nothing"


def cut(text: str) -> str:
    """A text, or its beginning."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
