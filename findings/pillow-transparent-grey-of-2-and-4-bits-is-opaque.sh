#!/usr/bin/env bash
# Pillow scales the pixels of a grey PNG of 2 or 4 bits to 0..255, and leaves the grey that its tRNS chunk names
# transparent as it was.
# Pillow 13.0.0.
# Expected: pixels of the grey that the chunk names are transparent at every depth.
# Seen: at 1 and 8 bits they are; at 2 and 4 the transparent grey 1 is looked for among 85s and 17s, so the
# ground is opaque, and other greys may be cleared.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import io
import struct
import sys
import zlib

from PIL import Image


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_of_ones(depth, side=8):
    line = b"\0" + int(f"{1:0{depth}b}" * side, 2).to_bytes(depth * side // 8, "big")
    header = struct.pack(">IIBBBBB", side, side, depth, 0, 0, 0, 0)
    parts = (b"IHDR", header), (b"tRNS", struct.pack(">H", 1)), (b"IDAT", zlib.compress(line * side)), (b"IEND", b"")
    return bytes.fromhex("89504e470d0a1a0a") + b"".join(chunk(*part) for part in parts)


alpha = {}
for depth in (1, 2, 4, 8):
    picture = Image.open(io.BytesIO(png_of_ones(depth)))
    alpha[depth] = picture.convert("RGBA").getpixel((0, 0))[3]
    print(depth, "bits:", picture.mode, "pixel", picture.getpixel((0, 0)), "alpha", alpha[depth])
assert alpha[1] == alpha[8] == 0, "1 or 8 bits changed"
if alpha[2] == alpha[4] == 0:
    sys.exit("changed: 2 and 4 bits are transparent, too")
assert alpha[2] == alpha[4] == 255, "one of 2 and 4 bits changed"
PROGRAM
