#!/usr/bin/env bash
# Where one line of a JSONL file has a list of captions, DuckDB puts quotation marks around the captions of all
# others.
# DuckDB 2.0.1.
# Expected: a caption is read as itself; what does not fit is an error, or a text that shows the list.
# Seen: the column is of type JSON, which is a text that is JSON: "a cat" is 7 characters with its marks, so that
# as a VARCHAR it equals 'a cat' no more, and a tokenizer gets the marks. Without the list it is 5 characters.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet duckdb==2.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import json
import pathlib
import sys

import duckdb


def captions(*rows):
    pathlib.Path("rows.jsonl").write_text("".join(json.dumps({"caption": row}) + "\n" for row in rows))
    table = duckdb.sql("SELECT caption FROM read_json('rows.jsonl')")
    found = table.filter("caption::VARCHAR = 'a cat'").fetchall()
    return str(table.types[0]), table.fetchall()[0][0], len(found)


plain, mixed = captions("a cat", "a dog"), captions("a cat", ["a dog", "a hound"])
print("type, first caption, rows found: captions alone", plain, "with a list", mixed)
assert plain == ("VARCHAR", "a cat", 1)
if mixed[1] == "a cat":
    sys.exit("changed: the caption is read as itself")
assert mixed == ("JSON", '"a cat"', 0)
PROGRAM
