"""Embeds shards on a Ray cluster: Ray Data gives them to actors, one for each device or group of cores, and streams
what they embed back to this process, no faster than it is stored."""

from __future__ import annotations

import logging
import os
import pickle
import platform
import re
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from diptych.errors import ClusterError, DiptychError
from diptych.extras import require
from diptych.failures import Failure
from diptych.index.bulk.items import block_of
from diptych.index.bulk.shard_embedder import Piece, ShardEmbedder, ShardTask
from diptych.index.bulk.sharded_job import EmbedShards

LOCAL = "local"
# Before it gives a shard up, Ray tries it so often again; a worker that dies starts again so often
RETRIES, RESTARTS = 2, 4
_CORES = 8  # of a worker on a CPU: a model gains less from more
_WAVE = 5000  # shards that Ray is told of at once
_PIECE_BYTES = 1 << 20  # of results that a worker collects before it sends them
_LOCAL_STORE_BYTES = 512 << 20  # of Ray's shared memory where this process starts Ray
_CONNECT_S = 10.0
_ADDRESS = re.compile(r"(?:ray://)?([^/:]+|\[[^\]]+\]):(\d{1,5})")
_LOOPBACK = re.compile(r"(127\.[\d.]+|localhost|\[::1\])(:|\Z)")


class Workers(NamedTuple):
    """How many workers there are, and the cores and GPUs of each; None for what the cluster has: one worker for each
    GPU or, without any, for each eight cores of a machine."""

    number: int | None = None
    cpus: int | None = None
    gpus: float | None = None


class WorkerModel(NamedTuple):
    """How a worker opens the model: the arguments of `diptych.load`, and the fingerprint that it must have."""

    arguments: Mapping[str, Any]
    fingerprint: str


def embed_on_ray(model: WorkerModel, *, cluster: str = LOCAL, workers: Workers = Workers()) -> EmbedShards:  # noqa: B008
    """Embeds shards on the Ray cluster at an address (host:port, ray://host:port, "auto"), or on this machine's cores
    where `cluster` is "local": then Ray is started for the job, and listens on the loopback address alone.

    Each worker opens the model itself, so that every machine must have Diptych and reach the model and the shards by
    the same names. A worker that dies is started again, and its shard is embedded again from its start; a shard whose
    worker dies three times is left out. Iterating raises ClusterError where the cluster cannot be reached, has no room
    for a worker, or no worker can open the model.
    """
    require("a cluster", "ray")

    def embed(tasks: Sequence[ShardTask]) -> Iterator[Piece]:
        with connected(cluster) as ray:
            sized = planned(ray.nodes(), workers)
            for start in range(0, len(tasks), _WAVE):
                yield from _wave(ray, tasks[start : start + _WAVE], model, sized)

    return embed


