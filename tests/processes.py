"""Several processes that train together, without several starts of Python: copies of this one, told what torchrun tells
its own."""

import os
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed.fsdp  # so that no copy has to import it


def together(place: Path, work: Callable[..., Any], *arguments: Any, world: int = 2) -> list[str]:
    """Do `work` in each of `world` processes, and wait; the stdout and stderr of each, one after the other, which are
    kept in `place`. Fails where one does."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world)}
    pids = [_begun(place / str(rank), told | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, work, arguments)
            for rank in range(world)]  # fmt: skip
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    said = [(place / str(rank)).read_text(encoding="utf-8") for rank in range(world)]
    assert codes == [0] * world, "\n".join(said)
    return said


def _begun(place: Path, told: dict[str, str], work: Callable[..., Any], arguments: tuple) -> int:
    """The number of a copy of this process, with one thread: it has none of its parent's and would wait for them."""
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        return pid
    code = 1
    try:
        file = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))  # noqa: SIM115
        os.environ.update(told)
        torch.set_num_threads(1)
        work(*arguments)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
