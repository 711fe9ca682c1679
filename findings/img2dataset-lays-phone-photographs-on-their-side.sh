#!/usr/bin/env bash
# img2dataset stores photographs as the sensor saw them and throws away the tag that says which side is up.
# img2dataset 1.47.0, opencv-python-headless 4.14.0.94, albumentations 1.4.24, Pillow
# 13.0.0, NumPy 2.4.6.
# Expected: upright pixels, or the tag kept beside them.
# Seen: its Resizer decodes with OpenCV's IMREAD_UNCHANGED, which turns nothing, and encodes again without EXIF:
# a portrait (400 x 200 with orientation 6) comes out lying, and nothing downstream can know.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet img2dataset==1.47.0 opencv-python-headless==4.14.0.94 albumentations==1.4.24 pandas==2.3.3 webdataset==0.2.111 pyarrow==26.0.1 numpy==2.4.6 pillow==13.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import io
import sys

from img2dataset.resizer import Resizer
from PIL import Image, ImageOps

exif = Image.Exif()
exif[0x0112] = 6
written = io.BytesIO()
Image.new("RGB", (400, 200), "red").save(written, "JPEG", exif=exif)
upright = ImageOps.exif_transpose(Image.open(written)).size
written.seek(0)
resizer = Resizer(image_size=100, resize_mode="keep_ratio", resize_only_if_bigger=False)
stored, *sizes, error = resizer(written)
assert error is None, error
picture = Image.open(io.BytesIO(stored))
print("upright:", upright, "stored:", picture.size, "EXIF:", dict(picture.getexif()), "sizes told:", sizes)
if picture.size == (100, 200) or picture.getexif().get(0x0112) == 6:
    sys.exit("changed: it is upright, or can be turned upright")
assert upright == (200, 400) and picture.size == (200, 100) and not picture.getexif()
PROGRAM
