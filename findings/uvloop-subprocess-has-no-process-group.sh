#!/usr/bin/env bash
# uvloop is not exchangeable for asyncio where a program is started in a process group of its own.
# uvloop 0.23.0, Python from 3.11 on.
# Expected: asyncio.create_subprocess_exec(..., process_group=0), which Python has since 3.11, works on either loop.
# Seen: asyncio's own loop starts the program in its own group; uvloop's raises
# ValueError: unexpected kwargs: process_group
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet uvloop==0.23.0
cd "$folder"
timeout 60 "$folder/venv/bin/python" - <<'PROGRAM'
import asyncio
import sys

import uvloop


async def start() -> bool:
    code = "import os; print(os.getpgid(0) == os.getpid())"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, process_group=0
    )
    out, _ = await process.communicate()
    return out.strip() == b"True"


print("asyncio, own group:", own := asyncio.run(start()))
try:
    uvloop.run(start())
    refused = ""
except ValueError as error:
    refused = str(error)
print("uvloop:", refused or "started")
sys.exit(0 if own and "process_group" in refused else 1)
PROGRAM
