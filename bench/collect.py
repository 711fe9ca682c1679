"""How many pictures a second come from a list of addresses, half of whose hosts are slow or dead, beside img2dataset?

    python bench/collect.py [--img2dataset PYTHON] [--urls 10000] [--hosts 200] [--pictures FOLDER] [--quick] [--json]

A server on loopback is all hosts, 127.0.1.1 and so on, with as many addresses each. The first half answers at once. Of
the other half a quarter refuses connections, a quarter accepts them and never answers, a quarter sends its bodies byte
by byte for three times the time limit, and a quarter answers after a second. Both programs get the same list, make
pictures smaller to 256 px, write WebDataset shards, and have the same time limit, processes that decode, and requests
at a time: those of this one for all processes together, threads of img2dataset for each. `PYTHON` is the interpreter of
an environment with img2dataset. Speed is by the clock, per process; processor time is of all processes of a program,
without the server. --quick has 240 addresses and leaves img2dataset out.
"""

import argparse
import asyncio
import csv
import io
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import psutil
from table import Row, arguments, report

from diptych.scenes.scene import Scenes

QUESTION = "Pictures a second from a list, with resizing and shards"
SIZE_PX, DRAWN = 256, 64
DRIP_S, SLOW_S = 0.5, 1.0
KINDS = ("refuses", "silent", "drips", "slow")
IMG2DATASET = """
import json, sys
from img2dataset import download
if __name__ == "__main__":
    download(**json.loads(sys.argv[1]))
"""


class Cost(NamedTuple):
    """Pictures in shards, seconds by the clock, processor seconds, and the most megabytes of memory at once."""

    pictures: int
    clock_s: float
    processor_s: float
    memory_mb: float


def main() -> None:
    """The server in a process of its own, then both programs, one after the other."""
    parser = arguments(QUESTION)
    parser.add_argument("--img2dataset", metavar="PYTHON", help="an interpreter that has img2dataset")
    parser.add_argument("--pictures", type=Path, help="a folder of JPEGs; by default they are drawn")
    parser.add_argument("--urls", type=int, default=10_000)
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--requests", type=int, default=512, help="at a time, in all")
    parser.add_argument("--deadline", type=float, default=10.0, help="seconds for an address")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(**json.loads(options.serve)))
        return
    if options.quick:
        options.urls, options.hosts, options.deadline, options.processes = 240, 24, 2.0, 1
    with tempfile.TemporaryDirectory(prefix="collect-") as name:
        folder = Path(name)
        pictures = list(map(str, sorted(options.pictures.glob("*.jp*g")))) if options.pictures else draw(folder)
        server, port, dead = started(options, pictures)
        try:
            write_list(folder / "list.csv", options, port, dead)
            costs = {"diptych": of_diptych(folder, options)}
            if options.img2dataset and not options.quick:
                costs["img2dataset"] = of_img2dataset(folder, options)
        finally:
            server.kill()
            server.wait()
    inputs = {"urls": options.urls, "hosts": options.hosts, "processes": options.processes}
    report(QUESTION, rows_of(costs, options.processes), as_json=options.as_json, inputs=inputs)


def rows_of(costs: dict[str, Cost], processes: int) -> list[Row]:
    """Speed, processor time and memory of each; the ratio is that to the last, which is the peer."""

    def rows(unit: str, value: dict[str, float]) -> list[Row]:
        peer = value.get("img2dataset")
        return [Row(who, round(each, 2), unit, peer and round(each / peer, 3)) for who, each in value.items()]

    return [
        *rows("pictures/s a process", {who: cost.pictures / cost.clock_s / processes for who, cost in costs.items()}),
        *rows("processor ms a picture", {who: 1000 * cost.processor_s / cost.pictures for who, cost in costs.items()}),
        *rows("MB at most", {who: cost.memory_mb for who, cost in costs.items()}),
        *rows("pictures", {who: cost.pictures for who, cost in costs.items()}),
        *rows("s", {who: cost.clock_s for who, cost in costs.items()}),
    ]


# --- the two programs


