#!/usr/bin/env bash
# np.asarray(picture) holds the pixels three times over at its peak.
# Pillow 13.0.0, NumPy 2.4.6.
# Expected: asarray makes no copy, or one; so a picture of 90 MB needs 90 MB or 180 MB.
# Seen: 2.0 times the pixels are allocated by Python on top of Pillow's own: the raw encoder's pieces, and the
# bytes that they are joined to. 270 MB for 90 MB. Taken in ten strips into an array made before, it is 1.2.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import sys
import tracemalloc

import numpy as np
from PIL import Image

picture = Image.new("RGB", (6000, 5000), (9, 99, 199))
size = 6000 * 5000 * 3


def in_strips(picture):
    pixels = np.empty((5000, 6000, 3), np.uint8)
    for top in range(0, 5000, 500):
        pixels[top : top + 500] = np.asarray(picture.crop((0, top, 6000, top + 500)))
    return pixels


def peak(convert):
    tracemalloc.start()
    pixels = convert(picture)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (pixels == (9, 99, 199)).all()
    return most / size


whole, strips = peak(np.asarray), peak(in_strips)
print(f"allocated beside Pillow's own pixels: {whole:.1f} times them, in strips {strips:.1f}")
assert strips < 1.3, "strips no longer help"
if whole < 1.5:
    sys.exit("changed: one copy at most")
PROGRAM
