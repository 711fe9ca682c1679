#!/usr/bin/env bash
# F.normalize keeps zero vectors zero in float32 and bfloat16, and makes them NaN in float16.
# torch 2.13.0, NumPy 2.4.6.
# Expected: zero again: its eps is there for that.
# Seen: the default eps, 1e-12, is nothing in float16, whose least number is 6e-8; 0/0 is NaN, and one blank row
# spoils a whole loss or ranking. eps=1e-7 mends it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import sys

import torch
import torch.nn.functional as F

rows = {
    kind: F.normalize(torch.zeros(2, 4, dtype=kind), dim=-1)
    for kind in (torch.float32, torch.bfloat16, torch.float16)
}
for kind, row in rows.items():
    print(kind, row[0].tolist())
assert not rows[torch.float32].any() and not rows[torch.bfloat16].any(), "float32 or bfloat16 changed"
if not rows[torch.float16].isnan().any():
    sys.exit("changed: zero stays zero in float16")
assert not F.normalize(torch.zeros(2, 4, dtype=torch.float16), dim=-1, eps=1e-7).any(), "a larger eps is no help"
PROGRAM
