#!/usr/bin/env bash
# ONNX Runtime on Linux makes a number for the device and a database of events in the home folder at its import,
# and the function that switches telemetry off comes too late.
# ONNX Runtime 1.31.1 on Linux.
# Expected: telemetry is Windows' alone, as it long was; or disable_telemetry_events() right after the import
# leaves nothing behind.
# Seen: ~/.cache/Microsoft/DeveloperTools/.onnxruntime holds deviceid and onnxruntime.db. With
# ORT_DISABLE_TELEMETRY=1 before the import the home folder stays empty. (Run without a network, in a namespace.)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.31.1 numpy==2.4.6
cd "$folder"
mkdir called variable
unset XDG_CACHE_HOME
program="import onnxruntime; onnxruntime.disable_telemetry_events()"
HOME=$folder/called unshare --map-root-user --net "$folder/venv/bin/python" -c "$program"
HOME=$folder/variable ORT_DISABLE_TELEMETRY=1 unshare --map-root-user --net "$folder/venv/bin/python" -c "$program"
"$folder/venv/bin/python" - <<'PROGRAM'
import pathlib
import sys


def files(home):
    return sorted(path.relative_to(home).as_posix() for path in pathlib.Path(home).rglob("*") if path.is_file())


called, variable = files("called"), files("variable")
print("switched off after the import:", *called)
print("switched off before it:", *variable)
assert not variable, "the variable no longer keeps the folder empty"
if not any(name.endswith("deviceid") for name in called):
    sys.exit("changed: no number of the device is kept")
PROGRAM
