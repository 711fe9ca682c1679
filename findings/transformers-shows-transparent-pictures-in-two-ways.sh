#!/usr/bin/env bash
# transformers lays a transparent picture on white where the processor gets it, and shows its hidden colours
# where load_image (and so every pipeline) reads it.
# transformers 5.23.0, Pillow 13.0.0, NumPy 2.4.6, torch 2.13.0.
# Expected: one picture, whether processor(Image.open(path)) or processor(load_image(path)).
# Seen: a black drawing on transparent ground, stored with black beneath as most programs do, has white ground
# by convert_to_rgb, which image processors use, and is black all over by load_image.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 pillow==13.0.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import sys

import numpy as np
from PIL import Image
from transformers.image_transforms import convert_to_rgb
from transformers.image_utils import load_image

pixels = np.zeros((64, 64, 4), np.uint8)
pixels[20:40, 20:40, 3] = 255
Image.fromarray(pixels).save("drawing.png")
processed = np.asarray(convert_to_rgb(Image.open("drawing.png")))
loaded = np.asarray(load_image("drawing.png"))
print("ground by convert_to_rgb:", processed[0, 0], "by load_image:", loaded[0, 0])
assert processed[0, 0].tolist() == [255, 255, 255] and processed[30, 30].tolist() == [0, 0, 0], "convert_to_rgb changed"
if loaded.max() == 255:
    sys.exit("changed: load_image lays on white, too")
assert not loaded.any()
PROGRAM
