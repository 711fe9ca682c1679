#!/usr/bin/env bash
# Importing NNCF gives its user a number and keeps it in the home folder, with telemetry switched off.
# NNCF 3.4.0, openvino-telemetry 2025.2.0.
# Expected: with NNCF_CI=1 NNCF takes a stand-in that sends nothing, so nothing is made that only sending needs.
# Seen: ~/intel/openvino_ga_cid (a random number of this user) and ~/intel/stats appear at "import nncf": the
# telemetry object is made first, and the switch is looked at afterwards.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet nncf==3.4.0 openvino-telemetry==2025.2.0
cd "$folder"
mkdir home
HOME=$folder/home NNCF_CI=1 "$folder/venv/bin/python" -c "import nncf"
"$folder/venv/bin/python" - <<'PROGRAM'
import pathlib
import sys

home = pathlib.Path("home")
files = sorted(path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file())
print("in the home folder:", *files)
if "intel/openvino_ga_cid" not in files:
    sys.exit("changed: no number of the user is kept")
PROGRAM