@contextmanager
def connected(cluster: str) -> Iterator[Any]:
    """Ray, connected to a cluster, which is left again unless this process had been connected before."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # warns of restarts that are wanted
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".*")  # Ray reports dead workers on stdout, with or without logs
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    if cluster == LOCAL:
        options |= {"include_dashboard": False, "object_store_memory": _LOCAL_STORE_BYTES}
    if cluster == LOCAL or _LOOPBACK.match(cluster):
        # Ray replaces a loopback address by the machine's own, where nothing listens, unless it was told otherwise
        # before it was imported
        if "ray" not in sys.modules:
            os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        if os.environ.get("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER") == "0":
            options["_node_ip_address"] = "127.0.0.1"
    import ray

    if ray.is_initialized():
        yield ray
        return
    _check_answers(cluster)
    try:
        with _own_signals():
            ray.init(address=cluster, **options)
    except Exception as error:  # ConnectionError, ValueError and others, by what is wrong with an address
        raise ClusterError(
            f"the Ray cluster {cluster} cannot be reached ({str(error) or type(error).__name__:.300})."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself and ends the process without an error; afterwards it is this program's again."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _check_answers(cluster: str) -> None:
    """Raises ClusterError where nothing listens at an address: Ray itself would try for minutes."""
    if found := _ADDRESS.fullmatch(cluster):
        try:
            socket.create_connection((found[1].strip("[]"), int(found[2])), _CONNECT_S).close()
        except OSError as error:
            raise ClusterError(f"no Ray cluster answers at {cluster} ({error}).") from error


def planned(nodes: Sequence[Mapping[str, Any]], workers: Workers) -> Workers:
    """The number and size of workers on these nodes (as `ray.nodes()` lists them). Raises ClusterError where none
    fits."""
    have = [node["Resources"] for node in nodes if node["Alive"]]
    gpus = workers.gpus
    if gpus is None:
        gpus = 1.0 if any(node.get("GPU", 0) >= 1 for node in have) and workers.cpus is None else 0.0
    hosts = [node for node in have if node.get("GPU", 0) >= gpus]
    cpus = workers.cpus or _cores_for_each(hosts, gpus)
    fit = sum(int(min(node.get("CPU", 0) // cpus, node.get("GPU", 0) // gpus if gpus else 1e9)) for node in hosts)
    if not (workers.number or fit):
        cores = ", ".join(f"{node.get('CPU', 0):g}" for node in have) or "none"
        raise ClusterError(
            f"no machine of the cluster has {cpus} cores and {gpus:g} GPUs free; they have {cores} cores."
        )
    return Workers(workers.number or fit, cpus, gpus)


def _cores_for_each(nodes: Sequence[Mapping[str, float]], gpus: float) -> int:
    cores = [int(node.get("CPU", 0) // (node.get("GPU", 0) // gpus if gpus else 1)) for node in nodes]
    return min(_CORES, max(1, min(cores, default=1)))


class _Worker:
    """What an actor does: it opens the model once and embeds one shard after another."""

    def __init__(self, model: WorkerModel, workers: Workers, root: str, columns: tuple[str | None, str | None]):
        from diptych.embedder import load

        processes = workers.cpus or 1
        _limit_threads(processes)
        embedder = load(**model.arguments)
        if embedder.fingerprint != model.fingerprint:
            raise ClusterError(f"{embedder.source} on {platform.node()} is another model; copy it there again.")
        self._embedder, self._root, self._columns = ShardEmbedder(embedder, processes=processes), root, columns

    def __call__(self, batch: Mapping[str, Any]) -> Iterator[dict[str, list[bytes]]]:
        for shard, location in zip(batch["shard"], batch["location"], strict=True):
            task = ShardTask(str(shard), str(location), self._root, self._columns)
            for piece in self._pieces(task):
                yield {"piece": [pickle.dumps(piece)]}

    def _pieces(self, task: ShardTask) -> Iterator[Piece]:
        """Those of a shard. An error of any kind costs this shard alone: Ray would end the run."""
        try:
            yield from self._embedder.embed(task)
        except Exception as error:
            failure = Failure(type(error).__name__, f"{task.shard}: {error}")
            yield Piece(task.shard, 0, block_of((), task.root), {}, True, lost=failure)


def _limit_threads(cores: int) -> None:
    """OpenVINO would take all cores of the machine; PyTorch goes by OMP_NUM_THREADS, which Ray sets."""
    from diptych.engines.openvino_runtime import core

    core().set_property("CPU", {"INFERENCE_NUM_THREADS": cores})


def _wave(ray: Any, tasks: Sequence[ShardTask], model: WorkerModel, workers: Workers) -> Iterator[Piece]:
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what a user has to know is in the result
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = _PIECE_BYTES
    context.max_errored_blocks = -1  # a shard whose worker died too often; the others go on
    context.max_consecutive_actor_init_deaths = RETRIES
    # Ray Data has no other way to bound what it otherwise repeats without end
    warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
    rows = [{"shard": task.shard, "location": task.location} for task in tasks]
    pieces = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        _Worker,
        fn_constructor_args=(model, workers, tasks[0].root, tasks[0].columns),
        batch_size=None,
        compute=ray.data.ActorPoolStrategy(size=min(workers.number or 1, len(rows)), max_tasks_in_flight_per_actor=1),
        num_cpus=workers.cpus,
        num_gpus=workers.gpus,
        max_restarts=RESTARTS,
        max_task_retries=RETRIES,
    )
    try:
        for row in pieces.iter_rows():
            yield pickle.loads(row["piece"])
    except DiptychError:
        raise
    except Exception as error:
        raise ClusterError(f"the workers fail ({_last_line(error)}).") from error


def _last_line(error: Exception) -> str:
    """Ray's errors contain a traceback; its last line says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = lines[-1] if lines else type(error).__name__
    return last.partition(" Worker exit type")[0].rstrip(".")[:500]
