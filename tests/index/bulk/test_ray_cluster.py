"""A cluster embeds shards: on two machines' worth of Ray, one of whose workers is killed, and without Ray its plan."""

import os
import shutil
import signal
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

import diptych
from diptych.errors import ClusterError, MissingExtraError
from diptych.index.bulk.ray_cluster import WorkerModel, Workers, embed_on_ray, planned
from diptych.index.folder import IndexFolder
from diptych.index.stores.local import LocalStore
from diptych.scenes.scene import write_shards
from tests.conftest import write_tar

SHARDS, PAIRS = 5, 8


def nodes(*resources: dict[str, float]) -> list[dict[str, Any]]:
    return [{"Alive": True, "Resources": one} for one in resources]


@pytest.mark.parametrize(
    ("cluster", "asked", "expected"),
    [
        (nodes({"CPU": 32}), Workers(), Workers(4, 8, 0.0)),
        (nodes({"CPU": 2}, {"CPU": 3}), Workers(), Workers(2, 2, 0.0)),
        (nodes({"CPU": 16, "GPU": 4}, {"CPU": 64}), Workers(), Workers(4, 4, 1.0)),
        (nodes({"CPU": 16, "GPU": 4}), Workers(gpus=0.5), Workers(8, 2, 0.5)),
        (nodes({"CPU": 16, "GPU": 4}), Workers(cpus=4), Workers(4, 4, 0.0)),
        (nodes({"CPU": 16}), Workers(number=3, cpus=2), Workers(3, 2, 0.0)),
        ([*nodes({"CPU": 4}), {"Alive": False, "Resources": {"CPU": 64}}], Workers(), Workers(1, 4, 0.0)),
    ],
)
def test_there_is_a_worker_for_each_device_or_group_of_cores(cluster: Any, asked: Workers, expected: Workers) -> None:
    assert planned(cluster, asked) == expected


def test_a_cluster_without_room_is_an_error() -> None:
    with pytest.raises(ClusterError, match="has 8 cores and 0 GPUs free; they have 2, 4 cores"):
        planned(nodes({"CPU": 2}, {"CPU": 4}), Workers(cpus=8))


def test_ray_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.extras.is_importable", lambda name: name != "ray")
    with pytest.raises(MissingExtraError, match=r"pip install 'diptych\[ray\]'"):
        embed_on_ray(WorkerModel({}, ""))


class _Server(ThreadingHTTPServer):
    """Serves the files of a folder, and keeps one of them back at half until it is released."""

    daemon_threads = True

    def __init__(self, folder: Path, held: str):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.held = folder, held
        self.asked = Counter[str]()
        self.client_port = 0
        self.is_held, self.released = threading.Event(), threading.Event()


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        self.server.asked[name] += 1
        content = (self.server.folder / name).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = len(content) // 2
        self.wfile.write(content[:half])
        if name == self.server.held and self.server.asked[name] == 1:
            self.server.client_port = self.client_address[1]
            self.server.is_held.set()
            self.server.released.wait()
        self.wfile.write(content[half:])

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[_Server]:
    folder = tmp_path / "served"
    write_shards(folder, SHARDS * PAIRS, size_px=32, shard_size=PAIRS)
    for number, path in enumerate(sorted(folder.glob("*.tar"))):
        path.rename(folder / f"{number}.tar")
    write_tar(folder / "5.tar", {"bad.jpg": b"no picture"})
    with _Server(folder, "2.tar") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="no wheel of Ray for this Python or system")


@pytest.fixture(autouse=True, scope="module")
def ray_settings() -> Iterator[None]:
    """Those that Ray reads when it is imported."""
    with pytest.MonkeyPatch.context() as patch:
        settings = {"ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "USAGE_STATS_ENABLED": "0", "worker_niceness": "0"}
        for name, value in (settings | {"local_fs_capacity_threshold": "0.99"}).items():
            patch.setenv(f"RAY_{name}", value)
        yield


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of two raylets with a core each, on the loopback address alone."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # a socket's path has at most 107 characters
    monkeypatch.setenv("RAY_TMPDIR", folder)
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100 << 20, "node_ip_address": "127.0.0.1"}
    made = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        made.add_node(**node)
        made.wait_for_nodes()
        yield made.address
    finally:
        made.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def kill_client(port: int) -> None:
    """Kill the process that connects from this port: a worker, among the descendants of the raylets."""
    for process in psutil.Process().children(recursive=True):
        try:
            ports = [each.laddr.port for each in process.net_connections("tcp") if each.laddr]
        except psutil.Error:
            continue
        if port in ports:
            os.kill(process.pid, signal.SIGKILL)
            return
    raise AssertionError(f"no process has port {port}")


@needs_ray
@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Ray's clusters of several nodes are for Linux and macOS")
def test_a_worker_that_is_killed_loses_nothing_and_repeats_less_than_a_shard(
    cluster: str, served: _Server, tiny_model: Path, tmp_path: Path
) -> None:
    killed = list[int]()

    def kill() -> None:
        served.is_held.wait()
        kill_client(served.client_port)
        killed.append(served.client_port)
        served.released.set()

    threading.Thread(target=kill, daemon=True).start()
    on_sigterm = signal.getsignal(signal.SIGTERM)
    model, source = diptych.load(tiny_model), f"http://127.0.0.1:{served.server_port}/set/{{0..6}}.tar"
    (served.folder / "6.tar").write_bytes(b"no tar" * 1000)
    done = diptych.index_shards(
        source, tmp_path / "index", model=model, cluster=cluster, workers=Workers(cpus=1), records=tmp_path / "records"
    )
    assert killed
    assert signal.getsignal(signal.SIGTERM) == on_sigterm
    assert (done.shards, done.found, done.rows) == (SHARDS + 1, 0, SHARDS * PAIRS)
    assert ([*done.failures], [*done.lost]) == (["5.tar/bad.jpg"], ["6.tar"])
    assert served.asked["2.tar"] == 2
    assert {name: times for name, times in served.asked.items() if times > 1} == {"2.tar": 2}
    here = diptych.index_shards(source, tmp_path / "here", model=model, records=tmp_path / "records of here")
    assert here.rows == done.rows
    stores = [LocalStore(IndexFolder(tmp_path / name)) for name in ("index", "here")]
    first, second = ([stored.item for block in store.blocks() for stored in block.items] for store in stores)
    assert first == second
    served.asked.clear()
    again = diptych.index_shards(source, tmp_path / "index", model=model, records=tmp_path / "records")
    assert (again.found, again.rows) == (SHARDS + 1, done.rows)
    assert served.asked.keys() == {"6.tar"}


@needs_ray
def test_an_address_where_nothing_listens_is_an_error(tiny_model: Path, shards: Path, tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        port = server.server_port
    model = diptych.load(tiny_model)
    with pytest.raises(ClusterError, match="no Ray cluster answers at 127"):
        diptych.embed_shards(shards, tmp_path / "out", model=model, cluster=f"127.0.0.1:{port}")
