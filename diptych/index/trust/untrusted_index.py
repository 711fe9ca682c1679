"""Describes an untrusted index to the user: its owner, its dates, and the model or root that it names."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from diptych.display.escaping import escape_control_characters
from diptych.errors import IndexUntrustedError, MessageParts, SearchIndexError, Setting
from diptych.index.trust.trusted_indexes import describe_error
from diptych.storage.directory import IndexDirectory

_CATALOG = "catalog.sqlite"
_LONGEST = 200  # characters of a quoted value


def predates(directory: IndexDirectory, until_ns: int) -> bool:
    """Whether the index is the user's own and its catalog's status has not changed since this time. Neither an archive
    nor a download can set the status time back."""
    if not hasattr(os, "geteuid"):
        return False
    with suppress(OSError, SearchIndexError):
        catalog = directory.plain(_CATALOG)
        if catalog is not None and catalog.st_ctime_ns < until_ns:
            return os.geteuid() == catalog.st_uid == directory.owner
    return False


def untrusted_error(
    directory: IndexDirectory,
    claimed: Mapping[str, Any],
    *,
    is_altered: bool = False,
    trouble: Exception | None = None,
    root: bool = False,
) -> IndexUntrustedError:
    """The error for an index that was not made here and has these facts. It names the model that the index asks for, or
    with `root` the folder of its pictures."""
    asks = f"the pictures in {shown(claimed.get('root'))}" if root else f"the model {shown(claimed.get('model'))}"
    why = "has changed since it was made or accepted here" if is_altered else "was neither made nor accepted here"
    unknown = f" (your configuration cannot be read: {describe_error(trouble)})" if trouble else ""
    return IndexUntrustedError(
        f"the index in {directory} {why}{unknown}, and asks for {asks} ({_origin(directory, claimed)}).",
        remedy=_remedy(root),
    )


def _remedy(root: bool) -> MessageParts:
    accepts = [Setting("trust", True), " accepts it as it is, permanently"]
    if root:
        return [*accepts, "."]
    return [
        *accepts, "; ", Setting("model", "MODEL", "diptych.open_index"), " opens it with your own copy of that model; ",
        Setting("reindex", True, "index.update"), " with a model named, such as bundled, embeds the pictures again.",
    ]  # fmt: skip


def _origin(directory: IndexDirectory, claimed: Mapping[str, Any]) -> str:
    words = []
    if catalog := directory.status(_CATALOG):
        words.append(f"dated {(dated := _day(catalog.st_mtime))}")
        here = _day(catalog.st_ctime)
        if hasattr(os, "geteuid") and here != dated:  # on Windows it is the time of creation
            words.append(f"here, or changed, since {here}")
        words += _owner(catalog.st_uid)
    return ", ".join([*words, f"made by diptych {shown(claimed.get('version'))} by its own account"])


def _owner(uid: int) -> list[str]:
    """The owner, if that is another user."""
    if not hasattr(os, "geteuid") or uid == os.geteuid():
        return []
    with suppress(ImportError, KeyError):
        import pwd

        return [f"belonging to {pwd.getpwuid(uid).pw_name}"]
    return [f"belonging to user {uid}"]


def _day(seconds: float) -> str:
    with suppress(OverflowError, ValueError, OSError):
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
    return "an unknown day"


def shown(value: object) -> str:
    """A value from an untrusted file, quoted, with control characters escaped."""
    return cut(escape_control_characters(repr(value))) if value is not None else "nothing"


def cut(text: str) -> str:
    """A text, truncated."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
