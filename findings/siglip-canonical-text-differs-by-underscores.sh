#!/usr/bin/env bash
# SigLIP's "canonical" text is fire truck in open_clip and firetruck in transformers, for fire_truck.
# open_clip 3.3.0, transformers 5.23.0, sentencepiece 0.2.3, protobuf 7.36.2, torch 2.13.0.
# Expected: the two agree, since both follow the same recipe (no punctuation, small letters, single spaces).
# Labels of class folders have underscores.
# Seen: open_clip makes a space of an underscore before it takes punctuation away, transformers takes it away
# with the rest; other strings are the same.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 pillow==13.0.0 ftfy==6.3.1 regex==2026.11.15 huggingface_hub==2.4.0 safetensors==0.8.0 tqdm==4.70.1 pyyaml==6.0.3 transformers==5.23.0 sentencepiece==0.2.3 protobuf==7.36.2
"$folder/venv/bin/pip" install --quiet --no-deps torchvision==0.29.1 timm==1.0.31 open_clip_torch==3.3.0
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import pathlib
import sys

import sentencepiece
import torch

if torch.version.cuda is None:  # a build of torchvision for CUDA has its operators out of reach here
    operators = torch.library.Library("torchvision", "DEF")
    operators.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    operators.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from open_clip.tokenizer import canonicalize_text
from transformers import SiglipTokenizer

words = "a red fire truck and a small dog on the grass of the park by an old house with two trees".split()
pathlib.Path("text.txt").write_text("\n".join(" ".join(words[i:] + words[:i]) for i in range(len(words))))
sentencepiece.SentencePieceTrainer.train(
    input="text.txt", model_prefix="small", vocab_size=60, hard_vocab_limit=False, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2
)
tokenizer = SiglipTokenizer("small.model")
for text in ("A Red Truck!", "two  trees, a dog's house"):
    assert canonicalize_text(text) == tokenizer.canonicalize_text(text), f"{text} differs"
by_open_clip, by_transformers = canonicalize_text("fire_truck"), tokenizer.canonicalize_text("fire_truck")
print("open_clip:", by_open_clip, "transformers:", by_transformers)
if by_open_clip == by_transformers:
    sys.exit("changed: both agree")
assert (by_open_clip, by_transformers) == ("fire truck", "firetruck")
ids = [tokenizer(text)["input_ids"] for text in ("fire_truck", "fire truck")]
print("ids in transformers, fire_truck:", ids[0], "fire truck:", ids[1])
assert ids[0] != ids[1]
PROGRAM
