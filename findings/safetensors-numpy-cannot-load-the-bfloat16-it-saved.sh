#!/usr/bin/env bash
# safetensors.numpy saves bfloat16 arrays (ml_dtypes) as BF16, and raises a KeyError on its own file when it
# loads it.
# safetensors 0.8.0, NumPy 2.4.6, ml_dtypes 0.6.0.
# Expected: load(save(x)) gives x. Saving knows the type, so loading would.
# Seen: KeyError: 'BF16', though ml_dtypes is installed and imported.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet safetensors==0.8.0 numpy==2.4.6 ml_dtypes==0.6.0
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import json
import sys

import ml_dtypes
import numpy as np
from safetensors.numpy import load, save

written = save({"weight": np.ones((2, 2), ml_dtypes.bfloat16)})
header = json.loads(written[8 : 8 + int.from_bytes(written[:8], "little")])
print("header:", header)
assert header["weight"]["dtype"] == "BF16"
assert load(save({"weight": np.ones(2, np.float16)}))["weight"].dtype == np.float16
try:
    load(written)
except KeyError as error:
    print("KeyError:", error)
else:
    sys.exit("changed: it loads what it saved")
PROGRAM
