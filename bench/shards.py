"""What does a picture cost in shards, in this process and on Ray, beside the same picture in a folder?

    python bench/shards.py [--model MODEL] [--pictures 1600] [--size 256] [--quick] [--json]

The same drawn JPEGs lie in a folder, which `diptych index` reads, and in tar shards, which are embedded in this process
and by one and two workers of a Ray that is started here, each with one core. Costs are processor seconds of this
process in the middle half of the pictures, and of workers after their first shard, with their readers: no start counts;
those of Ray's other processes go by the clock rather than by the picture, and have rows of their own. The pictures go
into an index each time. The speed of two workers beside one is by the clock: it says something on a machine with two
cores for them, a third for this process, and no other work. --quick leaves Ray out.
"""

import io
import os
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
from table import Row, arguments, report

import diptych
from diptych.index.bulk import ray_cluster
from diptych.index.bulk.ray_cluster import LOCAL, Workers
from diptych.scenes.scene import Scenes

QUESTION = "Processor time of a picture in shards, beside one in a folder"
SHARDS = 8
MARKS = "DIPTYCH_BENCH_MARKS"


class Cost(NamedTuple):
    """Processor milliseconds of a picture, those of Ray's own processes beside, and seconds by the clock."""

    processor_ms: float
    ray_ms: float
    clock_s: float


def main() -> None:
    """A folder first, then shards here, then shards on Ray."""
    parser = arguments(QUESTION)
    parser.add_argument("--model", help="a model; by default the bundled one")
    parser.add_argument("--pictures", type=int, default=1600)
    parser.add_argument("--size", type=int, default=256, help="pixels of a side")
    options = parser.parse_args()
    count, size_px = (160, 64) if options.quick else (options.pictures, options.size)
    settings = {"RAY_worker_niceness": "0", "RAY_local_fs_capacity_threshold": "0.99", "OMP_NUM_THREADS": "1"}
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    model = diptych.load(options.model)
    one_core()
    with tempfile.TemporaryDirectory(prefix="shards-", dir="/tmp") as name:
        folder = Path(name)
        draw(folder, count, size_px)
        costs = {"diptych index, a folder": of_folder(folder / "pictures", model)}
        costs["shards, this process"] = of_shards(folder, model, "here", None, 1)
        if not options.quick:
            for workers in (1, 2):
                who = f"shards, Ray with {workers} worker{'s' if workers > 1 else ''}"
                costs[who] = of_shards(folder, model, f"ray {workers}", LOCAL, workers)
    report(QUESTION, rows_of(costs), as_json=options.as_json, inputs={"pictures": count, "cores": os.cpu_count()})


def rows_of(costs: dict[str, Cost]) -> list[Row]:
    """The processor time of each, and how much faster two workers are than one."""
    first, *_ = costs.values()
    rows = [
        Row(who, round(cost.processor_ms, 2), "ms a picture", round(cost.processor_ms / first.processor_ms, 3))
        for who, cost in costs.items()
    ]
    own = {f"{who}: Ray's own": cost.ray_ms for who, cost in costs.items() if cost.ray_ms}
    rows += [Row(who, round(ms, 2), "ms a picture") for who, ms in own.items()]
    clocks = [cost.clock_s for who, cost in costs.items() if "Ray" in who]
    if len(clocks) == 2:
        rows.append(Row("two workers beside one", round(clocks[0] / clocks[1], 2), "x by the clock", None))
    return rows


def one_core() -> None:
    """OpenVINO takes one thread here as in a worker with one core."""
    from diptych.engines.openvino_runtime import core

    core().set_property("CPU", {"INFERENCE_NUM_THREADS": 1})


