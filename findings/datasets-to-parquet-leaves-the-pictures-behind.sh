#!/usr/bin/env bash
# Dataset.to_parquet of pictures that lie in files writes their paths and no pictures.
# datasets 5.2.0, pyarrow 26.0.1, Pillow 13.0.0.
# Expected: a Parquet file with the pictures in it; its Image column has a field for their bytes, and
# push_to_hub fills that.
# Seen: bytes is null and path is the one that was given; the Parquet file is useless as soon as it or the
# pictures are moved, which shows only when it is read there.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 pyarrow==26.0.1 pillow==13.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import os
import sys

os.environ.update(HF_HUB_OFFLINE="1", HF_HOME="home")
import datasets
import pyarrow.parquet
from PIL import Image

datasets.disable_progress_bars()
Image.new("RGB", (8, 8), "red").save("red.png")
rows = datasets.Dataset.from_dict({"image": ["red.png"]}).cast_column("image", datasets.Image())
assert rows[0]["image"].getpixel((0, 0)) == (255, 0, 0)
rows.to_parquet("rows.parquet")
written = pyarrow.parquet.read_table("rows.parquet").to_pylist()[0]["image"]
print("written:", written)
if written["bytes"] is not None:
    sys.exit("changed: the pictures are in the file")
os.rename("red.png", "moved.png")
again = datasets.Dataset.from_parquet("rows.parquet")
try:
    again[0]
except OSError as error:
    print("after the picture was moved:", type(error).__name__)
else:
    sys.exit("changed: it opens without the picture")
PROGRAM
