#!/usr/bin/env bash
# With its cache of code for shapes turned off, OpenVINO keeps more code for shapes of attention than with it.
# OpenVINO 2026.4.1, NumPy 2.4.6, on a processor with AVX2 or AVX-512.
# Expected: CPU_RUNTIME_CACHE_CAPACITY=0 takes the least memory, at the price of time, where each batch has a shape of
# its own: nothing is kept for a shape.
# Seen: after 320 shapes of (pictures, words) two blocks of a transformer hold 43 MB more than after the first by
# default (5,000 records), 23 MB with one record, and 208 MB with none. Without the cache attention is not compiled as
# one "Subgraph" but runs as MatMul, Softmax and MatMul of oneDNN, whose own cache of 1,024 then keeps code for every
# shape of each. The property does not reach that one, only the environment does: with
# ONEDNN_PRIMITIVE_CACHE_CAPACITY=0 as well it is less than 1 MB.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet openvino==2026.4.1 numpy==2.4.6
cd "$folder"
cat > grown.py <<'PROGRAM'
"""Prints the kinds of layers, and the MB of anonymous memory that 319 more shapes take than one."""

import ctypes
import json
import pathlib
import sys

import numpy as np
import openvino
import openvino.opset15 as op

random = np.random.default_rng(0)
width = 64


def linear(words, to):
    matrix = (random.normal(size=(to, words.get_output_partial_shape(0)[2].get_length())) / 8).astype(np.float32)
    return op.matmul(words, op.constant(matrix), False, True)


def block(words):
    query, key, value = (linear(words, width) for _ in range(3))
    attention = op.softmax(op.matmul(query, key, False, True), -1)
    words = op.add(words, op.matmul(attention, value, False, False))
    return op.add(words, linear(op.gelu(linear(words, 4 * width), "ERF"), width))


def anonymous():
    ctypes.CDLL(None).malloc_trim(0)
    rows = dict(line.split()[:2] for line in pathlib.Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    return int(rows["Anonymous:"]) / 1024


start = op.parameter([-1, -1, width], np.float32)
model = openvino.Model([block(block(start))], [start])
options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, **json.loads(sys.argv[1])}
compiled = openvino.compile_model(model, "CPU", options)
kinds = {node.get_rt_info()["layerType"].get() for node in compiled.get_runtime_model().get_ordered_ops()}
request = compiled.create_infer_request()
request.infer([np.ones((8, 40, width), np.float32)])
before = anonymous()
for pictures in range(1, 9):
    for words in range(1, 41):
        request.infer([np.ones((pictures, words, width), np.float32)])
print(json.dumps([sorted(kinds), anonymous() - before]))
PROGRAM
timeout 600 "$folder/venv/bin/python" - <<'PROGRAM'
import json
import os
import subprocess
import sys

clean = {name: value for name, value in os.environ.items() if not name.startswith(("ONEDNN_", "DNNL_"))}


def grown(name, options, **environment):
    program = [sys.executable, "grown.py", json.dumps(options)]
    output = subprocess.run(program, env=clean | environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    kinds, size = json.loads(output)
    print(f"{name}: {size:.0f} MB more, layers: {', '.join(kinds)}")
    return size, "Softmax" in kinds


none = {"CPU_RUNTIME_CACHE_CAPACITY": 0}
default, apart_by_default = grown("default", {})
one, _ = grown("one record", {"CPU_RUNTIME_CACHE_CAPACITY": 1})
off, apart = grown("no record", none)
both, _ = grown("no record, and none of oneDNN", none, ONEDNN_PRIMITIVE_CACHE_CAPACITY="0")
assert default > 15, "shapes take no memory"
assert both < 10, "memory grows without both caches"
if off < 1.5 * max(default, one) or not apart or apart_by_default:
    sys.exit("changed: without the cache less is kept than with it, or this processor has no AVX2")
PROGRAM
