#!/usr/bin/env bash
# torchrun's restarted workers take the addresses of the workers before them for each other's, and fail.
# torch 2.13.0 (the CPU build), its elastic agent with the c10d rendezvous and gloo; two agents with two workers each.
# Expected: workers that fail once are restarted (--max-restarts=1), meet in a new group and go on.
# Seen: all restarts share one store of the agents, with the same MASTER_PORT and no prefix for the restart (a comment in
# torch says "We create a new TCPStore for every retry"), and it still holds what the former workers wrote. Those that
# start again first read the addresses that their peers had before: init_process_group raises at once "Gloo
# connectFullMesh failed ... Connection refused", or the group is made and its first all_reduce waits until the timeout.
# With that the restart is spent and both agents end with 1. Which of two workers connects to the other depends on their
# ports, so now and then a restart is spared; here each first try failed, and up to four are made. With
# TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 each restart has a port and a store of its own, and goes on.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cd "$folder"
cat >worker.py <<'WORKER'
import datetime
import os
import time

import torch
import torch.distributed as dist

if os.environ["AGENT"] == "1":
    time.sleep(4)  # machines are never ready at the same moment
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=15))
total = torch.ones(1)
dist.all_reduce(total)
assert total == 4
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    os._exit(1)  # all fail once
dist.barrier()
dist.destroy_process_group()
WORKER
timeout 500 "$folder/venv/bin/python" - <<'PROGRAM'
import os
import pathlib
import signal
import socket
import subprocess
import sys

signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the agents are stopped where the time is up
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=2", "--max-restarts=1"]


def agent(number, port, log, **environment):
    rendezvous = ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", f"--rdzv-conf=is_host={1 - number}"]
    return subprocess.Popen(
        [*TORCHRUN, *rendezvous, "--rdzv-id=clip", "--local-addr=127.0.0.1", "worker.py"],
        env={**os.environ, "AGENT": str(number), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", **environment},
        stdout=log,
        stderr=log,
    )


def run(**environment):
    """The exit statuses of both agents and what they and their workers said."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with open("log", "w") as log:
        agents = [agent(number, port, log, **environment) for number in range(2)]
        try:
            statuses = [agent.wait(120) for agent in agents]
        finally:
            stop(agents)
    return statuses, pathlib.Path("log").read_text()


def stop(agents):
    for agent in agents:
        agent.terminate()  # an agent ends its workers with it
    for agent in agents:
        try:
            agent.wait(40)
        except subprocess.TimeoutExpired:
            agent.kill()


statuses, log = run(TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1")
print("TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1:", statuses)
assert statuses == [0, 0], log
for number in range(4):
    statuses, log = run()
    missed = [line for line in log.splitlines() if "connectFullMesh failed" in line or "Timed out waiting" in line]
    print("default:", statuses, *missed[:1])
    if statuses != [0, 0]:
        assert missed and statuses == [1, 1], log
        break
else:
    sys.exit("changed: restarted workers find each other")
PROGRAM
