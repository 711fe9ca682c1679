#!/usr/bin/env bash
# Ctrl-C during a query is lost where sqlite3 has a callback in Python: it becomes an error of the database.
# CPython 3.11.7 with SQLite's progress handler and functions; no package.
# Expected: KeyboardInterrupt, or at least an error that has it as its cause.
# Seen: signals are handled at the next Python code, and that is the callback, whose exceptions sqlite3 drops. The
# query ends with OperationalError "interrupted" (progress handler) or "user-defined function raised exception",
# without __cause__ and __context__; "except KeyboardInterrupt" hears nothing, and "except sqlite3.Error" goes on.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import signal
import sqlite3
import sys

NUMBERS = "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t WHERE x < 100000) "
calls = 0


def callback(number=None):
    global calls
    calls += 1
    if calls == 3:
        signal.raise_signal(signal.SIGINT)
    return number


def interrupted(query):
    global calls
    calls = 0
    try:
        database.execute(NUMBERS + query).fetchall()
    except BaseException as error:
        return error
    return None


database = sqlite3.connect(":memory:")
database.create_function("score", 1, callback)
function = interrupted("SELECT sum(score(x)) FROM t")
database.set_progress_handler(callback, 1000)
handler = interrupted("SELECT sum(x) FROM t")
for error in (handler, function):
    print(type(error).__name__, error, "cause:", error.__cause__, "context:", error.__context__)
if any(isinstance(error, KeyboardInterrupt) for error in (handler, function)):
    sys.exit("changed: Ctrl-C arrives")
for error in (handler, function):
    assert isinstance(error, sqlite3.OperationalError) and error.__cause__ is None and error.__context__ is None
PROGRAM
