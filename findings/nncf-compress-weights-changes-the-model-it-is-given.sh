#!/usr/bin/env bash
# nncf.compress_weights rounds the weights of the very model that it is given; nncf.quantize, beside it, works
# on a copy.
# NNCF 3.4.0, OpenVINO 2026.4.1, NumPy 2.4.6.
# Expected: the same of both: a new model comes back, and the one given still serves to measure what was lost.
# Seen: compress_weights returns the object that it was given, whose outputs have moved, so "before" and "after"
# are equal and the loss seems to be nothing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet nncf==3.4.0 openvino==2026.4.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import logging
import sys

import nncf
import numpy as np
import openvino
import openvino.opset15 as op

nncf.set_log_level(logging.ERROR)
random = np.random.default_rng(0)
weights = random.normal(size=(256, 256)).astype(np.float32)


def network():
    rows = op.parameter([-1, 256], np.float32)
    return openvino.Model([op.matmul(rows, op.constant(weights), False, True)], [rows])


def outputs(model):
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled(np.eye(256, dtype=np.float32))[0]


given = network()
before = outputs(given)
quantized = nncf.quantize(given, nncf.Dataset([random.normal(size=(4, 256)).astype(np.float32) for _ in range(4)]))
assert quantized is not given and np.array_equal(outputs(given), before), "quantize changed its argument"
compressed = nncf.compress_weights(given)
moved = float(np.abs(outputs(given) - before).max())
print("the same object:", compressed is given, "outputs of the model given moved by", moved)
if compressed is not given and moved == 0:
    sys.exit("changed: it works on a copy")
assert compressed is given and moved > 1e-3
PROGRAM
