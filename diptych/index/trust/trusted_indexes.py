"""The indexes that this user made or accepted, as the user's own configuration knows them: a secret key, and a record
of each.

The key signs what an index folder says of itself (see `diptych.index.trust.trust`); nothing in a folder that came from
elsewhere can carry such a checksum. It is made when an index is first opened, and notes that time: an index that was
here before may be one of this user's, made by a version that signed nothing.
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

from diptych.storage import configuration

How = Literal["made", "accepted", "earlier"]  # the last: accepted as of a version that signed nothing
_KEY, _RECORDS = "key.json", "indexes"
_ID = re.compile(r"[0-9a-f]{32}")
_SECRET_BYTES = 32
TROUBLE = (OSError, RuntimeError)  # the second is of users without a home


class Key(NamedTuple):
    """The secret, when it was made, and whether this user had used an earlier version by then."""

    secret: bytes
    since_ns: int
    used_before: bool

    def checksum(self, *said: Any) -> str:
        """What only this user can have written under these words."""
        return hmac.new(self.secret, json.dumps(said).encode(), hashlib.sha256).hexdigest()

    def signed(self, checksum: object, *said: Any) -> bool:
        """Whether that is their checksum."""
        if not (isinstance(checksum, str) and checksum.isascii()):
            return False
        return hmac.compare_digest(checksum, self.checksum(*said))


class Record(NamedTuple):
    """An index folder that this user made or accepted: its random `id`, where it was, when and how that was. `facts`
    are those that were accepted of a folder that could not be written to, whose id is made of its path."""

    id: str
    path: str
    at: str
    how: How
    facts: dict[str, Any] | None = None


def key() -> Key:
    """The user's key, made at the first call. Raises OSError and RuntimeError where there is none and none can be kept;
    ValueError where what is kept is no key."""
    content = configuration.read(_KEY)
    if content is None:
        new = {"secret": os.urandom(_SECRET_BYTES).hex(), "since_ns": time.time_ns(), "used_before": _used_before()}
        content = configuration.create(_KEY, json.dumps(new).encode())
    try:
        said = json.loads(content)
        secret = bytes.fromhex(said["secret"])
        found = Key(secret, int(said["since_ns"]), said["used_before"] is True)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{configuration.folder() / _KEY} is no key") from error
    if len(secret) != _SECRET_BYTES:
        raise ValueError(f"{configuration.folder() / _KEY} is no key of {_SECRET_BYTES} bytes")
    return found


def earlier_until_ns(kept: Key) -> int:
    """The time before which an index that signs nothing can be one of this user's: that of the first use of this
    version, or of its installation if that was before; 0 where this user had used none."""
    with suppress(OSError):
        return min(kept.since_ns, installed_ns()) if kept.used_before else 0
    return 0


def installed_ns() -> int:
    """When this version came here: the time of a change of status, which no archive sets."""
    return os.stat(__file__).st_ctime_ns


def _used_before() -> bool:
    """Whether there is a trace of earlier versions: each left what it had compiled in the user's cache, in a folder
    that is older than this installation then."""
    from diptych.storage import compiled_cache

    with suppress(*TROUBLE):
        home = compiled_cache.folder().parent
        there = [home, *home.glob("*"), *home.glob("*/*")]
        return min(path.stat().st_ctime_ns for path in there) < installed_ns() and len(there) > 1
    return False


def told(error: Exception) -> str:
    """What is wrong with the user's configuration, with where."""
    path, said = getattr(error, "filename", None), getattr(error, "strerror", None)
    return f"{path}: {said}" if path and said else str(error)


def new_id() -> str:
    """A random name for an index."""
    return os.urandom(16).hex()


def id_of_path(path: str) -> str:
    """A name for an index that can be told by its path alone."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:32]


def record(id: object) -> Record | None:
    """What is kept of the index of this id; None where nothing is, or that is no id. Raises OSError, RuntimeError."""
    if not isinstance(id, str) or not _ID.fullmatch(id):
        return None
    content = configuration.read(f"{_RECORDS}/{id}.json")
    with suppress(ValueError, TypeError, KeyError, RecursionError):
        said = json.loads(content or b"")
        facts = said.get("facts")
        return Record(id, str(said["path"]), str(said["at"]), said["how"], facts if isinstance(facts, dict) else None)
    return None


def note(one: Record) -> None:
    """Keep a record. Raises OSError, RuntimeError."""
    said = {name: value for name, value in one._asdict().items() if name != "id" and value is not None}
    configuration.write(f"{_RECORDS}/{one.id}.json", json.dumps(said).encode())


def forget(one: Record) -> None:
    """Drop a record: its index is a stranger's from now on. Raises OSError, RuntimeError."""
    configuration.remove(f"{_RECORDS}/{one.id}.json")


def records() -> list[Record]:
    """All that is kept, by time. Raises OSError, RuntimeError."""
    ids = [name.removeprefix(f"{_RECORDS}/").removesuffix(".json") for name in configuration.names(_RECORDS)]
    return sorted(filter(None, map(record, ids)), key=lambda each: each.at)
