#!/usr/bin/env bash
# A metadata.jsonl beside train/ and test/ is passed over by Hugging Face's imagefolder, and the captions with
# it.
# datasets 5.2.0, Pillow 13.0.0.
# Expected: the table's file_name column says train/0.png, the table lies in data_dir, so its captions are those
# of the pictures; or a word that it was not used.
# Seen: rows with an image alone, no caption, no warning. Inside train/ the same table gives the captions; and
# in a folder without splits, a table above subfolders is used.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 pillow==13.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import json
import os
import pathlib
import sys

os.environ.update(HF_HUB_OFFLINE="1", HF_HOME="home")
import datasets
from PIL import Image

datasets.disable_progress_bars()


def columns(root, folder, table_in):
    pathlib.Path(root, folder).mkdir(parents=True)
    for number in range(2):
        Image.new("RGB", (8, 8)).save(f"{root}/{folder}/{number}.png")
    table = pathlib.Path(root, table_in, "metadata.jsonl")
    above = os.path.relpath(pathlib.Path(root, folder), table.parent)
    rows = [{"file_name": os.path.normpath(f"{above}/{number}.png"), "text": f"words {number}"} for number in range(2)]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return sorted(datasets.load_dataset("imagefolder", data_dir=root)["train"].features)


inside = columns("inside", "train", "train")
above = columns("above", "train", ".")
no_split = columns("nosplit", "pictures", ".")
print("table in train/:", inside, "above train/:", above, "above pictures/:", no_split)
assert inside == ["image", "text"] and no_split == ["image", "text"], "tables that were used are not any more"
if "text" in above:
    sys.exit("changed: a table above the splits is used")
assert above == ["image"]
PROGRAM
