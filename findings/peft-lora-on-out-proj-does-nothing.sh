#!/usr/bin/env bash
# PEFT takes "out_proj" of torch's MultiheadAttention for a target, and the adapter then neither changes the
# output nor gets a gradient.
# peft 0.21.2, torch 2.13.0, transformers 5.23.0. open_clip's towers are made of this attention.
# Expected: an adapter, or an error: the module is a kind of linear layer and its name was found.
# Seen: MultiheadAttention reads out_proj.weight and never calls out_proj, so what PEFT put around it is passed
# by; print_trainable_parameters counts it, output with and without the adapter is equal to the bit, backward
# leaves its gradients None. The linear layer beside it learns.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 peft==0.21.2 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import sys

import peft
import torch


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = torch.nn.MultiheadAttention(16, 2, batch_first=True)
        self.linear = torch.nn.Linear(16, 16)

    def forward(self, rows):
        return self.linear(self.attention(rows, rows, rows, need_weights=False)[0])


torch.manual_seed(0)
config = peft.LoraConfig(target_modules=["out_proj", "linear"], r=4, init_lora_weights=False)
model = peft.get_peft_model(Block(), config)
rows = torch.randn(1, 3, 16)
model(rows).sum().backward()
learns = {name: p.grad is not None for name, p in model.named_parameters() if p.requires_grad}
for name, has_gradient in learns.items():
    print(name, "has a gradient:", has_gradient)
assert all(has for name, has in learns.items() if ".linear." in name), "the linear layer changed"
beside = [has for name, has in learns.items() if ".out_proj." in name]
assert len(beside) == 2, "PEFT put no adapter around out_proj"
if any(beside):
    sys.exit("changed: the adapter of out_proj learns")
alone = peft.get_peft_model(Block(), peft.LoraConfig(target_modules=["out_proj"], r=4, init_lora_weights=False))
with_adapter = alone(rows)
with alone.disable_adapter():
    assert torch.equal(alone(rows), with_adapter), "the adapter of out_proj changes the output"
PROGRAM
