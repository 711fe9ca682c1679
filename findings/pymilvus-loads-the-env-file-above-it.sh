#!/usr/bin/env bash
# Importing pymilvus sets environment variables from a .env file that neither the program nor its user named.
# pymilvus 3.0.2 (python-dotenv 1.2.4).
# Expected: a client library reads the environment, and import leaves it as it is; or it reads .env of the folder that the
# program is started in, as others that call load_dotenv() do from there.
# Seen: import calls load_dotenv(), which looks for .env from the file that calls it upwards: from site-packages, so the
# .env of the project that the virtual environment lies in enters os.environ (and the environment of every child process)
# whichever program is run, wherever it lies and is started. The .env of the folder that it is started in is not read.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/project" "$folder/elsewhere"
python3 -m venv "$folder/project/.venv"
"$folder/project/.venv/bin/pip" install --quiet pymilvus==3.0.2 python-dotenv==1.2.4
echo "CUDA_VISIBLE_DEVICES=7" >"$folder/project/.env"
echo "OMP_NUM_THREADS=3" >"$folder/elsewhere/.env"
cd "$folder/elsewhere"
cat >program.py <<'PROGRAM'
import os
import sys

before = dict(os.environ)
import pymilvus

new = {key: value for key, value in os.environ.items() if before.get(key) != value}
print("after import pymilvus", pymilvus.__version__, "new in os.environ:", new)
if not new:
    sys.exit("changed: import leaves the environment as it is")
assert new == {"CUDA_VISIBLE_DEVICES": "7"}
PROGRAM
env -u CUDA_VISIBLE_DEVICES -u OMP_NUM_THREADS timeout 120 "$folder/project/.venv/bin/python" program.py
