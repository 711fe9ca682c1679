#!/usr/bin/env bash
# After a function in a module was edited, datasets answers with what the old code gave.
# datasets 5.2.0.
# Expected: map() keeps its results under a hash of the function, so an edit computes anew, as it does for a
# function in the script itself.
# Seen: functions of imported modules are hashed by their name. With score() of steps.py edited from x to 10 x, a
# new process still reads 1 and 2 for map(steps.score), for a lambda that calls it, and for filter(steps.keep). With
# load_from_cache_file=False it is 10 and 20.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import os
import pathlib
import subprocess
import sys

program = """
import datasets, steps
rows = datasets.load_dataset("json", data_files="rows.json", split="train")
for options in ({}, {"load_from_cache_file": False}):
    scored, called = rows.map(steps.score, **options), rows.map(lambda row: steps.score(row), **options)
    print(*scored["y"], *called["y"], len(rows.filter(steps.keep, **options)))
"""
steps = """
def score(row):
    return {"y": row["x"] * FACTOR}

def keep(row):
    return row["x"] * FACTOR > 5
"""
pathlib.Path("rows.json").write_text('{"x": 1}\n{"x": 2}\n')
environment = {
    **os.environ,
    "HF_DATASETS_OFFLINE": "1",
    "HF_HOME": os.path.abspath("home"),
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONPATH": os.getcwd(),
}


def results(factor):
    pathlib.Path("steps.py").write_text(steps.replace("FACTOR", factor))
    return subprocess.check_output([sys.executable, "-c", program], env=environment, text=True).splitlines()


first, (kept, computed) = results("1"), results("10")
print("before:", first[0], "after the edit:", kept, "without the cache:", computed)
assert first == ["1 2 1 2 0"] * 2
assert computed == "10 20 10 20 2"
if kept == computed:
    sys.exit("changed: an edit computes anew")
assert kept == first[0]
PROGRAM
