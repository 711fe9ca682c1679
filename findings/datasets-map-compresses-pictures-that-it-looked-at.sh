#!/usr/bin/env bash
# A map() that only looks at pictures writes them again, as JPEG of quality 75, or without their animation.
# datasets 5.2.0, Pillow 13.0.0.
# Expected: map(lambda row: {"width": row["image"].width}) adds a column and keeps the bytes of the others, as it
# does where the function does not look, returns the row itself, or belongs to filter().
# Seen: what was decoded for the function is encoded for the new table: a JPEG of quality 95 has other bytes, about
# half as many, and other pixels; of an animated WebP the first picture is left. Image(decode=False) keeps them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 pillow==13.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import io
import os
import random
import sys

os.environ.update(HF_DATASETS_OFFLINE="1", HF_HOME=os.path.abspath("home"), HF_DATASETS_DISABLE_PROGRESS_BARS="1")
import datasets
from PIL import Image


def dataset(picture, kind, **options):
    content = io.BytesIO()
    picture.save(content, kind, **options)
    features = datasets.Features({"image": datasets.Image(), "number": datasets.Value("int64")})
    rows = {"image": [{"bytes": content.getvalue(), "path": None}], "number": [1]}
    return datasets.Dataset.from_dict(rows, features=features)


def stored(rows):
    return rows.cast_column("image", datasets.Image(decode=False))[0]["image"]["bytes"]


noise = Image.frombytes("RGB", (64, 64), random.Random(0).randbytes(64 * 64 * 3))
photograph = dataset(noise, "JPEG", quality=95)
film = dataset(Image.new("RGB", (8, 8), "red"), "WEBP", save_all=True, append_images=[Image.new("RGB", (8, 8))])
before = stored(photograph)
looked = stored(photograph.map(lambda row: {"width": row["image"].width}))
still = Image.open(io.BytesIO(stored(film.map(lambda row: {"width": row["image"].width}))))
print("JPEG before", len(before), "after", len(looked), "bytes; pictures of the animation left:", still.n_frames)
assert stored(photograph.map(lambda row: {"next": row["number"] + 1})) == before
assert stored(photograph.filter(lambda row: row["image"].width == 64)) == before
assert Image.open(io.BytesIO(stored(film))).n_frames == 2
if looked == before:
    sys.exit("changed: looking keeps the bytes")
assert len(looked) < len(before) and still.n_frames == 1
PROGRAM
