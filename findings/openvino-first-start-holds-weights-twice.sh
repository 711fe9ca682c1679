#!/usr/bin/env bash
# On the first start with a cache OpenVINO holds an ONNX model's weights twice, on the next start once.
# OpenVINO 2026.4.1, NumPy 2.4.6, ONNX 1.23.2, on Linux and a processor with AVX2 or AVX-512.
# Expected: once compiled, a model holds the weights in the order that it computes in, and those that it was read with
# are let go: they are not used again, and the same CACHE_DIR costs the same memory on every start.
# Seen: of 64 MB of float32 matrices 134 MB stay in anonymous memory (after malloc_trim) while the compiled model lives,
# with a cache or without. The next start, which reads the cache's file, holds 70 MB: there the weights as they were
# are pages of the mapped file, which the kernel may drop. It is 70 MB at once for the same model from model.xml and
# model.bin, or with its weights beside the ONNX file (external data).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet openvino==2026.4.1 numpy==2.4.6 onnx==1.23.2
cd "$folder"
cat > held.py <<'PROGRAM'
"""Prints the bytes of anonymous memory that the compiled model takes."""

import ctypes
import json
import pathlib
import sys

import numpy as np
import openvino


def anonymous():
    ctypes.CDLL(None).malloc_trim(0)
    rows = dict(line.split()[:2] for line in pathlib.Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    return int(rows["Anonymous:"]) * 1024


core = openvino.Core()
core.set_property(json.loads(sys.argv[2]))
before = anonymous()
options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
compiled = core.compile_model(sys.argv[1], "CPU", options)
compiled(np.ones((4, 1024), np.float32))
print(anonymous() - before)
PROGRAM
timeout 600 "$folder/venv/bin/python" - <<'PROGRAM'
import json
import os
import subprocess
import sys

import numpy as np
import onnx
import openvino
from onnx import helper, numpy_helper

random = np.random.default_rng(0)
matrices = [(random.normal(size=(1024, 1024)) / 32).astype(np.float32) for _ in range(16)]
weights = sum(matrix.nbytes for matrix in matrices)
clean = {name: value for name, value in os.environ.items() if not name.startswith(("ONEDNN_", "DNNL_"))}


def network():
    nodes = []
    for layer in range(len(matrices)):
        nodes.append(helper.make_node("MatMul", [f"x{layer}", f"w{layer}"], [f"y{layer}"]))
        nodes.append(helper.make_node("Relu", [f"y{layer}"], [f"x{layer + 1}"]))
    stored = [numpy_helper.from_array(matrix, f"w{layer}") for layer, matrix in enumerate(matrices)]
    ends = [helper.make_tensor_value_info(f"x{end}", onnx.TensorProto.FLOAT, [None, 1024]) for end in (0, len(matrices))]
    graph = helper.make_graph(nodes, "layers", ends[:1], ends[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def held(name, file, **properties):
    program = [sys.executable, "held.py", file, json.dumps(properties)]
    size = int(subprocess.run(program, env=clean, check=True, stdout=subprocess.PIPE, text=True).stdout)
    print(f"{name}: {size / 2**20:.0f} MB for {weights / 2**20:.0f} MB of weights")
    return size / weights


onnx.save(network(), "model.onnx")
onnx.save(network(), "beside.onnx", save_as_external_data=True, location="beside.data")
openvino.save_model(openvino.Core().read_model("model.onnx"), "model.xml", compress_to_fp16=False)
without = held("ONNX, no cache", "model.onnx")
first = held("ONNX, first start with a cache", "model.onnx", CACHE_DIR="cache")
second = held("ONNX, second start", "model.onnx", CACHE_DIR="cache")
others = [held("model.xml and model.bin", "model.xml"), held("ONNX and external data", "beside.onnx")]
assert max(second, *others) < 1.5, "mapped files are held twice as well, or this processor has no AVX2"
if max(without, first) < 1.6:
    sys.exit("changed: weights are held once")
assert min(without, first) > 1.6 and max(without, first) < 3
PROGRAM
