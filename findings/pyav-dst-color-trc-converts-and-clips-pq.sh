#!/usr/bin/env bash
# PyAV's reformat(dst_color_trc=...) is documented as a tag that leaves the pixels alone; for a PQ film it
# converts them, and clips all that is lighter than white paper.
# PyAV 18.1.0, NumPy 2.4.6.
# Expected: by its documentation, the pixels of a call without it; or, taken for a conversion, a picture in
# which highlights of 400 and 4,000 cd/m2 are still told apart.
# Seen: grey patches of 100, 203, 400 and 4,000 cd/m2 are 127, 146, 165 and 229 without dst_color_trc, and 185,
# 253, 255 and 255 with it (sRGB).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==18.1.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import sys

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorTrc

BT2020, LIMITED = 9, 1


def coded(light):
    """SMPTE ST 2084: from cd/m2 to 0..1."""
    power = (light / 10_000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def patch(light):
    frame = av.VideoFrame(64, 64, "yuv420p10le")
    for plane, value in zip(frame.planes, (round(64 + 876 * coded(light)), 512, 512)):
        plane.update(np.full(plane.buffer_size // 2, value, "<u2").tobytes())
    frame.colorspace, frame.color_range = BT2020, LIMITED
    frame.color_trc, frame.color_primaries = ColorTrc.SMPTE2084, ColorPrimaries.BT2020
    return frame


def level(frame):
    return int(frame.to_ndarray()[8, 8, 0])


lights = (100, 203, 400, 4000)
plain = [level(patch(light).reformat(format="rgb24")) for light in lights]
srgb = dict(dst_color_trc=ColorTrc.IEC61966_2_1, dst_color_primaries=ColorPrimaries.BT709)
tagged = [level(patch(light).reformat(format="rgb24", **srgb)) for light in lights]
print("cd/m2:", lights, "without:", plain, "with dst_color_trc:", tagged)
if tagged == plain:
    sys.exit("changed: it is a tag alone")
if tagged[2] < tagged[3]:
    sys.exit("changed: highlights are told apart")
assert plain == [127, 146, 165, 229] and tagged == [185, 253, 255, 255], "other numbers than before"
PROGRAM
