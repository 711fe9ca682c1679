#!/usr/bin/env bash
# Pictures that differ after their first dot become one sample in WebDataset.
# webdataset 1.0.2.
# Expected: IMG.1.jpg with IMG.1.txt and IMG.2.jpg with IMG.2.txt are two samples with a jpg and a txt each: the
# type is what follows the last dot.
# Seen: one sample "IMG" with the columns 1.jpg, 1.txt, 2.jpg and 2.txt, no jpg and no txt; whoever asks for
# those gets nothing or passes it over. File names of cameras and of dates (2024.05.01-beach.jpg) are of this
# kind.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet webdataset==1.0.2 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import io
import sys
import tarfile

import webdataset

with tarfile.open("shard.tar", "w") as shard:
    for name in ("IMG.1.jpg", "IMG.1.txt", "IMG.2.jpg", "IMG.2.txt"):
        member = tarfile.TarInfo(name)
        member.size = 1
        shard.addfile(member, io.BytesIO(b"x"))
samples = list(webdataset.WebDataset("shard.tar", shardshuffle=False))
columns = [sorted(name for name in sample if not name.startswith("__")) for sample in samples]
print(len(samples), "sample:", samples[0]["__key__"], columns)
if len(samples) == 2:
    sys.exit("changed: they are two samples")
assert columns == [["1.jpg", "1.txt", "2.jpg", "2.txt"]]
PROGRAM
