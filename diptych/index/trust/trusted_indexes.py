"""The indexes that this user made or accepted: a secret key, and a record of each, in the user's configuration.

The key signs the facts of an index folder (see `diptych.index.trust.trust`), so no folder from elsewhere can carry a
valid checksum. The key is made when an index is first opened and records that time: an older index may be one that this
user made with a version that signed nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import time
from contextlib import suppress
from typing import Any, Literal, NamedTuple

from diptych.storage.user import configuration

TrustOrigin = Literal["made", "accepted", "earlier"]  # the last: made by a version that signed nothing
_KEY, _RECORDS = "key.json", "indexes"
_ID = re.compile(r"[0-9a-f]{32}")
_SECRET_BYTES = 32
TROUBLE = (OSError, RuntimeError)  # the second: the user has no home


class SigningKey(NamedTuple):
    """The secret, when it was made, and whether this user had used an earlier version by then."""

    secret: bytes
    since_ns: int
    used_before: bool

    def checksum(self, *values: Any) -> str:
        """The HMAC of these values."""
        return hmac.new(self.secret, json.dumps(values).encode(), hashlib.sha256).hexdigest()

    def signed(self, checksum: object, *values: Any) -> bool:
        """Whether this is their checksum."""
        if not (isinstance(checksum, str) and checksum.isascii()):
            return False
        return hmac.compare_digest(checksum, self.checksum(*values))


class TrustRecord(NamedTuple):
    """An index folder that this user made or accepted: its random `id`, its path, and when and how it was recorded.
    `facts` are set for a folder that is not writable, whose id is derived from its path."""

    id: str
    path: str
    at: str
    how: TrustOrigin
    facts: dict[str, Any] | None = None


def key() -> SigningKey:
    """The user's key, made at the first call. Raises OSError and RuntimeError if it can be neither read nor kept,
    ValueError if the stored key is not valid."""
    content = configuration.read(_KEY)
    if content is None:
        new = {"secret": os.urandom(_SECRET_BYTES).hex(), "since_ns": time.time_ns(), "used_before": _used_before()}
        content = configuration.create(_KEY, json.dumps(new).encode())
    try:
        fields = json.loads(content)
        secret = bytes.fromhex(fields["secret"])
        found = SigningKey(secret, int(fields["since_ns"]), fields["used_before"] is True)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{configuration.folder() / _KEY} is not a valid key") from error
    if len(secret) != _SECRET_BYTES:
        raise ValueError(f"{configuration.folder() / _KEY} is not a valid key of {_SECRET_BYTES} bytes")
    return found


def earlier_until_ns(kept: SigningKey) -> int:
    """The time before which an unsigned index may be one of this user's: the first use of this version, or its
    installation if that was earlier; 0 if the user had used no earlier version."""
    with suppress(OSError):
        return min(kept.since_ns, installed_ns()) if kept.used_before else 0
    return 0


def installed_ns() -> int:
    """When this version was installed: the time of a status change, which an archive cannot set."""
    return os.stat(__file__).st_ctime_ns


def _used_before() -> bool:
    """Whether earlier versions left a trace: each stored compiled models in the user's cache, in a folder older than
    this installation."""
    from diptych.storage.user import compiled_cache

    with suppress(*TROUBLE):
        home = compiled_cache.folder().parent
        there = [home, *home.glob("*"), *home.glob("*/*")]
        return min(path.stat().st_ctime_ns for path in there) < installed_ns() and len(there) > 1
    return False


def describe_error(error: Exception) -> str:
    """What is wrong with the user's configuration, with the path."""
    path, reason = getattr(error, "filename", None), getattr(error, "strerror", None)
    return f"{path}: {reason}" if path and reason else str(error)


def new_id() -> str:
    """A random id for an index."""
    return os.urandom(16).hex()


def id_of_path(path: str) -> str:
    """An id derived from an index's path."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:32]


def record(id: object) -> TrustRecord | None:
    """The record of the index with this id; None if there is none, or the id is not valid. Raises OSError,
    RuntimeError."""
    if not isinstance(id, str) or not _ID.fullmatch(id):
        return None
    content = configuration.read(f"{_RECORDS}/{id}.json")
    with suppress(ValueError, TypeError, KeyError, RecursionError):
        fields = json.loads(content or b"")
        facts = fields.get("facts")
        return TrustRecord(
            id, str(fields["path"]), str(fields["at"]), fields["how"], facts if isinstance(facts, dict) else None
        )
    return None


def note(one: TrustRecord) -> None:
    """Store a record. Raises OSError, RuntimeError."""
    fields = {name: value for name, value in one._asdict().items() if name != "id" and value is not None}
    configuration.write(f"{_RECORDS}/{one.id}.json", json.dumps(fields).encode())


def revoke(one: TrustRecord) -> None:
    """Delete a record, which makes its index untrusted. Raises OSError, RuntimeError."""
    configuration.remove(f"{_RECORDS}/{one.id}.json")


def records() -> list[TrustRecord]:
    """All records, by time. Raises OSError, RuntimeError."""
    ids = [name.removeprefix(f"{_RECORDS}/").removesuffix(".json") for name in configuration.names(_RECORDS)]
    return sorted(filter(None, map(record, ids)), key=lambda each: each.at)
