#!/usr/bin/env bash
# PyArrow's filters "!=" and "not in" answer otherwise for rows without a value.
# PyArrow 26.0.1.
# Expected: ("caption", "!=", "blurred") and ("caption", "not in", ["blurred"]) read the same rows.
# Seen: "!=" leaves out the pictures that have no caption, as SQL does; "not in" reads them. SQL leaves them out
# in both (SQLite says so below).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyarrow==26.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import sqlite3
import sys

import pyarrow
from pyarrow import parquet

captions = ["blurred", None, "a boat"]
parquet.write_table(pyarrow.table({"caption": captions}), "captions.parquet")


def rows(*condition):
    return parquet.read_table("captions.parquet", filters=[condition])["caption"].to_pylist()


database = sqlite3.connect(":memory:")
database.execute("CREATE TABLE captions (caption)")
database.executemany("INSERT INTO captions VALUES (?)", [(caption,) for caption in captions])
sql = database.execute("SELECT caption FROM captions WHERE caption NOT IN ('blurred')").fetchall()
unequal, outside = rows("caption", "!=", "blurred"), rows("caption", "not in", ["blurred"])
print("!=:", unequal, "not in:", outside, "NOT IN of SQL:", sql)
assert unequal == ["a boat"] and sql == [("a boat",)]
if outside == unequal:
    sys.exit("changed: both read the same rows")
assert outside == [None, "a boat"]
PROGRAM
