"""What must hold while a command runs, and how it is seen: files outside, the terminal, the network, memory, time."""

from __future__ import annotations

import hashlib
import os
import re
import resource
import signal
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CPU_S, WAIT_S = 10.0, 60.0  # of computing, which counts on a busy machine too; and of waiting for something
MOST_BYTES = 1_500_000_000
CODES = {0, 1, 2, 3, 4}
# What bars and folded lines send to a terminal: colours, the cursor up, hidden and shown, a line erased
_OURS = re.compile(r"\x1b\[(?:[0-9;]*m|\d*A|\?25[lh]|2K)|\r")
_DOING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class TooLong(BaseException):
    """A command goes on for too long; no handler of errors takes it for one."""


class Outside:
    """Every file of the test's own home but what a command may change."""

    def __init__(self, home: Path, allowed: list[Path]):
        self._home, self._allowed = home, set(allowed)
        self._before = self._all()

    def changed(self) -> list[str]:
        """What is no longer as it was."""
        now = self._all()
        names = sorted(name for name in self._before.keys() | now.keys() if self._before.get(name) != now.get(name))
        return [f"{name}: {_kind(self._before.get(name))} before, {_kind(now.get(name))} now" for name in names]

    def _all(self) -> dict[str, str]:
        return dict(self._below(self._home))

    def _below(self, folder: Path) -> Iterator[tuple[str, str]]:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            path = Path(entry.path)
            if path in self._allowed:
                continue
            yield str(path.relative_to(self._home)), _digest(path)
            if entry.is_dir(follow_symlinks=False):
                yield from self._below(path)


def _digest(path: Path) -> str:
    """Kind, mode, and content of a file, or what a link says."""
    status = path.lstat()
    said = f"{stat.filemode(status.st_mode)} "
    if stat.S_ISLNK(status.st_mode):
        return said + os.readlink(path)
    if stat.S_ISREG(status.st_mode):
        return said + f"{status.st_size} {hashlib.blake2b(path.read_bytes(), digest_size=12).hexdigest()}"
    return said


def _kind(digest: str | None) -> str:
    return digest or "not there"


def not_escaped(said: str) -> str | None:
    """What in a text does something in a terminal and is not what bars send; None if nothing is."""
    found = _DOING.search(_OURS.sub("", said))
    return None if found is None else repr(said[max(0, said.find(found[0]) - 60) :][:160])


class Network:
    """Who was asked for anything over the network; every asking but of this machine itself is refused."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.getaddrinfo" and not _is_here(arguments[0]):
            self._refuse(f"the address of {arguments[0]!r}")
        elif event == "socket.connect" and isinstance(arguments[1], tuple) and not _is_here(arguments[1][0]):
            self._refuse(f"{arguments[1]!r}")

    def _refuse(self, what: str) -> None:
        self.asked.append(what)
        raise OSError(f"no network in this test ({what})")


def _is_here(host: Any) -> bool:
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    return name in ("localhost", "::1", "", "None") or name.startswith("127.")


@contextmanager
def limited_time() -> Iterator[None]:
    """TooLong where the block computes for longer than CPU_S or takes longer than WAIT_S."""
    started, waited = time.process_time(), time.monotonic()

    def look(*_: object) -> None:
        if time.process_time() - started > CPU_S:
            raise TooLong(f"computed for {CPU_S:.0f} s and was not done")
        if time.monotonic() - waited > WAIT_S:
            raise TooLong(f"waited for {WAIT_S:.0f} s and was not done")

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, 1.0, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def forget_peak() -> None:
    """The most memory that this process has had is from now on what it has now (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """The most memory that this process has had since `forget_peak`."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    return int(found[1]) * 1024 if found else 0


def children_peak_bytes() -> int:
    """The most memory that any process has had that this one started and that has ended."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
