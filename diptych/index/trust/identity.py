"""What an index says of itself in `identity.json`, with a checksum by each of its users: read, checked and written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from diptych.index.trust import own_indexes
from diptych.index.trust.own_indexes import Key, Record
from diptych.storage.directory import IndexDirectory
from diptych.untrusted.json import parse_json

NAME = "identity.json"
LIMIT = 65_536  # bytes of it that are read
_MOST_BYTES = 32_768  # that are written: what others left gives way
_MOST = 32  # entries


class Facts(NamedTuple):
    """What of a catalog may be followed: the name of its model, with that model's fingerprint and the length of its
    vectors, the folder of its pictures, which counts where the index is kept apart from it, and whether links are
    followed that lead out of that folder."""

    model: str
    fingerprint: str
    dim: int
    root: str | None = None
    follow_links: bool = False

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Facts | None:
        """Those of a catalog, or an entry; None where they are no such."""
        model, fingerprint, dim, root, follow_links = (said.get(name) for name in cls._fields)
        if not (isinstance(model, str) and isinstance(fingerprint, str) and type(dim) is int):
            return None
        return cls(model, fingerprint, dim, root if isinstance(root, str) else None, follow_links in (True, "yes"))

    def cover(self, said: Mapping[str, Any], *, is_apart: bool) -> bool:
        """Whether a catalog says the same; one that was never filled says no root yet."""
        is_same = (self.model, self.fingerprint, self.dim) == tuple(said.get(name) for name in self._fields[:3])
        is_same = is_same and (self.follow_links or said.get("follow_links") != "yes")
        return is_same and (not is_apart or said.get("root") in (None, self.root))


class Identity(NamedTuple):
    """What this user knows an index by: the `record` of it, None of a stranger's, and the `facts` that were signed, the
    last ones last: two where one catalog is put in the place of another just now. `others` are entries of other users.
    `is_there` says whether the index has any identity, `trouble` why the user's configuration is of no use."""

    record: Record | None = None
    facts: tuple[Facts, ...] = ()
    others: tuple[Any, ...] = ()
    is_there: bool = False
    trouble: Exception | None = None

    def cover(self, said: Mapping[str, Any], *, is_apart: bool) -> bool:
        """Whether it is that of a catalog which says this."""
        return self.record is not None and any(facts.cover(said, is_apart=is_apart) for facts in self.facts)


def read(directory: IndexDirectory) -> Identity:
    """What the index and the user's configuration say together."""
    is_there, entries = _entries(directory)
    try:
        found = _own(entries, own_indexes.key())
        if found.record is None and (by_path := _by_path(directory)):
            found = by_path
    except (*own_indexes.TROUBLE, ValueError) as error:
        found = Identity(trouble=error)
    return found._replace(is_there=is_there)


def write(
    directory: IndexDirectory, key: Key, record: Record, facts: tuple[Facts, ...], others: tuple[Any, ...]
) -> None:
    """Sign these facts, in the place of what this user had signed. Raises OSError and IndexFault where nothing can be
    written."""
    own = [each._asdict() | {"id": record.id, "checksum": key.checksum(record.id, *each)} for each in facts]
    content = _json([*others[: _MOST - len(own)], *own])
    directory.write(NAME, content if len(content) <= _MOST_BYTES else _json(own))


def _entries(directory: IndexDirectory) -> tuple[bool, list[Any]]:
    try:
        return True, list(parse_json(directory.read(NAME, LIMIT))["entries"])[:_MOST]
    except (FileNotFoundError, NotADirectoryError):
        return False, []
    except (OSError, ValueError, TypeError, KeyError):  # ValueError: no JSON, a link, or too much
        return True, []


def _own(entries: list[Any], key: Key) -> Identity:
    found = Identity()
    for entry in entries:
        said = entry if isinstance(entry, dict) else {}
        facts, record = Facts.of(said), own_indexes.record(said.get("id"))
        if record is None:
            found = found._replace(others=(*found.others, entry))
        elif facts and key.signed(said.get("checksum"), record.id, *facts):
            found = found._replace(record=record, facts=(*found.facts, facts))
    return found


def _by_path(directory: IndexDirectory) -> Identity | None:
    """Of an index that could not be written to when it was accepted."""
    record = own_indexes.record(own_indexes.id_of_path(str(directory)))
    facts = Facts.of(record.facts or {}) if record else None
    return Identity(record, (facts,)) if facts else None


def _json(entries: list[Any]) -> bytes:
    return json.dumps({"entries": entries}).encode()
