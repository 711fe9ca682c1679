#!/usr/bin/env bash
# Asking a PNG for its EXIF decodes all its pixels, even where it has none; other formats read a header.
# Pillow 13.0.0.
# Expected: Image.open is lazy, and so is getexif(): a listing of dates or orientations reads headers.
# Seen: for a PNG without EXIF getexif() reads the whole file (3,005,247 bytes of it) and leaves the picture
# loaded. JPEG, TIFF, GIF and BMP stay below 1,000 bytes; so does a PNG whose EXIF comes before its pixels. The
# chunk may come after them, so that its absence is known at the end of the file only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import io
import random
import sys

from PIL import Image


class Counted(io.BytesIO):
    count = 0

    def read(self, *size):
        content = super().read(*size)
        self.count += len(content)
        return content


noise = Image.frombytes("RGB", (1000, 1000), random.Random(0).randbytes(3_000_000))


def read_for_exif(kind, **options):
    content = io.BytesIO()
    noise.save(content, kind, **options)
    file = Counted(content.getvalue())
    Image.open(file).getexif()
    return file.count, len(content.getvalue())


exif = Image.Exif()
exif[0x0112] = 6
counts = {kind: read_for_exif(kind) for kind in ("PNG", "JPEG", "TIFF", "GIF", "BMP")}
counts["PNG with EXIF"] = read_for_exif("PNG", exif=exif)
for kind, (count, size) in counts.items():
    print(f"{kind}: {count:,} bytes read of {size:,}")
png, size = counts.pop("PNG")
assert all(count < 2000 for count, _ in counts.values()), "another format reads more than its header"
if png < size:
    sys.exit("changed: a PNG is asked for its EXIF without its pixels")
PROGRAM
