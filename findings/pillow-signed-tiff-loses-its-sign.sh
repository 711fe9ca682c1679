#!/usr/bin/env bash
# Pillow reads a TIFF of signed bytes as unsigned, and one of unsigned 32 bits as signed.
# Pillow 13.0.0, tifffile 2026.3.3, NumPy 2.4.6.
# Expected: -3 is -3, or the file is refused, as float64 is: it says the kind of its numbers (SampleFormat) itself.
# 16 and 32 signed bits are read as they are.
# Seen: -3 in 8 bits is 253 (white, near enough), mode L; 4,000,000,000 in 32 bits is -294,967,296, mode I. Maps of
# depth, of labels and of differences are of such kinds. tifffile reads back what it wrote.
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


def read(value, kind):
    content = io.BytesIO()
    tifffile.imwrite(content, np.full((8, 8), value, kind))
    assert tifffile.imread(io.BytesIO(content.getvalue()))[0, 0] == value
    picture = Image.open(io.BytesIO(content.getvalue()))
    return picture.mode, picture.getpixel((0, 0))


byte, large = read(-3, np.int8), read(4_000_000_000, np.uint32)
print("-3 of 8 bits:", *byte, "4,000,000,000 of 32 bits:", *large)
assert read(-3, np.int16) == read(-3, np.int32) == ("I", -3), "other signed numbers changed"
if byte[1] == -3 and large[1] == 4_000_000_000:
    sys.exit("changed: numbers are of the kind that the file says")
assert byte == ("L", 253) and large == ("I", -294_967_296)
PROGRAM
