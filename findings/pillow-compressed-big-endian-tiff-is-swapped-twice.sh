#!/usr/bin/env bash
# Pillow swaps the bytes of signed and floating-point grey TIFFs twice where they are big-endian and compressed.
# Pillow 13.0.0, tifffile 2026.3.3 (which writes the files, and reads them rightly), NumPy 2.4.6.
# Expected: the byte order is the file's affair, and the numbers come out as they went in, as they do without
# compression and in little-endian.
# Seen: no error and no warning; [0, .25, .5, 1] in float32 comes out as [0, 4.6e-41, 8.8e-44, 4.6e-41], and
# [-100, 0, 100, 32767] in int16 as [-25345, 0, 25600, -129]. Unsigned 16 bits are right.
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


def through_pillow(row, order, compression):
    written = io.BytesIO()
    grey = np.tile(row, (4, 1))
    tifffile.imwrite(written, grey, byteorder=order, compression=compression, photometric="minisblack")
    written.seek(0)
    assert np.array_equal(tifffile.imread(written), grey), "tifffile does not read what it wrote"
    written.seek(0)
    return np.asarray(Image.open(written))[0]


rows = {
    "float32": np.array([0, 0.25, 0.5, 1], np.float32),
    "int16": np.array([-100, 0, 100, 32767], np.int16),
}
for kind, row in rows.items():
    for order, compression in ((">", None), ("<", "zlib")):
        assert np.array_equal(through_pillow(row, order, compression), row), f"{kind} {order} {compression} changed"
    came = through_pillow(row, ">", "zlib")
    print(kind, "in:", row, "big-endian and compressed, out:", came)
    if np.array_equal(came, row):
        sys.exit(f"changed: {kind} comes out right")
    assert np.array_equal(came.astype(row.dtype).byteswap(), row), "not what it was: no longer the bytes in reverse"
unsigned = np.array([0, 1, 256, 65535], np.uint16)
assert np.array_equal(through_pillow(unsigned, ">", "zlib"), unsigned)
PROGRAM
