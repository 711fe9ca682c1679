#!/usr/bin/env bash
# np.memmap makes a file of one byte for an array of no rows, so what is appended to it is shifted by a byte.
# NumPy 2.4.6.
# Expected: an array of 0 rows of float32 is a file of 0 bytes, as tofile() writes it; rows are appended later.
# Seen: 1 byte. After 16 bytes more np.memmap without a shape refuses the 17; with a shape, and by np.fromfile, it
# gives other numbers without a word. A system cannot map nothing, and NumPy writes the byte to have something.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import os
import sys

import numpy as np

np.memmap("vectors.f32", np.float32, "w+", shape=(0, 4)).flush()
np.empty((0, 4), np.float32).tofile("plain.f32")
size = os.path.getsize("vectors.f32")
row = np.array([[1, 2, 3, 4]], np.float32)
with open("vectors.f32", "ab") as file:
    file.write(row.tobytes())
read = np.memmap("vectors.f32", np.float32, "r", shape=(1, 4))
print(f"no rows: {size} byte, by tofile {os.path.getsize('plain.f32')}; {row[0]} is read as {read[0]}")
assert os.path.getsize("plain.f32") == 0
if size == 0:
    sys.exit("changed: no rows are no bytes")
assert not np.array_equal(read, row), "the byte does not count"
PROGRAM
