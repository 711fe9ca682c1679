"""Starts workers, kills those that hang where no signal is heard, and goes on behind the case that ended one."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .watching import CPU_S, WAIT_S

TESTS = Path(__file__).parent.parent
# When a case that hears no alarm is ended: long after the alarm
DEAF_CPU_S, DEAF_WAIT_S = 2 * CPU_S, 2 * WAIT_S
PIECE = 500  # cases to a process, so that what one leaves in memory does not add up


class Failure(NamedTuple):
    """A case that broke a promise, what it broke, and where it is kept, if its process lived to keep it."""

    target: str
    seed: int
    number: int
    what: list[str]
    kept: str | None

    def __str__(self) -> str:
        again = f"python -m tests.fuzzing {self.target} --seed {self.seed} --case {self.number}"
        return f"{'; '.join(self.what)}\n  {again}\n  {self.kept or ''}"


def fuzzed(
    target: str,
    cases: range,
    *,
    seed: int = 0,
    place: Path,
    until: float | None = None,
    tell: Callable[[int, Failure | None], None] = lambda number, failure: None,
    codes: Counter[str] | None = None,
) -> tuple[int, list[Failure]]:
    """Run these cases of a target, up to `until` (of time.monotonic): how many were run, and those that broke a
    promise, which are kept in `place`. `tell` hears of every case; `codes` counts commands with their exit codes."""
    failures, number = list[Failure](), cases.start
    codes = Counter() if codes is None else codes
    while number < cases.stop and (until is None or time.monotonic() < until):
        with tempfile.TemporaryDirectory() as home:
            last = min(number + PIECE, cases.stop)
            number = _piece(target, seed, range(number, last), Path(home), place, failures, until, tell, codes)
    return number - cases.start, failures


def _piece(
    target: str, seed: int, cases: range, home: Path, place: Path, failures: list[Failure], until: float | None,
    tell: Callable[[int, Failure | None], None], codes: Counter[str],
) -> int:  # fmt: skip
    """Cases in one process; the number of the case to go on with."""
    line = [sys.executable, "-m", "fuzzing.worker", target, *map(str, (seed, cases.start, cases.stop, home, place))]
    at, error = -1, home / "error"
    with error.open("wb") as stderr, subprocess.Popen(
        line, env=_environment(home), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr
    ) as process:  # fmt: skip
        for said in _lines(process):
            if "done" in said:
                codes.update(said["codes"])
                return int(said["done"])
            if "failed" in said:
                raise RuntimeError(f"{target}, seed {seed}, case {at}: the fuzzer failed.\n{said['failed']}")
            at = int(said.get("begins", at))
            failure = None
            if "broke" in said:
                failure = Failure(target, seed, at, said["what"], said["kept"])
                failures.append(failure)
            if "begins" not in said or at > cases.start:
                tell(at, failure)
            if "begins" in said and until is not None and time.monotonic() > until:
                process.kill()
                return at
        code = process.wait()
    if at < 0:
        raise RuntimeError(f"the worker for {target} did not begin ({code}): {error.read_text(errors='replace')}")
    what = f"ended its process ({code}), or was deaf and ended: {error.read_text(errors='replace')[-500:]}"
    kept = next(iter(made_alone(target, seed, range(at, at + 1), place)), None)
    failures.append(Failure(target, seed, at, [what], kept))
    tell(at, failures[-1])
    return at + 1


def made_alone(target: str, seed: int, cases: range, place: Path) -> list[str]:
    """Cases kept as folders without being run, as those of one which ended its process."""
    with tempfile.TemporaryDirectory() as home:
        line = [sys.executable, "-m", "fuzzing.worker", target, *map(str, (seed, cases.start, cases.stop, home, place))]
        done = subprocess.run(
            [*line, "alone"], env=_environment(Path(home)), stdin=subprocess.DEVNULL, capture_output=True
        )
    return [json.loads(said)["kept"] for said in done.stdout.splitlines()]


def _lines(process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    """What a worker says, object by object. One that does not hear its own alarm, for it is in a library's code, is
    killed."""
    assert process.stdout
    while True:
        waits, computed = time.monotonic(), _cpu_s(process.pid)
        while not select.select([process.stdout], [], [], 1.0)[0]:
            if time.monotonic() - waits > DEAF_WAIT_S or _cpu_s(process.pid) - computed > DEAF_CPU_S:
                process.kill()
        line = process.stdout.readline()
        if not line.endswith(b"\n"):
            return
        yield json.loads(line)


def _cpu_s(process: int) -> float:
    """How long a process has computed (proc(5): fields 14 and 15 of stat, the name before them in brackets)."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _environment(home: Path) -> dict[str, str]:
    """Of a user with a home, and without anything that says who they are elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "DIPTYCH_", "XDG_"))}
    (home / "tmp").mkdir(exist_ok=True)
    mine = {
        "HOME": str(home), "TMPDIR": str(home / "tmp"), "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_CONFIG_HOME": str(home / ".config"), "TERM": "xterm-256color", "COLUMNS": "100", "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]), "PYTHONWARNINGS": "ignore",
    }  # fmt: skip
    return kept | mine