def draw(folder: Path, count: int, size_px: int) -> None:
    """The pictures as files and in shards."""
    (folder / "pictures").mkdir()
    (folder / "tars").mkdir()
    tars = [tarfile.open(folder / "tars" / f"{number:02}.tar", "w") for number in range(SHARDS)]  # noqa: SIM115
    for at, scene in enumerate(Scenes(count, size_px=size_px)):
        file = io.BytesIO()
        scene.image.save(file, "JPEG", quality=92)
        name, content = f"{at:06}.jpg", file.getvalue()
        (folder / "pictures" / name).write_bytes(content)
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tars[at * SHARDS // count].addfile(member, io.BytesIO(content))
    for tar in tars:
        tar.close()


def of_folder(folder: Path, model: diptych.Embedder) -> Cost:
    """The index of a folder."""
    meter = Meter()
    index = diptych.open_index(folder, model=model)
    index.update(progress=meter.at, processes=1)
    return meter.cost(len(list(folder.iterdir())) - 1)


def of_shards(folder: Path, model: diptych.Embedder, name: str, cluster: str | None, workers: int) -> Cost:
    """Shards into an index. A worker of Ray notes its own processor time after each of its shards."""
    meter, marks = Meter(is_ray=cluster is not None), folder / f"marks of {name}"
    if cluster:
        os.environ[MARKS] = str(marks)
        ray_cluster._Worker = Measured
    diptych.index_shards(
        folder / "tars", folder / name, model=model, cluster=cluster, workers=Workers(workers, 1),
        records=folder / f"records of {name}", progress=meter.at,
    )  # fmt: skip
    cost = meter.cost(pictures := len(list((folder / "pictures").glob("*.jpg"))))
    return cost._replace(processor_ms=cost.processor_ms + of_workers(marks, pictures)) if cluster else cost


class Measured(ray_cluster._Worker):
    """A worker that writes down its processor seconds, with those of its readers, after each shard."""

    def _pieces(self, task: ray_cluster.ShardTask) -> Iterator[ray_cluster.Piece]:
        yield from super()._pieces(task)
        process = psutil.Process()
        times = [each.cpu_times() for each in [process, *process.children(recursive=True)]]
        with open(os.environ[MARKS], "a") as file:
            file.write(f"{process.pid} {sum(each.user + each.system for each in times)}\n")


def of_workers(marks: Path, pictures: int) -> float:
    """Processor milliseconds of a picture in the workers, from the end of their first shards on."""
    seconds: dict[str, list[float]] = {}
    for line in marks.read_text().splitlines():
        seconds.setdefault(line.split()[0], []).append(float(line.split()[1]))
    shards = sum(len(each) - 1 for each in seconds.values())
    return 1000 * sum(each[-1] - each[0] for each in seconds.values()) / (shards * pictures / SHARDS)


class Meter:
    """Processor time and clock of the middle half of a job."""

    def __init__(self, *, is_ray: bool = False) -> None:
        self._is_ray = is_ray
        self._marks: list[tuple[float, float, float, float]] = []

    def at(self, done: int, total: int) -> None:
        """Note the first steps after one quarter and after three."""
        share = done / max(total, 1)
        if len(self._marks) < 2 and share >= (0.25, 0.75)[len(self._marks)]:
            self._marks.append((share, *processor_s(self._is_ray), time.perf_counter()))

    def cost(self, pictures: int) -> Cost:
        """That of a picture between both."""
        (share, *before), (share_end, *after) = self._marks
        own, ray, clock = (
            (end - start) / pictures / (share_end - share) for start, end in zip(before, after, strict=True)
        )
        return Cost(1000 * own, 1000 * ray, clock)


def processor_s(is_ray: bool) -> tuple[float, float]:
    """Processor seconds of this process with its readers, and those of Ray's processes other than workers."""
    process = psutil.Process()
    mine, ray = process.cpu_times(), 0.0
    own = mine.user + mine.system
    for each in process.children(recursive=True):
        try:
            times, words = each.cpu_times(), " ".join(each.cmdline())
        except psutil.Error:
            continue
        is_reader = "importlib.import_module" in words  # of this process or of a worker
        if not is_ray:
            own += times.user + times.system
        elif not is_reader and not words.startswith("ray::"):
            ray += times.user + times.system
    return own, ray


if __name__ == "__main__":
    main()
