#!/usr/bin/env bash
# A class called "train" (the vehicle) makes Hugging Face's imagefolder drop all other classes; one picture
# called crash-test does the same to all others.
# datasets 5.2.0, Pillow 13.0.0.
# Expected: three class folders are three labels. A folder of trains is no split where its neighbours are bus
# and tram.
# Seen: {bus,tram,train}/*.png is one split "train" of the three pictures of trains, without a label;
# {bus,car,tram}/*.png with a car/crash-test.png is one split "test" of that one picture. No warning.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 pillow==13.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import os
import pathlib
import sys

os.environ.update(HF_HUB_OFFLINE="1", HF_HOME="home")
import datasets
from PIL import Image

datasets.disable_progress_bars()


def loaded(root, *names):
    for name in names:
        path = pathlib.Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    found = datasets.load_dataset("imagefolder", data_dir=root)
    return {split: (len(rows), sorted(rows.features)) for split, rows in found.items()}


def pictures(*kinds):
    return [f"{kind}/{number}.png" for kind in kinds for number in range(3)]


plain = loaded("plain", *pictures("bus", "car", "tram"))
trains = loaded("trains", *pictures("bus", "tram", "train"))
crash = loaded("crash", *pictures("bus", "car", "tram"), "car/crash-test.png")
print("bus, car, tram:", plain)
print("bus, tram, train:", trains)
print("with crash-test.png:", crash)
assert plain == {"train": (9, ["image", "label"])}, "plain class folders changed"
if sum(rows for rows, _ in trains.values()) == 9 or sum(rows for rows, _ in crash.values()) == 10:
    sys.exit("changed: all pictures are loaded")
assert trains == {"train": (3, ["image"])} and crash == {"test": (1, ["image"])}
PROGRAM
