#!/usr/bin/env bash
# F.interpolate(mode="bicubic") enlarges to other numbers with antialias=True, where there is nothing to smooth.
# torch 2.13.0, NumPy 2.4.6.
# Expected: antialias matters when a picture gets smaller; enlarging is the same with and without, as it is for
# bilinear.
# Seen: another cubic is used, with a = -0.5 (as in Pillow) in place of -0.75 (as in OpenCV). Libraries that fit
# a ViT's position table to more patches differ by it: some smooth, some do not, and the same weights give other
# vectors.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import sys

import torch
import torch.nn.functional as F

torch.manual_seed(0)
table = torch.randn(1, 8, 7, 7)


def apart(mode):
    plain, smooth = (F.interpolate(table, size=(16, 16), mode=mode, antialias=anti) for anti in (False, True))
    return (plain - smooth).abs().max().item()


bilinear, bicubic = apart("bilinear"), apart("bicubic")
print("with and without antialias, 7 x 7 to 16 x 16, largest difference: bilinear", bilinear, "bicubic", bicubic)
assert bilinear < 1e-5, "bilinear changed"
if bicubic < 1e-3:
    sys.exit("changed: both use the same cubic")
line = torch.tensor([0.0, 0, 1, 0, 0, 0])[None, None, None].expand(1, 1, 4, 6)
for anti, a in ((False, -0.75), (True, -0.5)):
    middle = F.interpolate(line, size=(4, 12), mode="bicubic", antialias=anti)[0, 0, 2]
    t = 1.25  # from the third pixel to the centre of the eighth of twelve
    weight = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    print("antialias", anti, "weight at 1.25 pixels:", middle[7].item(), "by a =", a, weight)
    assert abs(middle[7].item() - weight) < 1e-5, f"a is not {a} any more"
PROGRAM
