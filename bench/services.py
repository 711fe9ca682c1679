"""Servers in processes of their own: how they start, what they use, how they end."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from http_load import get, post

START_S = 300.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Service:
    """A server that answers a `probe`, a path for GET or the fields of a POST to `route`."""

    name: str
    address: str
    command: Sequence[str]
    environment: dict[str, str]
    probe: str | dict[str, Any]
    process: subprocess.Popen[bytes] | None = None
    route: str = "/v1/embeddings"

    def start(self) -> bytes:
        """Start it. Returns the first answer to the probe."""
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, **self.environment}
        )
        os.set_blocking(self.process.stderr.fileno(), False)  # type: ignore[union-attr]
        until = time.monotonic() + START_S
        while time.monotonic() < until and self.process.poll() is None:
            if answer := self.ask(self.probe):
                return answer
            time.sleep(0.05)
        said = self.process.stderr.read() or b""  # type: ignore[union-attr]
        raise RuntimeError(f"{self.name} does not answer: {said[-2000:].decode('utf-8', 'replace')}")

    def ask(self, asked: str | dict[str, Any]) -> bytes | None:
        """The body of an answer; None if there is none yet."""
        path, body = (asked, None) if isinstance(asked, str) else (self.route, json.dumps(asked).encode())
        headers = {"Content-Type": "application/json"} if body else {}
        try:
            with urllib.request.urlopen(urllib.request.Request(self.address + path, body, headers), timeout=60) as said:
                return said.read()
        except (urllib.error.URLError, OSError):
            return None

    def request(self, asked: str | dict[str, Any]) -> bytes:
        """A request as bytes to send."""
        if isinstance(asked, str):
            return get(self.address, asked)
        return post(self.address, self.route, json.dumps(asked).encode())

    def processor_s(self) -> float:
        """That it has used, with its child processes."""
        return sum(sum(map(int, _status(pid)[11:13])) for pid in self._pids()) / _TICKS

    def wait_until_idle(self, timeout_s: float = 60.0) -> None:
        """Until it has dealt with what it was asked, also by those who left."""
        until, before = time.monotonic() + timeout_s, -1.0
        while time.monotonic() < until and (now := self.processor_s()) - before > 0.02:
            before = now
            time.sleep(0.2)

    def memory_mb(self) -> float:
        """The memory that is resident, with its child processes."""
        found = [re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()) for pid in self._pids()]
        return sum(int(each[1]) for each in found if each) * 1024 / 1e6

    def own_memory_mb(self) -> tuple[float, float]:
        """The memory that it and its child processes use, what they share with each other counting once; and that of it
        which holds no files, such as libraries, of which other programs may bear a part."""
        found = [re.findall(r"^(Pss|Pss_File):\s+(\d+)", _rollup(pid), re.M) for pid in self._pids()]
        kilobytes = Counter[str]()
        for name, count in (each for one in found for each in one):
            kilobytes[name] += int(count)
        return kilobytes["Pss"] * 1024 / 1e6, (kilobytes["Pss"] - kilobytes["Pss_File"]) * 1024 / 1e6

    def end(self, *, kill: bool = False) -> None:
        """End it."""
        if self.process is not None:
            self.process.kill() if kill else self.process.terminate()
            self.process.wait(60)
            self.process.stderr.close()  # type: ignore[union-attr]

    def _pids(self) -> list[int]:
        parents = {int(each): int(_status(int(each))[1]) for each in os.listdir("/proc") if each.isdigit()}
        found = [self.process.pid] if self.process else []
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found


def _status(pid: int) -> list[str]:
    """The fields of a process after its name; none of use if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["0"] * 50


def _rollup(pid: int) -> str:
    """What Linux says of the memory of a process; nothing if it has ended."""
    try:
        return Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return ""


@contextmanager
def running(services: Sequence[Service]) -> Iterator[Sequence[Service]]:
    """Start all, and end them."""
    try:
        for each in services:
            each.start()
        yield services
    finally:
        for each in services:
            each.end()


def free_address() -> tuple[str, str]:
    """An address of this machine, and its port."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    return f"http://127.0.0.1:{port}", str(port)


def diptych_service(name: str, probe: str | dict[str, Any], options: Sequence[str], *, bfloat16: bool) -> Service:
    """`diptych serve` with the defaults, apart from its precision."""
    address, port = free_address()
    command = [sys.executable, "-m", "diptych", "serve", "--port", port, *options]
    # OMP_NUM_THREADS is that of a test's process
    return Service(name, address, command, {"DIPTYCH_BFLOAT16": str(int(bfloat16))}, probe)


def infinity_service(python: str, model: Path, probe: dict[str, Any]) -> Service:
    """infinity's server with its engine for PyTorch, in float32."""
    address, port = free_address()
    command = [
        str(Path(python).with_name("infinity_emb")), "v2", "--model-id", str(model), "--served-model-name", "bench",
        "--host", "127.0.0.1", "--port", port, "--url-prefix", "/v1", "--engine", "torch", "--device", "cpu",
        "--dtype", "float32", "--batch-size", "64",
    ]  # fmt: skip
    return Service("infinity, float32", address, command, {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}, probe)


def plain_service(folder: Path, probe: str) -> Service:
    """A plain service around the same index and engine."""
    address, port = free_address()
    command = [sys.executable, str(Path(__file__).with_name("plain_service.py")), str(folder), port]
    return Service("plain FastAPI", address, command, {}, probe)
