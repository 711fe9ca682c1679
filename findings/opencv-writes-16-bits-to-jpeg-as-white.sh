#!/usr/bin/env bash
# OpenCV divides by 256 where it reads 16 bits as 8, and clips where it writes 16 bits as 8.
# opencv-python-headless 5.0.0.93, NumPy 2.4.6.
# Expected: imwrite("picture.jpg", ...) of a 16-bit picture looks as imread of the same picture's 16-bit PNG does.
# Seen: a dark grey of 10,000 of 65,535 is 39 of 255 by PNG and imread, and white, 255, by JPEG: all above 255
# is. imwrite returns True; a line of its log says that it falls back to 8 bits.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet opencv-python-headless==5.0.0.93 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import sys

import cv2
import numpy as np

dark = np.full((16, 16, 3), 10_000, np.uint16)
assert cv2.imwrite("dark.png", dark) and cv2.imwrite("dark.jpg", dark)
png, jpeg = int(cv2.imread("dark.png")[0, 0, 0]), int(cv2.imread("dark.jpg")[0, 0, 0])
print("by PNG", png, "by JPEG", jpeg)
assert png == 39, "reading changed"
if abs(jpeg - png) < 3:
    sys.exit("changed: both scale")
assert jpeg == 255
PROGRAM
