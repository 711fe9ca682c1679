"""Steps of a benchmark in processes of their own, so that none finds what another left in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def in_new_process(script: str, step: str, who: str, folder: Path, *, threads: int) -> dict[str, Any] | None:
    """The output of a step of a script in a new process; None if it fails."""
    command = [sys.executable, script, "--work", step, who, str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
    if done.returncode:
        print(f"{who}: its {step} failed with {done.returncode}, left out", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])
