#!/usr/bin/env bash
# PyAV raises on films whose colour matrix is YCgCo, BT.2020 with constant luminance or ICtCp, where nearly
# right colours could be had.
# PyAV 18.1.0, NumPy 2.4.6.
# Expected: a picture, or a word about the matrix: H.273 lists all three (8, 10, 14), FFmpeg writes and reads
# their tags, and pixels are decoded.
# Seen: to_ndarray(format="rgb24") raises OSError 95, "Operation not supported", which names neither the matrix
# nor a way out. 1, 4, 5, 6, 7 and 9 are converted.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==18.1.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import sys

import av


def film_of(matrix):
    with av.open("film.mkv", "w") as film:
        stream = film.add_stream("ffv1", rate=5)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv444p"
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 1
        frame = av.VideoFrame(64, 64, "yuv444p")
        for plane, value in zip(frame.planes, (120, 100, 160)):
            plane.update(bytes([value]) * plane.buffer_size)
        frame.colorspace, frame.color_range, frame.pts = matrix, 1, 0
        film.mux(stream.encode(frame))
        film.mux(stream.encode())
    with av.open("film.mkv") as film:
        frame = next(film.decode(video=0))
    assert frame.colorspace == matrix, "the tag did not survive"
    return frame


for matrix in (1, 4, 5, 6, 7, 9):
    print(matrix, film_of(matrix).to_ndarray(format="rgb24")[3, 3])
for matrix in (8, 10, 14):
    try:
        film_of(matrix).to_ndarray(format="rgb24")
    except OSError as error:
        print(matrix, repr(error))
        assert error.errno == 95, "another error than before"
    else:
        sys.exit(f"changed: matrix {matrix} is converted")
PROGRAM
