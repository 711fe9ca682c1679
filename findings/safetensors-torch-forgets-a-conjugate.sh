#!/usr/bin/env bash
# safetensors saves the conjugate of a tensor as the tensor itself, and a negated view without its sign.
# safetensors 0.8.0, torch 2.13.0, NumPy 2.4.6.
# Expected: load_file gives what save_file got, or save_file refuses it, as it refuses a transposed tensor.
# Seen: 1-2j comes back as 1+2j, and its imaginary part -2 as 2. conj() of PyTorch sets a bit and leaves the
# numbers as they are; save_file writes the numbers. torch.save keeps both, resolve_conj() and resolve_neg() help.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 safetensors==0.8.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import sys

import torch
from safetensors.torch import load_file, save_file

conjugate, imaginary = torch.tensor([1 + 2j]).conj(), torch.tensor([1 + 2j]).conj().imag
save_file({"conjugate": conjugate, "imaginary": imaginary}, "lazy.safetensors")
save_file({"conjugate": conjugate.resolve_conj(), "imaginary": imaginary.resolve_neg()}, "real.safetensors")
torch.save(conjugate, "conjugate.pt")
lazy, real = load_file("lazy.safetensors"), load_file("real.safetensors")
print("saved", conjugate.tolist(), imaginary.tolist())
print("loaded", lazy["conjugate"].tolist(), lazy["imaginary"].tolist())
assert torch.equal(torch.load("conjugate.pt"), conjugate), "torch.save forgets it as well"
assert torch.equal(real["conjugate"], conjugate) and torch.equal(real["imaginary"], imaginary)
if torch.equal(lazy["conjugate"], conjugate) and torch.equal(lazy["imaginary"], imaginary):
    sys.exit("changed: what was saved is loaded")
PROGRAM
