"""A Milvus server for the tests that need one, of a version that PyPI has as a wheel: started once, asked for a
password, stopped for certain. It listens at all addresses of the machine, whatever it is told."""

import atexit
import ctypes
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest

_PR_SET_PDEATHSIG = 1
_START_S = 90
PASSWORD = "Milvus"  # of its user root, as it comes
_numbers = count(1)

# The wheel starts and stops the server. Its process ends with this one, and the server with it.
_KEEPER = """
import json, os, pathlib, signal, socket, sys, time, urllib.request
from milvus import MilvusServer, MilvusServerConfig

def is_healthy():
    try:
        return b"OK" in urllib.request.urlopen(f"http://127.0.0.1:{server.webservice_port}/healthz", timeout=5).read()
    except OSError:
        return False

settings = MilvusServerConfig(data_dir=sys.argv[1])
settings.set("authorization_enabled", True)
# The etcd inside would take the ports 2379 and 2380, so that only one server could run
ports = []
for _ in range(2):
    free = socket.create_server(("127.0.0.1", 0))
    ports.append((free, f"http://127.0.0.1:{free.getsockname()[1]}"))
(_, clients), (_, peers) = ports
file = pathlib.Path(sys.argv[1], "etcd.yaml")
file.write_text(json.dumps({
    "name": "default", "listen-client-urls": clients, "advertise-client-urls": clients, "listen-peer-urls": peers,
    "initial-advertise-peer-urls": peers, "initial-cluster": f"default={peers}",
}))
for free, _ in ports:
    free.close()
os.environ["ETCD_CONFIG_PATH"] = str(file)
# Milliseconds between its looks at what there is to do, by which reads and each new collection wait: 200 to 1000
for name in ("PROXY_TIMETICKINTERVAL", "QUERYCOORD_CHECKINTERVAL", "QUERYCOORD_CHECKSEGMENTINTERVAL",
             "QUERYCOORD_CHECKCHANNELINTERVAL", "QUERYCOORD_DISTPULLINTERVAL"):
    os.environ[name] = "50"
server = MilvusServer(settings, wait_for_started=False)
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
try:
    server.start()
    end = time.monotonic() + float(sys.argv[2])
    while not is_healthy() and server.server_proc.poll() is None and time.monotonic() < end:
        time.sleep(0.1)
    if is_healthy():
        print(json.dumps({"port": server.listen_port, "pid": server.server_proc.pid}), flush=True)
        server.server_proc.wait()
        sys.stdin.read()
finally:
    server.stop()
"""


class Server(NamedTuple):
    """A running server: the process that keeps it, its own id, its folder and its port on 127.0.0.1."""

    keeper: subprocess.Popen[str]
    pid: int
    folder: Path
    port: int

    def uri(self, *, password: str = PASSWORD, name: str = "") -> str:
        """The address of an index, by default of one that nobody has made yet."""
        return f"milvus://root:{password}@127.0.0.1:{self.port}/{name or f'test_{os.getpid()}_{next(_numbers)}'}"

    def stop(self) -> None:
        self.keeper.terminate()
        try:
            self.keeper.wait(30)
        except subprocess.TimeoutExpired:
            os.kill(self.pid, signal.SIGKILL)
            self.keeper.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def _end_with_this_process() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def server() -> Server:
    """The server of this process. Skips the test where its wheel is not installed or does not run."""
    for module in ("milvus", "pymilvus"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"the wheel of {module} is not installed; it has none for this system")
    return _shared() or pytest.skip("the Milvus server of the wheel does not start here; another may have its ports")


@lru_cache(1)
def _shared() -> Server | None:
    started = start()
    if started:
        atexit.register(started.stop)
    return started


def start() -> Server | None:
    """A server of its own, for a test that kills it; None if it does not start."""
    folder = Path(tempfile.mkdtemp(prefix="diptych-milvus-"))
    with open(folder / "keeper.log", "wb") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-c", _KEEPER, str(folder), str(_START_S)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=log, text=True, preexec_fn=_end_with_this_process,
        )  # fmt: skip
    said = keeper.stdout.readline() if keeper.stdout else ""
    if not said:
        keeper.kill()
        keeper.wait(10)
        shutil.rmtree(folder, ignore_errors=True)
        return None
    told = json.loads(said)
    return Server(keeper, told["pid"], folder, told["port"])
