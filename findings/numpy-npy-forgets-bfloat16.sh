#!/usr/bin/env bash
# np.save takes an array of ml_dtypes' bfloat16 without a word and writes a file that says raw bytes.
# NumPy 2.4.6, ml_dtypes 0.6.0.
# Expected: an error from np.save, or bfloat16 again from np.load: saving embeddings in their model's own
# precision is an ordinary thing to do.
# Seen: np.load gives dtype |V2, on which no arithmetic works; the numbers are whole, but only who knows it can
# say .view(bfloat16). The 8-bit float8_e4m3fn comes back as |V1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 ml_dtypes==0.6.0
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import io
import sys

import ml_dtypes
import numpy as np

for kind, raw in ((ml_dtypes.bfloat16, "|V2"), (ml_dtypes.float8_e4m3fn, "|V1")):
    vectors = np.arange(6).reshape(2, 3).astype(kind)
    written = io.BytesIO()
    np.save(written, vectors)
    written.seek(0)
    again = np.load(written)
    print("saved:", vectors.dtype, "loaded:", again.dtype)
    if again.dtype == vectors.dtype:
        sys.exit("changed: the type comes back")
    assert again.dtype.str == raw and np.array_equal(again.view(kind), vectors)
    try:
        again + again
    except TypeError as error:
        print("TypeError:", str(error)[:90])
    else:
        sys.exit("changed: arithmetic works on what was loaded")
PROGRAM
