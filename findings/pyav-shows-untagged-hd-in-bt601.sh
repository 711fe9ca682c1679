#!/usr/bin/env bash
# FFmpeg's conversion, as PyAV and OpenCV call it, shows a film in high definition whose matrix is not named by
# BT.601, where players go by its size and take BT.709.
# PyAV 18.1.0, opencv-python-headless 5.0.0.93, NumPy 2.4.6.
# Expected: 1280 x 720 without a tag is BT.709, as players guess: most HD films without one are.
# Seen: pure red coded by BT.709 comes out as (232, 0, 1), by both libraries, at 1280 x 720 as at 320 x 240;
# with the tag it is (254, 0, 0).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==18.1.0 opencv-python-headless==5.0.0.93 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import sys

import av
import cv2

RED_BY_BT709 = (63, 102, 240)  # Y, Cb, Cr in limited range
BT709, LIMITED = 1, 1


def first_pixels(width, height, tagged):
    with av.open("film.mkv", "w") as film:
        stream = film.add_stream("ffv1", rate=5)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        frame = av.VideoFrame(width, height, "yuv420p")
        for plane, value in zip(frame.planes, RED_BY_BT709):
            plane.update(bytes([value]) * plane.buffer_size)
        if tagged:
            stream.codec_context.colorspace, stream.codec_context.color_range = BT709, LIMITED
            frame.colorspace, frame.color_range = BT709, LIMITED
        frame.pts = 0
        film.mux(stream.encode(frame))
        film.mux(stream.encode())
    with av.open("film.mkv") as film:
        by_pyav = next(film.decode(video=0)).to_ndarray(format="rgb24")[8, 8].tolist()
    opened = cv2.VideoCapture("film.mkv", cv2.CAP_FFMPEG)
    by_opencv = opened.read()[1][8, 8, ::-1].tolist()
    return by_pyav, by_opencv


tagged = first_pixels(1280, 720, True)
large, small = first_pixels(1280, 720, False), first_pixels(320, 240, False)
print("PyAV and OpenCV: tagged HD", tagged, "untagged HD", large, "untagged SD", small)
assert all(red > 250 and green < 5 and blue < 5 for red, green, blue in tagged), "tagged films changed"
if any(red > 250 for red, _, _ in large):
    sys.exit("changed: high definition without a tag is BT.709 for one of both")
assert large == small == ([232, 0, 1], [232, 0, 1]), "other colours than before"
PROGRAM
