#!/usr/bin/env bash
# The same tensors and the same metadata give other bytes in every process, so a checksum of a checkpoint says
# nothing.
# safetensors 0.8.0, NumPy 2.4.6.
# Expected: one file, byte for byte: tensors are sorted, and a Python dictionary has an order.
# Seen: the entries of metadata are written in the order of a hash map with a random seed: several files from 8
# processes; one where there is a single entry.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet safetensors==0.8.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import subprocess
import sys

program = '''
import hashlib, sys
import numpy as np
from safetensors.numpy import load, save
metadata = {name: name for name in sys.argv[1:]}
print(hashlib.sha256(save({"a": np.zeros(2), "b": np.ones(3)}, metadata)).hexdigest())
'''


def files(*names):
    command = [sys.executable, "-c", "\n".join(line.strip() for line in program.splitlines()), *names]
    return len({subprocess.check_output(command) for _ in range(8)})


one, six = files("format"), files("format", "model", "step", "license", "author", "data")
print("files from 8 processes, one entry:", one, "six entries:", six)
assert one == 1, "not even a single entry gives the same bytes"
if six == 1:
    sys.exit("changed: metadata has an order")
PROGRAM
