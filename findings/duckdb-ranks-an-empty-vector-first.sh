#!/usr/bin/env bash
# In DuckDB a vector of zeros is the best hit by cosine similarity and the worst by cosine distance.
# DuckDB 2.0.1.
# Expected: ORDER BY similarity DESC and ORDER BY distance give one order, and a threshold leaves out what has no
# direction.
# Seen: the similarity of zeros is NaN, which DuckDB holds greater than every number: zeros (a failed picture) come
# first, arg_max returns them, and "similarity > 0.5" is true for them. By distance they come last.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet duckdb==2.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import sys

import duckdb

database = duckdb.connect()
database.execute("CREATE TABLE pictures (name TEXT, vector FLOAT[2])")
database.execute("INSERT INTO pictures VALUES ('failed', [0, 0]), ('cat', [1, 0]), ('dog', [0, 1])")
SIMILARITY = "array_cosine_similarity(vector, [0.9, 0.1]::FLOAT[2])"
DISTANCE = "array_cosine_distance(vector, [0.9, 0.1]::FLOAT[2])"


def names(rest, what="name"):
    return [name for (name,) in database.execute(f"SELECT {what} FROM pictures {rest}").fetchall()]


similar, near = names(f"ORDER BY {SIMILARITY} DESC"), names(f"ORDER BY {DISTANCE}")
passed, best = names(f"WHERE {SIMILARITY} > 0.5"), names("", f"arg_max(name, {SIMILARITY})")
print("by similarity:", similar, "by distance:", near, "above 0.5:", passed, "arg_max:", best)
assert near == ["cat", "dog", "failed"]
if similar == near:
    sys.exit("changed: both give one order")
assert similar[0] == "failed" and "failed" in passed and best == ["failed"]
PROGRAM
