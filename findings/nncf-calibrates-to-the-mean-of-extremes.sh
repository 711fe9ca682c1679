#!/usr/bin/env bash
# By default NNCF sets the range of an activation to the mean of each calibration sample's extremes, so it clips
# samples that it was calibrated with.
# NNCF 3.4.0, OpenVINO 2026.4.1, NumPy 2.4.6.
# Expected: calibration covers what it has seen (or all but an outlier's share of the numbers): "min-max" says
# so.
# Seen: 90 samples within 1 and 10 within 10: an identity layer gives 1.9 for an input of 9.9 that was among
# them. With the extremes of all it gives 9.9.
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
from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
from nncf.quantization.range_estimator import RangeEstimatorParametersSet

nncf.set_log_level(logging.ERROR)
random = np.random.default_rng(0)
samples = [random.uniform(-1, 1, (1, 64)).astype(np.float32) for _ in range(100)]
for number in range(0, 100, 10):
    samples[number] *= 10
rows = op.parameter([-1, 64], np.float32)
identity = openvino.Model([op.matmul(rows, op.constant(np.eye(64, dtype=np.float32)), False, True)], [rows])


def largest(**options):
    model = nncf.quantize(identity, nncf.Dataset(samples), **options)
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return float(compiled(samples[0])[0].max())


true, default = float(samples[0].max()), largest()
covering = AdvancedQuantizationParameters(activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX)
covered = largest(advanced_parameters=covering)
print(f"largest input {true:.2f}, output by default {default:.2f}, with the extremes of all {covered:.2f}")
assert abs(covered - true) < 0.1, "extremes of all changed"
if abs(default - true) < 0.1:
    sys.exit("changed: the default covers what it has seen")
assert 1.5 < default < 2.5, "it clips elsewhere than before"
PROGRAM
