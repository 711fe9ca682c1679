#!/usr/bin/env bash
# FFmpeg's own decoder of VP9, which PyAV takes by itself, drops the transparency of a WebM; libvpx's decoder in
# the same package has it.
# PyAV 18.1.0, NumPy 2.4.6.
# Expected: a transparent film (alpha_mode 1 in the file) decodes to frames with alpha, as it does in browsers.
# Seen: yuv420p frames whose hidden colour (red here) covers everything; alpha_mode stands in the stream's
# metadata, no warning. The codec "libvpx-vp9" opened by name gives yuva420p with alpha 0.
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

pixels = np.zeros((64, 64, 4), np.uint8)
pixels[:] = 255, 0, 0, 0  # red that nobody sees
pixels[16:48, 16:48] = 0, 0, 255, 255
with av.open("film.webm", "w") as film:
    stream = film.add_stream("libvpx-vp9", rate=5)
    stream.width, stream.height, stream.pix_fmt = 64, 64, "yuva420p"
    for number in range(3):
        frame = av.VideoFrame.from_ndarray(pixels, format="rgba").reformat(format="yuva420p")
        frame.pts = number
        film.mux(stream.encode(frame))
    film.mux(stream.encode())


def first(decoder):
    with av.open("film.webm") as film:
        assert film.streams.video[0].metadata["alpha_mode"] == "1", "the file does not say that it has alpha"
        for packet in film.demux(video=0):
            for frame in decoder.decode(packet) if decoder else packet.decode():
                return frame.format.name, frame.to_ndarray(format="rgba")[2, 2].tolist()


by_itself, by_libvpx = first(None), first(av.CodecContext.create("libvpx-vp9", "r"))
print("PyAV's choice:", by_itself, "libvpx:", by_libvpx)
assert by_libvpx[0] == "yuva420p" and by_libvpx[1][3] == 0, "libvpx changed"
if by_itself[0] == "yuva420p":
    sys.exit("changed: the decoder taken by itself keeps alpha")
assert by_itself[0] == "yuv420p" and by_itself[1][0] > 240 and by_itself[1][3] == 255
PROGRAM
