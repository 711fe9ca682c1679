#!/usr/bin/env bash
# load_state_dict() that raises has loaded all the same.
# torch 2.13.0, NumPy 2.4.6.
# Expected: with strict=True a checkpoint is loaded whole or not at all: what fails leaves the model as it was, so
# one may try the next checkpoint, or go on.
# Seen: for a missing bias, or one of another length, it raises RuntimeError, and the weights are those of the
# checkpoint by then; the bias is the old one: a model of two halves. Names and shapes are compared layer by layer
# while the numbers are copied.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import sys

import torch


def refused(checkpoint):
    model = torch.nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.fill_(1)
        model.bias.fill_(1)
    try:
        model.load_state_dict(checkpoint)
    except RuntimeError:
        return model.weight[0, 0].item(), model.bias[0].item()
    raise AssertionError("it is not refused")


weight = torch.full((2, 2), 7.0)
missing, longer = refused({"weight": weight}), refused({"weight": weight, "bias": torch.full((3,), 7.0)})
print("weight and bias, 1 before, 7 in the refused checkpoint: bias missing", missing, "of another length", longer)
if missing == longer == (1, 1):
    sys.exit("changed: what is refused is not loaded")
assert missing == longer == (7, 1)
PROGRAM
