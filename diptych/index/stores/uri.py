"""Addresses of stores on servers, and their passwords, which no message may show.

`postgresql://user@host/database#name` is an index in a PostgreSQL database (anything that libpq takes before the #; the
name is "diptych" without one). `milvus://host:19530/name` is a collection of a Milvus server or cluster, and
`milvus:///folder/file.db#name` one in a file of Milvus Lite.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from diptych.errors import ArgumentError

DEFAULT_NAME = "diptych"
MAX_NAME = 40  # characters: PostgreSQL cuts names at 63 bytes, and tables have endings
_SCHEMES = {"postgresql": "postgresql", "postgres": "postgresql", "milvus": "milvus"}
_START = re.compile(r"([a-z][a-z0-9+.-]*)://", re.I)
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_SECRET = re.compile(r"(?i)^(?:.*password|.*token|.*secret.*|passfile|sslkey)$")
HIDDEN = "***"


class StoreURI(NamedTuple):
    """The address of a store: its `scheme`, the `address` in full (with any password, without the fragment), the `name`
    of the index there, and the `secrets` in the address, as written and decoded. Its repr and str show no secret."""

    scheme: str
    address: str
    name: str
    secrets: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> StoreURI:
        """Raises ArgumentError for an address that is none of a store; the message shows no password."""
        from urllib.parse import unquote

        found = _START.match(text)
        scheme = _SCHEMES.get(found[1].lower()) if found else None
        if scheme is None:
            raise ArgumentError(
                f"{_without_userinfo(text)} is not the address of a store; wanted postgresql:// or milvus://."
            )
        address, _, fragment = text.partition("#")
        address = f"{scheme}://{address[found.end() :]}" if found else address
        secrets = _secrets_in(address)
        if scheme == "milvus" and not fragment:
            address, fragment = _milvus_name(address)
        name = unquote(fragment) or DEFAULT_NAME
        if not _NAME.fullmatch(name) or len(name) > MAX_NAME:
            raise ArgumentError(
                f"{name[:60]!r} cannot be the name of an index; wanted up to {MAX_NAME} small letters, digits and "
                "underscores, a letter first."
            )
        return cls(scheme, address, name, secrets)

    def __str__(self) -> str:
        fragment = "" if self.name == DEFAULT_NAME else f"#{self.name}"
        return hidden(self.address, self.secrets) + fragment

    __repr__ = __str__


def is_store_uri(text: object) -> bool:
    """Whether this is the address of a store, rather than a folder."""
    found = _START.match(text) if isinstance(text, str) else None
    return bool(found) and found[1].lower() in _SCHEMES


def hidden(text: str, secrets: frozenset[str]) -> str:
    """A text, such as a server's message, in which stars stand for these secrets."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def _secrets_in(address: str) -> frozenset[str]:
    """Passwords and tokens, as written and as they are meant."""
    from urllib.parse import unquote

    userinfo, at, _ = address.partition("://")[2].partition("?")[0].rpartition("@")
    written = {userinfo.partition(":")[2]} if at else set[str]()
    query = address.partition("?")[2]
    for part in query.split("&"):
        key, _, value = part.partition("=")
        if _SECRET.match(unquote(key)):
            written.add(value)
    return frozenset(one for value in written for one in (value, unquote(value)) if one)


def _milvus_name(address: str) -> tuple[str, str]:
    """milvus://host:19530/name without its name, and the name; a file has it in the fragment alone."""
    before, _, query = address.partition("?")
    start, _, path = before.partition("://")[2].partition("/")
    if not start or not path:
        return address, ""
    return f"milvus://{start}" + (f"?{query}" if query else ""), path.rstrip("/")


def _without_userinfo(text: str) -> str:
    return re.sub(r"//[^/@]*@", f"//{HIDDEN}@", text)[:100]
