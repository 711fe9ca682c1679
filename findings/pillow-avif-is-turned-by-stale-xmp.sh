#!/usr/bin/env bash
# An AVIF whose EXIF says "upright" is turned by Pillow if its XMP still says otherwise; a JPEG and a WebP with
# the same two are not.
# Pillow 13.0.0, pyexiv2 2.15.5 (which writes the XMP).
# Expected: EXIF's Orientation 1 wins over XMP's tiff:Orientation, as in the other formats. Programs that turn
# pixels and set EXIF to 1 often leave the XMP as it was.
# Seen: Pillow drops an Orientation of 1 when it writes AVIF (upright is what a file without irot and imir is),
# then finds none when it reads, and takes the one in XMP: ImageOps.exif_transpose makes 20 x 40 of a picture of
# 40 x 20.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0 pyexiv2==2.15.5
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import io
import sys

import pyexiv2
from PIL import Image, ImageOps

ORIENTATION = 0x0112
picture = Image.new("RGB", (40, 20))
written = io.BytesIO()
picture.save(written, "JPEG")
with pyexiv2.ImageData(written.getvalue()) as tagged:
    tagged.modify_xmp({"Xmp.tiff.Orientation": "6"})
    xmp = Image.open(io.BytesIO(tagged.get_bytes())).info["xmp"]
exif = Image.Exif()
exif[ORIENTATION] = 1
shown = {}
for kind in ("JPEG", "WEBP", "AVIF"):
    written = io.BytesIO()
    picture.save(written, kind, exif=exif, xmp=xmp)
    written.seek(0)
    again = Image.open(written)
    shown[kind] = ImageOps.exif_transpose(again).size
    print(kind, "orientation:", again.getexif().get(ORIENTATION), "turned upright:", shown[kind])
assert shown["JPEG"] == shown["WEBP"] == (40, 20), "JPEG or WebP changed"
if shown["AVIF"] == (40, 20):
    sys.exit("changed: AVIF is as the others are")
assert shown["AVIF"] == (20, 40)
PROGRAM
