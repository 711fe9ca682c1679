#!/usr/bin/env bash
# pillow-jxl-plugin saves a JPEG that was painted over or made smaller as it was before.
# pillow-jxl-plugin 1.3.8, Pillow 13.0.0.
# Expected: save("picture.jxl") writes the pixels that the picture has, as for every other format.
# Seen: of a picture opened from a JPEG file the file is read again and packed without loss, so thumbnail() and
# paste() are undone: 64 x 48 for 16 x 12, and what was covered is there. A warning tells of "JPEG
# reconstruction". With lossless_jpeg=False, or of a copy (resize, rotate, copy), the pixels are those shown.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow-jxl-plugin==1.3.8 pillow==13.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import io
import sys
import warnings

import pillow_jxl
from PIL import Image

assert pillow_jxl
warnings.simplefilter("ignore")
Image.new("RGB", (64, 48), "blue").save("photograph.jpg")


def saved(picture, **options):
    content = io.BytesIO()
    picture.save(content, "JXL", **options)
    return Image.open(io.BytesIO(content.getvalue())).convert("RGB")


small, covered = Image.open("photograph.jpg"), Image.open("photograph.jpg")
small.thumbnail((16, 16))
covered.paste("red", (0, 0, 64, 48))
shown = saved(small).size, saved(covered).getpixel((9, 9))
print("made 16 x 12, saved", *shown[0], "painted red, saved", shown[1])
copies = (small.copy(), covered.copy(), {})
for thumbnail, paint, options in (copies, (small, covered, {"lossless_jpeg": False})):
    assert saved(thumbnail, **options).size == (16, 12), "the way around it changed"
    assert saved(paint, **options).getpixel((9, 9))[0] > 200, "the way around it changed"
if shown[0] == (16, 12) and shown[1][0] > 200:
    sys.exit("changed: the pixels are those shown")
assert shown[0] == (64, 48)
assert shown[1][0] < 50 and shown[1][2] > 200
PROGRAM
