#!/usr/bin/env bash
# A model made by onnx 1.23 with its defaults is refused by onnxruntime 1.31, both current at the same time.
# onnx 1.23.2, onnxruntime 1.31.1, NumPy 2.4.6.
# Expected: a model of one Relu, with no version asked for, runs: neither
# package's requirements rule the pair out.
# Seen: make_model says IR version 14; onnxruntime reads up to 13 and fails with "Unsupported model IR version".
# Set to 10 by hand, it runs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnx==1.23.2 onnxruntime==1.31.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

numbers = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y")]
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", numbers[:1], numbers[1:])


def run(model):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.array([-1, 1], np.float32)})[0].tolist()


opset = [helper.make_opsetid("", 20)]
assert run(helper.make_model(graph, ir_version=10, opset_imports=opset)) == [0, 1]
model = helper.make_model(graph, opset_imports=opset)
try:
    run(model)
except Exception as error:
    print("IR version", model.ir_version, str(error)[-70:])
    assert "Unsupported model IR version" in str(error), "another error than before"
else:
    sys.exit("changed: the pair fits")
PROGRAM
