"""Where a Milvus is: a file of Milvus Lite, or a server with a name, a password and a database."""

from __future__ import annotations

import os
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from diptych.errors import ArgumentError
from diptych.index.stores.uri import StoreURI

DEFAULT_PORT = 19530
_FILE_ENDING = ".db"
_SETTINGS = {"token", "user", "password", "database", "secure"}


class MilvusAddress(NamedTuple):
    """The `file` of Milvus Lite, "" for a server; the server's `host` and `port`, the `token` that it wants (user and
    password are one, "user:password"), its `database`, and whether the connection is encrypted. Its repr shows no
    token."""

    file: str
    host: str = ""
    port: int = 0
    token: str = ""
    database: str = ""
    secure: bool = False

    @classmethod
    def of(cls, uri: StoreURI) -> MilvusAddress:
        """Raises ArgumentError for an address that names no Milvus."""
        try:
            parts = urlsplit(uri.address)
            port = parts.port or DEFAULT_PORT
        except ValueError:
            raise ArgumentError(f"{uri} has no valid port; wanted milvus://host:19530/name.") from None
        settings = dict(parse_qsl(parts.query, keep_blank_values=True))
        if unknown := sorted(settings.keys() - _SETTINGS):
            raise ArgumentError(f"{uri} sets {unknown[0]!r}; wanted one of {', '.join(sorted(_SETTINGS))}.")
        if not parts.netloc:
            return cls(_file(uri, unquote(parts.path)))
        if parts.path.strip("/") or not parts.hostname:
            raise ArgumentError(
                f"{uri} is not the address of a collection; wanted milvus://host:19530/name or "
                "milvus:///folder/file.db#name."
            )
        user = unquote(parts.username or settings.get("user", ""))
        password = unquote(parts.password) if parts.password else settings.get("password", "")
        token = settings.get("token") or (f"{user}:{password}" if user and password else user)
        secure = settings.get("secure", "") in ("true", "1", "yes")
        return cls("", parts.hostname, port, token, settings.get("database", ""), secure)

    def __repr__(self) -> str:
        return self.file or f"{self.host}:{self.port}"

    __str__ = __repr__


def _file(uri: StoreURI, path: str) -> str:
    if not path.endswith(_FILE_ENDING) or path.endswith("/" + _FILE_ENDING):
        raise ArgumentError(f"{uri} names no file of Milvus Lite; wanted a path that ends in {_FILE_ENDING}.")
    return os.path.abspath(path)
