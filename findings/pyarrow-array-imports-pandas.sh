#!/usr/bin/env bash
# pyarrow.array of a list of strings imports pandas where it is installed, though nothing of it is asked for.
# pyarrow 26.0.1 with pandas 3.1.1.
# Expected: pandas is imported by to_pandas and from_pandas; a program that writes Parquet does not pay for it.
# Seen: pandas is among the imported modules after pyarrow.array(["a"], pyarrow.string()), which costs the first call
# .4 to .6 s of a processor. Arrays of buffers, tables and pyarrow.parquet.write_table of them import none of it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyarrow==26.0.1 pandas==3.1.1
cd "$folder"
timeout 120 "$folder/venv/bin/python" - <<'PROGRAM'
import struct
import sys

import pyarrow
import pyarrow.parquet

offsets, text = pyarrow.py_buffer(struct.pack("<2i", 0, 1)), pyarrow.py_buffer(b"a")
column = pyarrow.Array.from_buffers(pyarrow.string(), 1, [None, offsets, text])
pyarrow.parquet.write_table(pyarrow.Table.from_arrays([column], names=["text"]), "table.parquet")
before = "pandas" in sys.modules
same = pyarrow.array(["a"], pyarrow.string())
after = "pandas" in sys.modules
print(f"equal: {same.equals(column)}; pandas imported before: {before}, after: {after}")
sys.exit(0 if same.equals(column) and not before and after else 1)
PROGRAM
