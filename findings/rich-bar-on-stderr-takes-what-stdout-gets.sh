#!/usr/bin/env bash
# A progress bar of rich on stderr sends what the program prints on stdout to stderr as well.
# rich 15.0.0.
# Expected: Console(stderr=True) keeps the bar out of the way of the results: search.py > hits.txt shows the bar
# on the terminal and has the hits in the file.
# Seen: hits.txt is empty and the hits are on the terminal, between the bars: while a bar runs, sys.stdout writes
# to the console of the bar, whichever stream that is. Only where stderr is no terminal, or with
# redirect_stdout=False, do they arrive.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet rich==15.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import os
import subprocess
import sys

program = """
import sys
from rich.console import Console
from rich.progress import Progress
with Progress(console=Console(stderr=True), redirect_stdout=sys.argv[1] == "default") as bar:
    for number in bar.track(range(3)):
        print("hit", number)
"""


def lines(terminal, redirect):
    environment = {**os.environ, "TERM": "xterm", "TTY_COMPATIBLE": terminal}
    command = [sys.executable, "-c", program, redirect]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.count("hit"), done.stderr.count("hit")


default, none, off = lines("1", "default"), lines("0", "default"), lines("1", "off")
print("hits on stdout and stderr: with a bar", default, "without a terminal", none, "redirect_stdout=False", off)
assert none == (3, 0) and off == (3, 0)
if default != (0, 3):
    sys.exit("changed: what stdout gets stays there")
PROGRAM
