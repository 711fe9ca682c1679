#!/usr/bin/env bash
# Pillow shortens JPEG 2000 of 16 bits a sample to 8 with rounding that runs over: the lightest 128 of 65,536
# values become 0.
# Pillow 13.0.0 (its OpenJPEG is 2.5.4), imagecodecs 2026.3.6 (which writes the file without loss), NumPy 2.4.6.
# Expected: 65535 becomes 255, and no larger number a darker pixel than a smaller one.
# Seen: [0, 32768, 65279, 65407, 65408, 65535] becomes [0, 128, 255, 255, 0, 0]; white skies come out black,
# without an error.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0 imagecodecs==2026.3.6 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import io
import sys

import imagecodecs
import numpy as np
from PIL import Image

values = np.array([0, 32768, 65279, 65407, 65408, 65535], np.uint16)
stored = np.repeat(np.repeat(np.tile(values, (8, 1))[..., None], 3, axis=2), 8, axis=1)
coded = imagecodecs.jpeg2k_encode(stored, level=0, reversible=True)
assert np.array_equal(imagecodecs.jpeg2k_decode(coded), stored), "the file is not without loss"
picture = Image.open(io.BytesIO(coded))
came = np.asarray(picture)[4, 4::8, 0].tolist()
print(picture.mode, "in:", values.tolist(), "out:", came)
if came == sorted(came):
    sys.exit("changed: lighter is lighter now")
assert picture.mode == "RGB" and came == [0, 128, 255, 255, 0, 0], "other numbers than before"
PROGRAM
