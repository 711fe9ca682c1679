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
_HOST = re.compile(r"(?:\[[^\[\]]*\]|[^\[\]:]*)(?::\d*)?")
_LOGIN = re.compile(r"(://[^\s:@/?#]*):\S*@")
_ENCODED = "In names and passwords @ : / ? # and % are written %40 %3A %2F %3F %23 and %25."
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
        """Raises ArgumentError for an address that is none of a store; the message shows no password, and nothing of an
        address in which it cannot be told where a password ends."""
        from urllib.parse import unquote

        found = _START.match(text)
        scheme = _SCHEMES.get(found[1].lower()) if found else None
        if scheme is None:
            raise ArgumentError(
                f"{without_passwords(text)[:100]} is not the address of a store; wanted postgresql:// or milvus://."
            )
        if not _is_clear(text[found.end() :] if found else ""):
            raise ArgumentError(
                f"in an address {scheme}://... the host or port is wrong, or it is not clear where a password ends; "
                "wanted postgresql://user:password@host:port/database#name or milvus://user:password@host:port/name.",
                remedy=_ENCODED,
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
        return _shown(self) + fragment

    __repr__ = __str__


def is_store_uri(text: object) -> bool:
    """Whether this is meant as the address of a store, rather than a folder; postgresql+driver:// is, which `parse`
    refuses."""
    found = _START.match(text) if isinstance(text, str) else None
    return bool(found) and found[1].lower().partition("+")[0] in _SCHEMES


def hidden(text: str, secrets: frozenset[str]) -> str:
    """A text, such as a server's message, in which stars stand for these secrets."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def without_passwords(text: str) -> str:
    """A text, such as a message about a command line, with stars for the passwords of the addresses in it."""
    return _LOGIN.sub(rf"\1:{HIDDEN}@", text)


def _is_clear(rest: str) -> bool:
    """Whether what follows :// has one meaning: clients disagree where a password with one of @ / ? # ends, and would
    take its end for a host or a port, which messages show."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    after, _, fragment = rest[len(authority) :].partition("#")
    path, _, query = after.partition("?")
    keys = "".join(part.partition("=")[0] for part in query.split("&"))
    if authority.count("@") > 1 or "@" in path + keys + fragment:
        return False
    return all(_HOST.fullmatch(host) for host in authority.rpartition("@")[2].split(","))


def _shown(uri: StoreURI) -> str:
    """The address with stars for its secrets; a user or database of the same name stays."""
    start, _, query = uri.address.partition("?")
    scheme, _, rest = start.partition("://")
    login, at, rest = rest.rpartition("@")
    user, colon, password = login.partition(":")
    if login in uri.secrets:  # a token alone
        user = HIDDEN
    shown = f"{scheme}://{user}{colon}{HIDDEN if password else ''}{at}{rest}"
    return f"{shown}?{hidden(query, uri.secrets)}" if query else shown


def _secrets_in(address: str) -> frozenset[str]:
    """Passwords and tokens, as written and as they are meant."""
    from urllib.parse import unquote

    scheme, _, rest = address.partition("://")
    userinfo, at, _ = rest.partition("?")[0].rpartition("@")
    user, colon, password = userinfo.partition(":")
    # a user without a password is a token of Milvus
    written = {password if colon or scheme != "milvus" else user} if at else set[str]()
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
