"""What someone asked to have removed, remembered so that no later run collects it again.

Only salted hashes are kept. A list of the addresses themselves would say of people that they asked, and where the
pictures are that they wanted gone, to everyone who gets a copy of the folder. Whoever can guess an address can still
test it, as a run does: domains are few enough to be guessed, addresses of single pictures are not. The salt keeps two
collections from being compared with each other, and the hashes from being looked up in a table made beforehand.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import unquote, urlsplit

from diptych.collect.addresses import PORTS
from diptych.collect.host_names import ascii_host
from diptych.errors import ArgumentError, DataError, JSONError
from diptych.storage.atomic import atomic_write_text
from diptych.storage.output_files import refuse_link
from diptych.untrusted.json import parse_json
from diptych.untrusted.regular_files import read_file

FORGOTTEN = "forgotten.json"
Kind = Literal["url", "domain", "sha256"]
_HASH_BYTES = 16
_SHA256 = re.compile(r"[0-9a-f]{64}")
_HOST = re.compile(r"[\w-]+(\.[\w-]+)*|[0-9a-f:.]*:[0-9a-f:.]*")  # an empty label would cover nothing

_IPV6 = re.compile(r"[0-9a-fA-F:.]*:[0-9a-fA-F.]*:[0-9a-fA-F:.]*")  # two colons: one is before a port


class _Memory(NamedTuple):
    """The hashes made with one salt."""

    salt: bytes
    hashes: set[str]


class Forgotten:
    """What a collection has to leave out. Lookups take microseconds and read nothing; `remember` writes at once.

    Addresses are compared without their scheme, fragment and default port, and with their escapes resolved; a domain
    covers those below it. A picture is known by the SHA-256 of the bytes that came.
    """

    def __init__(self, out: str | os.PathLike[str]):
        """What is remembered in a folder; nothing where it has no such file. Raises DataError for a damaged one: a run
        that went on would collect what it must not."""
        self.path = Path(out) / FORGOTTEN
        self._memories = list(_read(self.path)) or [_Memory(secrets.token_bytes(16), set())]

    def __len__(self) -> int:
        return sum(len(memory.hashes) for memory in self._memories)

    def covers(self, *, url: str = "", domain: str = "", sha256: str = "") -> bool:
        """Whether one of these was asked to be forgotten, or the domain of the `url`."""
        if not len(self):  # mostly, and this is asked for every address
            return False
        names = list(names_of(url, domain, sha256))
        return any(_hash(salt, name) in hashes for salt, hashes in self._memories if hashes for name in names)

    def remember(self, requests: Iterable[tuple[Kind, str]]) -> None:
        """Remember addresses, domains and digests, and write the file. Raises ArgumentError for what is none of them,
        before anything is written."""
        names = [name_of(kind, text) for kind, text in requests]
        memory = self._memories[0]
        memory.hashes.update(_hash(memory.salt, name) for name in names)
        self._write()

    def blinded(self, digest: bytes) -> str:
        """A digest of a picture in the form in which it may be kept."""
        return hashlib.blake2b(digest, digest_size=_HASH_BYTES, salt=self._memories[0].salt).hexdigest()

    def adopt(self, other: Forgotten) -> None:
        """Remember what another collection does, whose pairs come into this one."""
        mine = {memory.salt: memory.hashes for memory in self._memories}
        for memory in other._memories:
            if not memory.hashes <= mine.setdefault(memory.salt, set()):
                mine[memory.salt] |= memory.hashes
        if len(other):
            self._memories = [_Memory(salt, hashes) for salt, hashes in mine.items()]
            self._write()

    def _write(self) -> None:
        refuse_link(self.path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = [{"salt": memory.salt.hex(), "hashes": sorted(memory.hashes)} for memory in self._memories]
        atomic_write_text(self.path, json.dumps({"forgotten": content}, indent=1) + "\n")


def name_of(kind: Kind, text: str) -> str:
    """The form of a request in which it is compared. Raises ArgumentError for what is no address, domain or SHA-256."""
    text = text.strip()
    if kind == "sha256":
        if not _SHA256.fullmatch(text.lower()):
            raise ArgumentError(f"{text!r:.100} is no SHA-256; wanted 64 hexadecimal digits.", argument="hash")
        return f"sha256 {text.lower()}"
    host, rest = _split(text if "://" in text else f"//[{text}]" if _IPV6.fullmatch(text) else f"//{text}")
    if kind == "url" and host and "://" in text:
        return f"url {host}{rest}"
    if kind == "domain" and _HOST.fullmatch(host) and rest == "/" and "@" not in text:  # a mail address is no domain
        return f"domain {host}"
    wanted = "an address such as https://example.org/a.jpg" if kind == "url" else "a name such as example.org"
    raise ArgumentError(f"{text!r:.100} is no {kind}; wanted {wanted}.", argument=kind)


def names_of(url: str = "", domain: str = "", sha256: str = "") -> Iterator[str]:
    """The forms of requests that cover one of these."""
    if url:
        host, rest = _split(url)
        yield f"url {host}{rest}"
        yield from (f"domain {each}" for each in _domains(host))
    if domain:
        yield from (f"domain {each}" for each in _domains(_split(f"//{domain}")[0]))
    if sha256:
        yield f"sha256 {sha256.lower()}"


def _domains(host: str) -> Iterator[str]:
    """A host, and the domains above it; an IP address has none."""
    yield host
    if not re.fullmatch(r"[\d.]+|.*:.*", host):
        labels = host.split(".")
        yield from (".".join(labels[at:]) for at in range(1, len(labels)))


def _split(url: str) -> tuple[str, str]:
    """The host of an address, in lower case and IDNA's ASCII, and the rest: a port that is not the usual one, the path
    and the query. An address that cannot be read is all rest."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return "", url
    with contextlib.suppress(UnicodeError):  # a label that is too long, for example
        host = ascii_host(host)
    own_port = "" if port in (None, PORTS.get(parts.scheme.lower())) else f":{port}"
    query = f"?{unquote(parts.query)}" if parts.query else ""
    return host, f"{own_port}{unquote(parts.path) or '/'}{query}"


def _hash(salt: bytes, name: str) -> str:
    text = name.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=_HASH_BYTES, salt=salt).hexdigest()


def _read(path: Path) -> Iterator[_Memory]:
    if not path.exists():
        return
    try:
        for memory in parse_json(read_file(path))["forgotten"]:
            salt, hashes = bytes.fromhex(memory["salt"]), {str(each) for each in memory["hashes"]}
            hashlib.blake2b(salt=salt)
            yield _Memory(salt, hashes)
    except (OSError, JSONError, ValueError, TypeError, LookupError) as error:
        raise DataError(
            f"{path} is damaged ({error}). It names what must not be collected again: restore it from a copy.",
            "damaged list",
        ) from error
