#!/usr/bin/env bash
# pillow_heif writes a rotation into a HEIC when EXIF is given as bytes, and none when the same EXIF is given as
# Pillow's object.
# pillow_heif 1.8.1, Pillow 13.0.0.
# Expected: the same file from exif=exif and exif=exif.tobytes(); Pillow takes both everywhere, and getexif()
# hands out the object.
# Seen: from bytes the file has an irot property and opens as 20 x 40; from the object it has none and opens as
# 40 x 20, lying on its side, with the orientation reset to 1, so that exif_transpose has nothing left to do.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0 pillow_heif==1.8.1
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import io
import sys

import pillow_heif
from PIL import Image, ImageOps

pillow_heif.register_heif_opener()
exif = Image.Exif()
exif[0x0112] = 6
shown = {}
for kind, given in (("object", exif), ("bytes", exif.tobytes())):
    written = io.BytesIO()
    Image.new("RGB", (40, 20), "red").save(written, "HEIF", exif=given)
    has_rotation = b"irot" in written.getvalue()
    written.seek(0)
    picture = Image.open(written)
    shown[kind] = has_rotation, ImageOps.exif_transpose(picture).size
    print(kind, "irot:", has_rotation, "opened:", picture.size, "turned upright:", shown[kind][1],
          "orientation:", picture.getexif().get(0x0112), "original:", picture.info.get("original_orientation"))
assert shown["bytes"] == (True, (20, 40)), "EXIF as bytes changed"
if shown["object"] == shown["bytes"]:
    sys.exit("changed: the object is written as the bytes are")
assert shown["object"] == (False, (40, 20)), "EXIF as an object changed"
PROGRAM