def of_diptych(folder: Path, options: argparse.Namespace) -> Cost:
    """The command, as users call it."""
    out = folder / "diptych"
    command = [sys.executable, "-m", "diptych", "collect", "list", str(folder / "list.csv"), str(out), "--json"]
    settings = {"contact": "bench@example.org", "size": SIZE_PX, "allow-network": "127.0.0.0/8",
                "deadline": options.deadline, "processes": options.processes, "requests": options.requests}  # fmt: skip
    command += [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return measured(command, out)


def of_img2dataset(folder: Path, options: argparse.Namespace) -> Cost:
    """A shard for each process, so that none waits for another's slow addresses."""
    out = folder / "img2dataset"
    settings = {
        "url_list": str(folder / "list.csv"), "input_format": "csv", "url_col": "url", "caption_col": "caption",
        "output_folder": str(out), "output_format": "webdataset", "image_size": SIZE_PX, "resize_mode": "keep_ratio",
        "resize_only_if_bigger": True, "encode_quality": 95, "processes_count": options.processes,
        "thread_count": options.requests // options.processes, "timeout": options.deadline,
        "number_sample_per_shard": -(-options.urls // options.processes), "enable_wandb": False,
    }  # fmt: skip
    script = folder / "peer.py"
    script.write_text(IMG2DATASET, encoding="utf-8")
    return measured([options.img2dataset, str(script), json.dumps(settings)], out)


def measured(command: list[str], out: Path) -> Cost:
    """Run a program to its end, and count the pictures in its shards."""
    began, before = time.monotonic(), os.times()
    environment = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    peak: list[float] = [0.0]
    watcher = threading.Thread(target=watch, args=(process, peak), daemon=True)
    watcher.start()
    _, said = process.communicate()
    clock_s, after = time.monotonic() - began, os.times()
    watcher.join()
    processor_s = after.children_user + after.children_system - before.children_user - before.children_system
    names = [name for tar in out.glob("*.tar") for name in subprocess.run(
        ["tar", "tf", str(tar)], capture_output=True, text=True, check=True).stdout.split()]  # fmt: skip
    if not (pictures := sum(name.endswith((".jpg", ".png", ".webp")) for name in names)):
        raise RuntimeError(f"{command[0]} wrote no picture:\n{said.decode(errors='replace')[-2000:]}")
    return Cost(pictures, clock_s, processor_s, peak[0])


def watch(process: "subprocess.Popen[bytes]", peak: list[float]) -> None:
    """Note the most memory of a process with all below it, five times a second."""
    while process.poll() is None:
        try:
            top = psutil.Process(process.pid)
            used = sum(resident(each) for each in [top, *top.children(recursive=True)])
            peak[0] = max(peak[0], used / 2**20)
        except psutil.Error:
            return
        time.sleep(0.2)


def resident(process: psutil.Process) -> int:
    """Bytes of memory that a process alone has; 0 if it has ended."""
    try:
        return process.memory_full_info().uss
    except psutil.Error:
        return 0


# --- the hosts


def draw(folder: Path) -> list[str]:
    """Drawn pictures as files."""
    paths = [folder / f"{number}.jpg" for number in range(DRAWN)]
    for path, scene in zip(paths, Scenes(DRAWN, size_px=512), strict=True):
        file = io.BytesIO()
        scene.image.save(file, "JPEG", quality=92)
        path.write_bytes(file.getvalue())
    return list(map(str, paths))


def kind_of(host: int, hosts: int) -> str:
    """What a host does."""
    return "answers" if host < hosts - hosts // 2 else KINDS[host % len(KINDS)]


def name_of(host: int) -> str:
    """The address of a host."""
    return f"127.0.{1 + host // 250}.{1 + host % 250}"


def write_list(path: Path, options: argparse.Namespace, port: int, dead: int) -> None:
    """The hosts take turns, as in a list that was shuffled."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("url", "caption"))
        for number in range(options.urls):
            host = number % options.hosts
            at = dead if kind_of(host, options.hosts) == "refuses" else port
            writer.writerow((f"http://{name_of(host)}:{at}/{number}.jpg", f"a red boat with {number} sails on a river"))


def started(options: argparse.Namespace, pictures: list[str]) -> "tuple[subprocess.Popen[bytes], int, int]":
    """The server, its port, and a port at which nothing listens."""
    settings = json.dumps({"pictures": pictures, "hosts": options.hosts, "drip_s": 3 * options.deadline})
    command = [sys.executable, __file__, "--serve", settings]
    server = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert server.stdout is not None
    return server, *map(int, server.stdout.readline().split())


async def serve(pictures: list[str], hosts: int, drip_s: float) -> None:
    """Answer until the process is killed."""
    bodies = [Path(path).read_bytes() for path in pictures]
    by_name = {name_of(host): kind_of(host, hosts) for host in range(hosts)}
    turns = itertools.cycle(bodies)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kind = by_name.get(writer.get_extra_info("sockname")[0], "answers")
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                if kind == "silent":
                    await asyncio.sleep(3600)
                if b".jpg" not in request.split(None, 2)[1]:
                    writer.write(b"HTTP/1.1 404 none\r\nContent-Length: 0\r\n\r\n")
                    continue
                if kind == "slow":
                    await asyncio.sleep(SLOW_S)
                body = next(turns)
                writer.write(b"HTTP/1.1 200 ok\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(body))
                if kind == "drips":
                    for at in range(round(drip_s / DRIP_S)):
                        writer.write(body[at : at + 1])
                        await writer.drain()  # raises when nobody listens any more
                        await asyncio.sleep(DRIP_S)
                    break
                writer.write(body)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "0.0.0.0", 0, backlog=4096)
    dead = await asyncio.start_server(talk, "0.0.0.0", 0)
    print(server.sockets[0].getsockname()[1], dead.sockets[0].getsockname()[1], flush=True)
    dead.close()
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    main()
