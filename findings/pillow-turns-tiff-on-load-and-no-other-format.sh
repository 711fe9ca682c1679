#!/usr/bin/env bash
# Pillow turns a TIFF upright by its orientation tag while it loads it, and takes the tag away; it does neither
# for any other format.
# Pillow 13.0.0.
# Expected: one rule for all formats: the pixels as stored, and the tag for whoever wants to turn them
# (ImageOps.exif_transpose).
# Seen: a picture of 40 x 20 with orientation 6 is opened as 20 x 40 from a TIFF, already before its pixels are
# there, and as 40 x 20 from JPEG, PNG, WebP and AVIF. Code that swaps width and height by the tag gets every
# TIFF wrong: before load() the tag still says 6 beside a size that is turned already.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import io
import sys

from PIL import Image

ORIENTATION = 0x0112
seen = {}
for kind in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF"):
    written = io.BytesIO()
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.new("RGB", (40, 20)).save(written, kind, exif=exif)
    written.seek(0)
    picture = Image.open(written)
    opened = picture.size, picture.getexif().get(ORIENTATION)
    picture.load()
    seen[kind] = *opened, picture.size, picture.getexif().get(ORIENTATION)
    print(f"{kind:5} opened: {opened[0]}, tag {opened[1]}; loaded: {seen[kind][2]}, tag {seen[kind][3]}")
tiff = seen.pop("TIFF")
assert set(seen.values()) == {((40, 20), 6, (40, 20), 6)}, "another format than TIFF changed"
if tiff == ((40, 20), 6, (40, 20), 6):
    sys.exit("changed: TIFF is as the others are")
assert tiff == ((20, 40), 6, (20, 40), None), "TIFF changed"
PROGRAM
