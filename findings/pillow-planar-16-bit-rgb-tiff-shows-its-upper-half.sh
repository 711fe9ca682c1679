#!/usr/bin/env bash
# Pillow reads an uncompressed 16-bit RGB TIFF whose planes are stored one after another as if it had 8 bits.
# Pillow 13.0.0, tifffile 2026.3.3 (which writes the file, and reads it rightly), NumPy 2.4.6.
# Expected: the picture (16 bits shortened to 8, as Pillow does where the samples are interleaved), or an error.
# Seen: mode RGB, the right size, no error; every byte is taken for a pixel, so that the upper half fills the
# whole: a picture that is black above and white below comes out all black.
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

stored = np.zeros((32, 32, 3), np.uint16)
stored[16:] = 65535


def through_pillow(pixels, planes):
    written = io.BytesIO()
    tifffile.imwrite(written, pixels, photometric="rgb", planarconfig=planes)
    written.seek(0)
    picture = Image.open(written)
    assert (picture.mode, picture.size) == ("RGB", (32, 32)), "mode or size changed"
    return picture.getpixel((5, 5)), picture.getpixel((5, 28))


chunky = through_pillow(stored, "contig")
planar = through_pillow(np.ascontiguousarray(stored.transpose(2, 0, 1)), "separate")
print("above and below, interleaved:", chunky, "in planes:", planar)
assert chunky == ((0, 0, 0), (255, 255, 255)), "interleaved samples changed"
if planar == chunky:
    sys.exit("changed: planes of 16 bits are read rightly")
assert planar == ((0, 0, 0), (0, 0, 0)), "another wrong picture than before"
PROGRAM
