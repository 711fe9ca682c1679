#!/usr/bin/env bash
# FFmpeg's max_pixels refuses an H.264 film whose frames have exactly that many pixels, because it counts the
# padding that it adds.
# PyAV 18.1.0 (FFmpeg 8.1.2).
# Expected: max_pixels is "the maximum number of pixels", so 1080 x 1920 lets an upright film of a telephone pass,
# as it lets the same film lying pass.
# Seen: 1920 x 1080 passes with max_pixels=2073600, 1080 x 1920 is refused ("Invalid data found"), and passes with
# 1088 x 1920: the width is rounded up before the check, to 64 in this build. 640 x 480 passes and 854 x 480 does
# not. AV1, by dav1d, is counted as it is: both pass.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==18.1.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import io
import logging
import sys

import av
import numpy as np

logging.getLogger("libav").setLevel(logging.CRITICAL)


def film(codec, width, height):
    content = io.BytesIO()
    with av.open(content, "w", format="matroska") as container:
        stream = container.add_stream(codec, rate=5)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        picture = np.full((height, width, 3), 99, np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return content.getvalue()


def passes(content, limit):
    with av.open(io.BytesIO(content)) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"max_pixels": str(limit)}
        try:
            return len(list(container.decode(stream))) == 1
        except (av.error.InvalidDataError, av.error.ArgumentError):
            return False


shown = {}
for codec in ("libx264", "libsvtav1"):
    for width, height in ((640, 480), (1920, 1080), (854, 480), (1080, 1920)):
        content = film(codec, width, height)
        shown[codec, width] = passes(content, width * height)
        print(codec, width, "x", height, "passes with its number of pixels:", shown[codec, width])
        assert passes(content, -(-width // 64) * 64 * height), "it is refused with the padding counted, too"
        assert not passes(content, width * height - 1), "max_pixels is no limit"
assert shown["libx264", 640] and shown["libx264", 1920] and shown["libsvtav1", 854] and shown["libsvtav1", 1080]
if shown["libx264", 854] or shown["libx264", 1080]:
    sys.exit("changed: pixels are counted without the padding")
PROGRAM
