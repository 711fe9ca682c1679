#!/usr/bin/env bash
# transformers 5.23.0, tokenizers as pip brings it.
#
# Stable Diffusion 2's tokenizer pads with "!", because id 0 is that piece in CLIP's vocabulary. A CLIPTokenizer that is
# told so makes "!" a special token, and special tokens are cut out of a text before it is split: an exclamation mark at
# the end of a word, which has an id of its own ("!</w>"), becomes the padding's id, the state of the text tower with it,
# and attention_mask 1. One would expect the choice of a padding token to change what is padded, not how words are read.
#
# Seen, for "a!" without and with pad_token="!":
#   [4, 3, 1, 5] ['a</w>', '!</w>']
#   [4, 3, 0, 5] ['a</w>', '!']
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet transformers==5.23.0
cd "$work"
"$work/venv/bin/python" - <<'PY' 2>/dev/null | tee said.txt
import json
from pathlib import Path

from transformers import CLIPTokenizer

words = ["!", "!</w>", "a", "a</w>", "<|startoftext|>", "<|endoftext|>"]
Path("vocab.json").write_text(json.dumps({word: at for at, word in enumerate(words)}))
Path("merges.txt").write_text("#version: 0.2\n")
for options in ({}, {"pad_token": "!"}):
    tokenizer = CLIPTokenizer("vocab.json", "merges.txt", **options)
    print(tokenizer("a!").input_ids, tokenizer.tokenize("a!"))
PY
diff said.txt - <<'SEEN'
[4, 3, 1, 5] ['a</w>', '!</w>']
[4, 3, 0, 5] ['a</w>', '!']
SEEN
