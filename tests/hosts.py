"""Two machines on one: network namespaces with a cable between them, or where these are not allowed two loopback
addresses."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Host:
    """Where a command runs (`prefix`), the address that it has there, and how to pull out its network cable, if there
    is one."""

    address: str
    interface: str
    prefix: list[str] = field(default_factory=list)
    unplug: Callable[[], object] | None = None

    def start(self, command: list[str], log: Path, **environment: str) -> subprocess.Popen:
        """Begin a command there; what it says goes to `log`."""
        told = {**os.environ, "GLOO_SOCKET_IFNAME": self.interface, **environment}
        with log.open("wb") as file:
            return subprocess.Popen([*self.prefix, *command], stdout=file, stderr=subprocess.STDOUT, env=told)


@contextlib.contextmanager
def two_hosts() -> Iterator[list[Host]]:
    """Two hosts that reach each other."""
    names = [f"dt{os.getpid()}{letter}" for letter in "ab"]
    try:
        with contextlib.ExitStack() as stack:
            for name in names:
                ip("netns", "add", name)
                stack.callback(ip, "netns", "del", name)
            ip("link", "add", names[0], "netns", names[0], "type", "veth", "peer", "name", names[1], "netns", names[1])
            for number, name in enumerate(names, 1):
                ip("-n", name, "addr", "add", f"10.87.0.{number}/24", "dev", name)
                for interface in ("lo", name):
                    ip("-n", name, "link", "set", interface, "up")
            made = stack.pop_all()
    except (OSError, subprocess.CalledProcessError):
        yield [Host(f"127.0.0.{number}", "lo") for number in (2, 3)]
        return
    with made:
        yield [_namespace(name, f"10.87.0.{number}") for number, name in enumerate(names, 1)]


def _namespace(name: str, address: str) -> Host:
    prefix = [str(shutil.which("ip")), "netns", "exec", name]
    return Host(address, name, prefix, lambda: ip("-n", name, "link", "set", name, "down"))


def ip(*arguments: str) -> None:
    """Change the network. Raises CalledProcessError where that is not allowed."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def children(pid: int) -> list[int]:
    """The numbers of the processes that a process started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
    return found
