"""Milvus Lite, a Milvus for one folder whose name ends in .db, run inside this process.

It has no passwords, so it listens at a socket in a folder that only this user can enter, never at a port. Stores of one
process share it, and the last that is closed ends it. It is written in Python and promises nothing about threads that
write, so its callers take turns.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from diptych.errors import IndexBusyError, StoreError
from diptych.extras import require

_LONGEST_SOCKET = 90  # characters: Linux takes 107, macOS 103
_MOST_KEPT = 256
_FOLDER = "collections"  # in every folder of Milvus Lite

_servers: dict[str, LiteServer] = {}
_guard = threading.Lock()


class LiteServer:
    """Milvus Lite on one folder. `turn` is held during each call. `kept` are results that hold until `forget`: nobody
    else can change the folder. `on_stop` closes its clients, which would print that it ends."""

    def __init__(self, file: str):
        self.file, self.users = file, 0
        self.on_stop: dict[int, Callable[[], None]] = {}
        self.turn = threading.RLock()
        self._kept: OrderedDict[object, Any] = OrderedDict()
        self._folder = _socket_folder()
        try:
            self._server, self._db = _started(file, self._folder)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    @property
    def uri(self) -> str:
        """For pymilvus."""
        return f"unix:{self._folder}/milvus:0"

    def kept(self, key: object) -> Any:
        """A result that is known; None if there is none."""
        return self._kept.get(key)

    def keep(self, key: object, result: Any) -> None:
        """Remember a result."""
        self._kept[key] = result
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)

    def forget(self) -> None:
        """Something has changed."""
        self._kept.clear()

    def stop(self) -> None:
        """End it, and let other processes have the folder."""
        with self.turn:
            for close in list(self.on_stop.values()):
                close()
            try:
                self._server.stop(grace=None).wait(5)
            finally:
                self._db.close()
                shutil.rmtree(self._folder, ignore_errors=True)


def acquire(file: str, *, make: bool) -> LiteServer | None:
    """The server of a folder, started if need be; None if there is no such folder, unless it is to be made. Raises
    IndexBusyError if another process has it, StoreError if it is something else."""
    with _guard:
        server = _servers.get(file)
        if server is None:
            if not _check(file) and not make:
                return None
            server = _servers[file] = LiteServer(file)
        server.users += 1
        return server


def release(server: LiteServer) -> None:
    """One user less; the last one ends it."""
    with _guard:
        server.users -= 1
        if server.users > 0:
            return
        _servers.pop(server.file, None)
    server.stop()


@atexit.register
def _stop_all() -> None:
    for server in list(_servers.values()):
        server.stop()
    _servers.clear()


def _check(file: str) -> bool:
    """Whether there is a folder of Milvus Lite; Milvus Lite itself would write into any folder."""
    if os.path.isdir(file):
        if os.listdir(file) and not os.path.isdir(os.path.join(file, _FOLDER)):
            raise StoreError(f"{file} is a folder of something else than Milvus Lite; wanted a name that is free.")
        return True
    if os.path.lexists(file):
        raise StoreError(
            f"{file} is no folder of Milvus Lite 3; former versions wrote single files, which it cannot read. Move it, "
            "or name another."
        )
    return False


def _started(file: str, folder: str) -> tuple[Any, Any]:
    require("milvus:///folder/file.db", "pymilvus", "milvus_lite")
    # tracebacks of what is raised here anyway, and of what pymilvus asks for and Milvus Lite lacks
    for name in ("milvus_lite", "grpc._server"):
        if not logging.getLogger(name).hasHandlers():
            logging.getLogger(name).addHandler(logging.NullHandler())
    from milvus_lite.adapter.grpc.server import start_server_in_thread
    from milvus_lite.exceptions import DataDirLockedError, MilvusLiteError

    if not os.path.isdir(os.path.dirname(file)):
        raise StoreError(f"{file} cannot be made: its folder does not exist.")
    try:
        server, db, _ = start_server_in_thread(file, host=f"unix:{folder}/milvus", port=0)
    except DataDirLockedError:
        raise IndexBusyError(
            f"{file} is open in another process; Milvus Lite lets one at a time. Close that one, or use a server."
        ) from None
    except (MilvusLiteError, OSError, ValueError, RuntimeError) as error:
        raise StoreError(f"{file} cannot be opened: {error}") from None
    return server, db


def _socket_folder() -> str:
    for parent in (tempfile.gettempdir(), "/tmp"):
        folder = tempfile.mkdtemp(prefix="diptych-", dir=parent)  # for this user alone
        if len(folder) <= _LONGEST_SOCKET:
            return folder
        os.rmdir(folder)
    raise StoreError(f"The folder for temporary files, {tempfile.gettempdir()}, has too long a name for a socket.")
