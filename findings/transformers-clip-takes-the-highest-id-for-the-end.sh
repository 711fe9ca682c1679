#!/usr/bin/env bash
# CLIPTextModel with eos_token_id=2 takes the vector of the highest token id for the text's, not that of token
# 2.
# transformers 5.23.0, torch 2.13.0.
# Expected: the end of a text is where eos_token_id stands; 2 is the end in many vocabularies (0 padding, 1
# start, 2 end).
# Seen: 2 is taken for an old mistake in published configurations, silently: of the ids 1, 7, 40, 9, 2 the
# pooled row is that of 40. With eos_token_id=3 and 3 at the end it is that of the end.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import sys

import torch
from transformers import CLIPTextConfig, CLIPTextModel


def pooled_at(end):
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        bos_token_id=1, eos_token_id=end, pad_token_id=0,
    )
    given = CLIPTextModel(config).eval()(torch.tensor([[1, 7, 40, 9, end]]))
    return [place for place, row in enumerate(given.last_hidden_state[0]) if torch.allclose(row, given.pooler_output[0])]


two, three = pooled_at(2), pooled_at(3)
print("pooled at place, end is 2:", two, "end is 3:", three)
assert three == [4], "another end than 2 changed"
if two == [4]:
    sys.exit("changed: 2 is an end like any other")
assert two == [2]
PROGRAM
