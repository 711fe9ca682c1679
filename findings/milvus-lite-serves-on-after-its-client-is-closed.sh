#!/usr/bin/env bash
# MilvusClient("x.db").close() leaves the file open, and no other process can open it.
# pymilvus 3.0.2, milvus-lite 3.2.2.
# Expected: close() of the client that opened the file closes it, as in sqlite3, and the next process opens it.
# Seen: the client starts a server in threads of its process, and close() closes the connection to it alone. Another
# process gets ConnectionConfigException "Open local milvus failed", without a reason in it, until the first one ends or
# calls milvus_lite.server_manager.server_manager_instance.release_server, which pymilvus does not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pymilvus==3.0.2 milvus-lite==3.2.2
cd "$folder"
cat >other.py <<'PROGRAM'
import pymilvus

try:
    print(pymilvus.MilvusClient("pictures.db", timeout=20).list_collections())
except pymilvus.exceptions.ConnectionConfigException as error:
    print(error.message)
PROGRAM
timeout 180 "$folder/venv/bin/python" - 2>log <<'PROGRAM'
import subprocess
import sys

import pymilvus
from milvus_lite.server_manager import server_manager_instance


def opened_by_another():
    done = subprocess.run([sys.executable, "other.py"], stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    return done.stdout.strip()


client = pymilvus.MilvusClient("pictures.db", timeout=30)
client.create_collection("pictures", dimension=4)
client.insert("pictures", [{"id": 7, "vector": [1, 0, 0, 0]}])
client.close()
after_close = opened_by_another()
print("after close():", after_close)
if after_close == "['pictures']":
    sys.exit("changed: close() closes the file")
server_manager_instance.release_server("pictures.db")
released = opened_by_another()
print("after release_server():", released)
assert after_close == "Open local milvus failed" and released == "['pictures']"
PROGRAM
