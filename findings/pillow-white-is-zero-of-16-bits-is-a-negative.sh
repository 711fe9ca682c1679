#!/usr/bin/env bash
# Pillow turns a TIFF that counts white as zero round in 8 bits, and leaves it a negative in 16.
# Pillow 13.0.0, tifffile 2026.3.3, NumPy 2.4.6.
# Expected: one and the same picture from both, since PhotometricInterpretation 0 says the same whatever the
# depth.
# Seen: a ramp from black to white starts at 0 in 8 bits (mode L) and at 65535 in 16 (mode I;16).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0 tifffile==2026.3.3 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import io
import sys

import numpy as np
import tifffile
from PIL import Image

black_to_white = np.tile(np.linspace(0, 1, 64), (64, 1))
seen = {}
for kind, white in ((np.uint8, 255), (np.uint16, 65535)):
    written = io.BytesIO()
    stored = np.round((1 - black_to_white) * white).astype(kind)  # 0 is white
    tifffile.imwrite(written, stored, photometric="miniswhite")
    written.seek(0)
    picture = Image.open(written)
    pixels = np.asarray(picture).astype(int)
    seen[picture.mode] = (pixels[0, 0], pixels[0, -1])
    print(np.dtype(kind), picture.mode, "left (black):", pixels[0, 0], "right (white):", pixels[0, -1])
assert seen["L"] == (0, 255), "8 bits changed"
if seen["I;16"] == (0, 65535):
    sys.exit("changed: 16 bits are turned round, too")
assert seen["I;16"] == (65535, 0)
PROGRAM
