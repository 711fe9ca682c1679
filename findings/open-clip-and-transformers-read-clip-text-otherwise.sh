#!/usr/bin/env bash
# open_clip and transformers give the same caption other ids, with the same vocabulary and merges of CLIP.
# open_clip 3.3.0, transformers 5.23.0, tokenizers 0.23.3, ftfy 6.3.1, torch 2.13.0.
# Expected: one tokenizer in two implementations, as for plain letters.
# Seen: open_clip mends the text first (ftfy, HTML entities), transformers does not: a curly apostrophe, a
# ligature, fullwidth letters and &amp; differ. Captions of the web have all of them, and vectors of both do not
# fit each other there.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 pillow==13.0.0 ftfy==6.3.1 regex==2026.11.15 huggingface_hub==2.4.0 safetensors==0.8.0 tqdm==4.70.1 pyyaml==6.0.3 transformers==5.23.0 tokenizers==0.23.3
"$folder/venv/bin/pip" install --quiet --no-deps torchvision==0.29.1 timm==1.0.31 open_clip_torch==3.3.0
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import sys

import torch

if torch.version.cuda is None:  # a build of torchvision for CUDA has its operators out of reach here
    operators = torch.library.Library("torchvision", "DEF")
    operators.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    operators.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from open_clip.tokenizer import SimpleTokenizer
from transformers import CLIPTokenizer

theirs = SimpleTokenizer()
marks = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
vocabulary = {marks.get(word, word): number for word, number in theirs.encoder.items()}
merges = sorted(theirs.bpe_ranks, key=theirs.bpe_ranks.get)
other = CLIPTokenizer(vocab=vocabulary, merges=merges)


def ids(text):
    padded = theirs([text])[0].tolist()
    return padded[: padded.index(theirs.eot_token_id) + 1], other(text)["input_ids"]


for text in ("a dog", "It's a dog on the beach, 2 of 3!", "caf\u00e9"):
    assert ids(text)[0] == ids(text)[1], f"plain text differs: {text}"
for text in ("It\u2019s a dog", "salt &amp; pepper", "\ufb01sh", "\uff21\uff22\uff23"):
    by_open_clip, by_transformers = ids(text)
    print(repr(text), "open_clip:", by_open_clip, "transformers:", by_transformers)
    if by_open_clip == by_transformers:
        sys.exit(f"changed: both read {text!r} alike")
PROGRAM
