#!/usr/bin/env bash
# open_clip's transform shrinks a palette or black-and-white picture before it makes it RGB, and Pillow can only
# pick the nearest pixel there.
# open_clip 3.3.0, Pillow 13.0.0, torch 2.13.0, torchvision 0.29.1 (its Python transforms).
# Expected: bicubic for every picture, as the transform says; whether a drawing was stored as a palette (GIF,
# small PNG) or in RGB makes no difference.
# Seen: a fine chequerboard of 448 px is middle grey from RGB, and all black from a palette and from 1 bit,
# where every second pixel alone is taken. No warning.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 pillow==13.0.0 ftfy==6.3.1 regex==2026.11.15 huggingface_hub==2.4.0 safetensors==0.8.0 tqdm==4.70.1 pyyaml==6.0.3
"$folder/venv/bin/pip" install --quiet --no-deps torchvision==0.29.1 timm==1.0.31 open_clip_torch==3.3.0
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import sys

import numpy as np
import torch

if torch.version.cuda is None:  # a build of torchvision for CUDA has its operators out of reach here
    operators = torch.library.Library("torchvision", "DEF")
    operators.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    operators.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import open_clip
from PIL import Image

transform = open_clip.image_transform(224, is_train=False, mean=(0, 0, 0), std=(1, 1, 1))
board = Image.fromarray((np.indices((448, 448)).sum(0) % 2 * 255).astype(np.uint8))
mean = {mode: float(transform(board.convert(mode)).mean()) for mode in ("RGB", "P", "1")}
print("mean of the pixels that the model gets:", mean)
assert 0.45 < mean["RGB"] < 0.55, "RGB changed"
if mean["P"] > 0.4 or mean["1"] > 0.4:
    sys.exit("changed: a palette or 1 bit is shrunk in colour or grey")
assert mean["P"] == mean["1"] == 0
PROGRAM
