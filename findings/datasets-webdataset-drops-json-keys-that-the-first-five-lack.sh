#!/usr/bin/env bash
# The webdataset builder of datasets takes the keys of .json members from the first five samples of a set; keys that
# only later samples have are dropped without a word, nested ones too, whether streamed or not.
# datasets 5.2.0, pyarrow 26.0.1.
# Expected: later samples with all their keys, or an error, as for a column whose type changes.
# Seen: of {"caption": ..., "licence": "CC0", "scores": {"agreement": 0.3}} in the sixth sample the caption is left,
# and scores is {"quality": None}, a key that this sample has not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 pyarrow==26.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import io
import json
import os
import sys
import tarfile

os.environ.update(HF_HUB_OFFLINE="1", HF_HOME="home")
import datasets

datasets.disable_progress_bars()
early = {"caption": "a red square", "scores": {"quality": 0.9}}
late = {"caption": "a blue square", "licence": "CC0", "scores": {"agreement": 0.3}}
with tarfile.open("set.tar", "w") as tar:
    for number, facts in enumerate([early] * 5 + [late]):
        body = json.dumps(facts).encode()
        member = tarfile.TarInfo(f"{number:04}.json")
        member.size = len(body)
        tar.addfile(member, io.BytesIO(body))
for streaming in (True, False):
    rows = [*datasets.load_dataset("webdataset", data_files="set.tar", split="train", streaming=streaming)]
    print("streamed" if streaming else "loaded", rows[-1]["json"])
    if rows[-1]["json"] != {"caption": "a blue square", "scores": {"quality": None}}:
        sys.exit("changed: the sixth sample is read otherwise")
PROGRAM
