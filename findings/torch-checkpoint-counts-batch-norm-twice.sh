#!/usr/bin/env bash
# Gradient checkpointing counts every batch twice in batch norm's running statistics.
# torch 2.13.0, NumPy 2.4.6.
# Expected: checkpoint trades time for memory and nothing else: the same loss, gradients and buffers. It keeps
# the state of random numbers for that.
# Seen: the second run of the forward pass updates the statistics again: num_batches_tracked is 2 after one step
# and the running mean goes nearly twice as far (0.19 of the way in place of 0.1). Evaluation of a CLIP with a
# ResNet differs by whether it was trained so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import sys

import torch
from torch.utils.checkpoint import checkpoint

pixels = torch.full((8, 4, 5, 5), 3.0).requires_grad_()


def after_one_step(checkpointed):
    norm = torch.nn.BatchNorm2d(4)
    out = checkpoint(norm, pixels, use_reentrant=False) if checkpointed else norm(pixels)
    out.sum().backward()
    return norm.num_batches_tracked.item(), norm.running_mean[0].item() / 3


plain, twice = after_one_step(False), after_one_step(True)
print("batches counted and share of the way, plain:", plain, "checkpointed:", twice)
assert plain[0] == 1 and abs(plain[1] - 0.1) < 1e-5, "plain batch norm changed"
if twice == plain:
    sys.exit("changed: statistics are the same")
assert twice[0] == 2 and abs(twice[1] - 0.19) < 1e-5
PROGRAM
