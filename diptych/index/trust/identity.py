"""Reads, checks and writes `identity.json`: an index's facts, with a checksum by each of its users."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from diptych.index.trust import trusted_indexes
from diptych.index.trust.trusted_indexes import SigningKey, TrustRecord
from diptych.storage.directory import IndexDirectory
from diptych.untrusted.json import parse_json

NAME = "identity.json"
LIMIT = 65_536  # bytes read
_MAX_BYTES = 32_768  # bytes written; other users' entries are dropped for it
_MAX_ENTRIES = 32


class Facts(NamedTuple):
    """The facts of a catalog that have effects: the name of its model, that model's fingerprint and dimension, the
    folder of its pictures (used if the index is kept apart from it), and whether links out of that folder are
    followed."""

    model: str
    fingerprint: str
    dim: int
    root: str | None = None
    follow_links: bool = False

    @classmethod
    def of(cls, claimed: Mapping[str, Any]) -> Facts | None:
        """The facts of a catalog or an entry; None if they are not valid."""
        model, fingerprint, dim, root, follow_links = (claimed.get(name) for name in cls._fields)
        if not (isinstance(model, str) and isinstance(fingerprint, str) and type(dim) is int):
            return None
        return cls(model, fingerprint, dim, root if isinstance(root, str) else None, follow_links in (True, "yes"))

    def matches(self, claimed: Mapping[str, Any], *, is_apart: bool) -> bool:
        """Whether a catalog has the same facts; a catalog that was never filled has no root yet."""
        is_same = (self.model, self.fingerprint, self.dim) == tuple(claimed.get(name) for name in self._fields[:3])
        is_same = is_same and (self.follow_links or claimed.get("follow_links") != "yes")
        return is_same and (not is_apart or claimed.get("root") in (None, self.root))


class Identity(NamedTuple):
    """The `record` of an index, None if it is untrusted, and the `facts` that were signed, the latest last: two while a
    catalog is being replaced. `others` are entries of other users. `is_there` says whether there is an identity file,
    `trouble` why the user's configuration cannot be used."""

    record: TrustRecord | None = None
    facts: tuple[Facts, ...] = ()
    others: tuple[Any, ...] = ()
    is_there: bool = False
    trouble: Exception | None = None

    def matches(self, claimed: Mapping[str, Any], *, is_apart: bool) -> bool:
        """Whether it is the identity of a catalog with these facts."""
        return self.record is not None and any(facts.matches(claimed, is_apart=is_apart) for facts in self.facts)


def read(directory: IndexDirectory) -> Identity:
    """Read the identity and the user's configuration."""
    is_there, entries = _entries(directory)
    try:
        found = _own(entries, trusted_indexes.key())
        if found.record is None and (by_path := _by_path(directory)):
            found = by_path
    except (*trusted_indexes.TROUBLE, ValueError) as error:
        found = Identity(trouble=error)
    return found._replace(is_there=is_there)


def write(
    directory: IndexDirectory, key: SigningKey, record: TrustRecord, facts: tuple[Facts, ...], others: tuple[Any, ...]
) -> None:
    """Sign these facts, replacing those that this user signed before. Raises OSError and SearchIndexError if the index
    is not writable."""
    own = [each._asdict() | {"id": record.id, "checksum": key.checksum(record.id, *each)} for each in facts]
    content = _json([*others[: _MAX_ENTRIES - len(own)], *own])
    directory.write(NAME, content if len(content) <= _MAX_BYTES else _json(own))


def _entries(directory: IndexDirectory) -> tuple[bool, list[Any]]:
    try:
        return True, list(parse_json(directory.read(NAME, LIMIT))["entries"])[:_MAX_ENTRIES]
    except (FileNotFoundError, NotADirectoryError):
        return False, []
    except (OSError, ValueError, TypeError, KeyError):  # ValueError: not JSON, a link, or too large
        return True, []


def _own(entries: list[Any], key: SigningKey) -> Identity:
    found = Identity()
    for entry in entries:
        claimed = entry if isinstance(entry, dict) else {}
        facts, record = Facts.of(claimed), trusted_indexes.record(claimed.get("id"))
        if record is None:
            found = found._replace(others=(*found.others, entry))
        elif facts and key.signed(claimed.get("checksum"), record.id, *facts):
            found = found._replace(record=record, facts=(*found.facts, facts))
    return found


def _by_path(directory: IndexDirectory) -> Identity | None:
    """The identity of an index that was not writable when it was accepted."""
    record = trusted_indexes.record(trusted_indexes.id_of_path(str(directory)))
    facts = Facts.of(record.facts or {}) if record else None
    return Identity(record, (facts,)) if facts else None


def _json(entries: list[Any]) -> bytes:
    return json.dumps({"entries": entries}).encode()
