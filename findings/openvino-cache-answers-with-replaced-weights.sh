#!/usr/bin/env bash
# OpenVINO's model cache answers with the old weights after the file of weights was replaced.
# OpenVINO 2026.4.1, NumPy 2.4.6.
# Expected: with CACHE_DIR, compile_model("model.xml") compiles anew when model.bin is new: the weights are there,
# and fine-tuning changes them alone.
# Seen: the answer of the model before, from a new Core as well: the cache goes by model.xml and its time alone.
# With a touched model.xml, with core.read_model first, or without a cache, the answer is the new one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet openvino==2026.4.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import os
import sys

import numpy as np
import openvino
import openvino.opset15 as op

rows = op.parameter([-1, 4], np.float32)
model = openvino.Model([op.matmul(rows, op.constant(np.eye(4, dtype=np.float32)), False, False)], [rows])
openvino.save_model(model, "model.xml", compress_to_fp16=False)
core, other, plain = openvino.Core(), openvino.Core(), openvino.Core()
core.set_property({"CACHE_DIR": "cache"})
other.set_property({"CACHE_DIR": "cache"})


def answer(core, model="model.xml"):
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return float(compiled(np.ones((1, 4), np.float32))[0][0, 0])


assert answer(core) == answer(plain) == 1
(np.eye(4, dtype=np.float32) * 7).tofile("model.bin")
later = os.stat("model.xml").st_mtime + 60
os.utime("model.bin", (later, later))
cached, read, fresh = answer(other), answer(core, core.read_model("model.xml")), answer(plain)
print("weights of 1 replaced by 7: with a cache", cached, "read first", read, "without a cache", fresh)
assert fresh == read == 7
if cached == 7:
    sys.exit("changed: new weights are seen")
PROGRAM
